"""What a JSON object that is a whole file holds: one record, a list of records, records by id, or columns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from kamerton.data.data_file import DataFile
from kamerton.data.read.columns.converted import converted_rows
from kamerton.data.read.json.shape import (
    are_columns,
    has_usual_name,
    is_numbered,
    is_record,
    is_scalar,
    known_names,
    path_steps,
    record_paths,
)
from kamerton.data.read.json.stream import JsonStream
from kamerton.data.read.tables.header import header_setting, propose_names
from kamerton.errors import Fault
from kamerton.shell import setting

LARGE = 2**30  # characters of a value
MAX_KEPT = 1000  # values of an object that are kept to find its form
MAX_PATHS = 8  # in a message
FIRST_TEXT = (  # a program of jq
    ". as $all | .queries | to_entries[] | {prompt: .value, completion: $all.corpus[$all.relevant_docs[.key][0]]}"
)
VALIDATION = {"validation", "valid", "val", "dev", "eval"}  # names of lists
TABLE = {"columns", "index", "data", "ncols", "nrows", "_type", "column_types", "name"}  # of pandas and W&B


@dataclass(frozen=True, slots=True)
class Form:
    """The form of an object: `objects` one after another, `ids`, `table`, `intents`, or records below `key` at `path`.

    `carried` are values around the records. The faults may be warnings alone.
    """

    kind: str
    note: str = ""
    key: str = ""
    path: str = ""
    carried: dict[str, Any] = field(default_factory=dict)
    faults: tuple[Fault, ...] = ()


@dataclass
class Outline:
    """The keys of an object: its lists with their first items and sizes, its other values, the number of keys.

    Of many keys, the first are kept.
    """

    sample: dict[str, Any] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    count: int = 0
    all_objects: bool = True
    repeated: str = ""


def find_form(reader: JsonStream, file: DataFile) -> Form:
    """Return the form of the object that begins at `reader`."""
    outline = outline_of(reader)
    if reader.peek() == "{":
        return Form("objects", "JSON objects one after another")
    if reader.peek():
        raise reader.error("there is more behind the end of the object")
    if outline.repeated and not known_names(outline.sample, file.columns):
        return _refused(f"the object has the key {outline.repeated!r} twice", "keep one of them", file)
    if file.records:
        return _at_records(file.records, outline, file)
    return _detected(outline, file)


def outline_of(reader: JsonStream) -> Outline:
    """Return the outline of the object that begins at `reader`."""
    outline = Outline()
    keys: set[int] = set()
    for key in reader.members():
        outline.count += 1
        if hash(key) in keys:
            outline.repeated = key
        keys.add(hash(key))
        if reader.peek() == "[":
            outline.sample[key], outline.sizes[key] = _first_items(reader)
            outline.all_objects = False
            continue
        try:
            value, _ = reader.value(LARGE)
        except OverflowError:  # reported with the record
            value = None
        outline.all_objects &= isinstance(value, dict)
        if outline.count <= MAX_KEPT:
            outline.sample[key] = value
    return outline


def _first_items(reader: JsonStream) -> tuple[list[Any], int]:
    """Go through an array; return its first item, with the first one of another type, and the number of items."""
    items: list[Any] = []
    size = 0
    for _ in reader.items():
        size += 1
        try:
            value, _ = reader.value(LARGE)
        except OverflowError:
            value = None
        if not items or (len(items) == 1 and isinstance(value, dict) != isinstance(items[0], dict)):
            items.append(value)
    return items, size


def _detected(outline: Outline, file: DataFile) -> Form:
    sample, columns = outline.sample, file.columns
    if sample.keys() >= {"queries", "corpus", "relevant_docs"}:
        message = "the file is questions with the texts that answer them (for embeddings), an unsupported objective"
        return _refused(message, f"to train on the first text as the answer, {converted_rows(FIRST_TEXT, file)}", file)
    if outline.count == len(outline.sizes) and all(map(_are_utterances, sample.values())):
        return Form("intents", "JSON object, texts by intent (SNIPS)")
    if is_record(sample, columns):
        return Form("objects", "JSON object, one record")
    if outline.all_objects and outline.count:
        return _of_objects(outline, file)
    paths = dict(record_paths(sample, columns))
    lists = [path for path in paths if path in outline.sizes]
    if not lists and (not paths or has_usual_name(sample, columns)):
        return _of_lists(outline, file)
    chosen = lists or list(paths)
    if len(chosen) == 1:
        usual = [path for path, is_usual in paths.items() if is_usual and path.startswith(f"{chosen[0]}[]")]
        below = [path for path in usual if not any(path.startswith(f"{other}[]") for other in usual)]
        if paths[chosen[0]] or not below:
            return _at_records(chosen[0], outline, file)
        chosen = below
    return _several(chosen, outline, file)


def _are_utterances(items: Any) -> bool:
    """Return whether items are texts in parts, some of which have an entity."""
    parts = [item.get("data") if isinstance(item, dict) and set(item) == {"data"} else None for item in items]
    return bool(parts) and all(
        isinstance(part, list) and part and all(isinstance(piece, dict) and "text" in piece for piece in part)
        for part in parts
    )


def _of_objects(outline: Outline, file: DataFile) -> Form:
    """Return the form of an object whose values are all objects."""
    if is_numbered(outline.sample):
        return Form("table", "JSON object, columns with numbered rows")
    first = next(iter(outline.sample.values()))
    is_named = bool(known_names(first, file.columns))
    paths = [path for path, _ in record_paths(outline.sample, file.columns)]
    if has_usual_name(outline.sample, file.columns) or (outline.count == 1 and not is_named and not paths):
        return Form("objects", "JSON object, one record")
    if is_named or not paths:
        return Form("ids", "JSON object, records by id")
    return _at_records(paths[0], outline, file) if len(paths) == 1 else _several(paths, outline, file)


def _of_lists(outline: Outline, file: DataFile) -> Form:
    """Return the form of an object without a list of objects."""
    sizes = outline.sizes
    if {"columns", "data"} <= set(sizes) <= {"columns", "index", "data"} and set(outline.sample) <= TABLE:
        return Form("table", "JSON object, columns and data")
    if known_names(outline.sample, file.columns) or not sizes:
        return Form("objects", "JSON object, one record")
    if not are_columns(outline.sample):
        names = ", ".join(sizes)
        message = f"the lists of the file ({names}) hold lists, not objects with named fields"
        firsts = [items[0] for name, items in outline.sample.items() if name in sizes and items]
        if not firsts or not all(isinstance(item, list) and len(item) == len(firsts[0]) > 1 for item in firsts):
            return _refused(message, 'write {"prompt": ..., "completion": ...} for each record', file)
        header = header_setting(propose_names([[str(cell) for cell in record] for record in firsts]))
        ways = [f"{setting('data.records', name)} {header}" for name in sizes]
        others = set(sizes) - {"train", "test"}
        if "train" in sizes and len(sizes) > 1 and len(others) < 2 and others <= VALIDATION:
            ways = [header]  # the lists are splits, which are kept
        return _refused(message, f"add {' or '.join(ways)}", file)
    if len(set(sizes.values())) > 1:
        lengths = ", ".join(f"{name} {size:,}" for name, size in sizes.items())
        return _refused(f"the columns of the file differ in length: {lengths}", "make them equally long", file)
    return Form("table", "JSON object, columns")


def _several(paths: list[str], outline: Outline, file: DataFile) -> Form:
    counted = [f"{path} ({outline.sizes[path]:,} records)" if path in outline.sizes else path for path in paths]
    message = f"the file has several lists of records: {', '.join(counted[:MAX_PATHS])}"
    if len(paths) == 1:
        message = f"the records of the file are within other records: {counted[0]}"
    fix = " or ".join(setting("data.records", path if "." not in path else f"{path}[]") for path in paths[:MAX_PATHS])
    return _refused(message, f"choose one: {fix}" if len(paths) > 1 else f"add {fix}", file)


def _at_records(records: str, outline: Outline, file: DataFile) -> Form:
    """Return the form of records at a path."""
    key, *rest = [records] if records in outline.sample else path_steps(records)
    if key not in outline.sample:
        paths = [path for path in outline.sizes if path in outline.sample] or list(outline.sample)
        message = f"nothing is at data.records={records}; there is {', '.join(paths[:MAX_PATHS])}"
        return _refused(message, f"set {setting('data.records', paths[0])}" if paths else "leave it out", file)
    carried = {name: value for name, value in outline.sample.items() if name != key and is_scalar(value)}
    left = [name for name in outline.sample if name != key and name not in carried and outline.sample[name]]
    if file.split:  # the other lists are read as other splits
        left = [name for name in left if name not in outline.sizes]
    faults: tuple[Fault, ...] = ()
    if left:
        message = f"not read, beside the records below {key!r}: {', '.join(left[:MAX_PATHS])}"
        faults = (Fault("not-read", message, "nothing, if that is intended", file.name, severity="warning"),)
    return Form("list", f"JSON object, records below {records!r}", key, ".".join(rest), carried, faults)


def _refused(message: str, fix: str, file: DataFile) -> Form:
    return Form("refused", faults=(Fault("unreadable-file", message, fix, file.name),))
