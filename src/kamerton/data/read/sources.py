"""Finding the files of the configured paths, each with its format, split and source."""

from __future__ import annotations

import difflib
import glob
import os
import shlex
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from kamerton.assets import fetch, is_address
from kamerton.data.data_file import DataFile, Subset, form_of, subset_of
from kamerton.data.option_checks import is_text_encoding
from kamerton.data.options import FORMATS, PARALLEL, DataOptions, Source
from kamerton.data.read.files.containers import DAMAGE, archive_kind, open_path
from kamerton.data.read.files.detect import data_format, with_format, with_named_format
from kamerton.data.read.files.text_files import FOLDER
from kamerton.data.read.json.splits import split_lists
from kamerton.data.read.locations.addresses import is_elsewhere
from kamerton.data.read.locations.archives import consistent_splits, open_archive, split_of
from kamerton.data.read.locations.datasets import Part
from kamerton.data.read.locations.folders import has_ending, list_folder
from kamerton.data.read.locations.label_folders import labelled_files
from kamerton.data.read.locations.listed import Located, locate
from kamerton.data.read.locations.patterns import matching_files
from kamerton.errors import Fault

SPLITS = ("train", "validation", "test")
READERS = {  # settings of certain formats: the formats that follow them, in words as well
    "delimiter": ({"csv"}, "a table"),
    "header": ({"csv", "jsonl"}, "a table or JSON"),
    "records": ({"jsonl", "xlsx", "text"}, "JSON, a workbook or a text"),
}


def find_files(options: DataOptions) -> tuple[list[DataFile], list[Fault]]:
    """Return the files of the options in a stable order, and a fault for each path that cannot be read.

    The files of an archive that are named train, validation or test keep these splits if all files of `data.path` do.
    """
    files: list[DataFile] = []
    faults: list[Fault] = []
    for key, split, source, name in _path_settings(options):
        opened: list[DataFile] = []
        for pattern in [source.path] if isinstance(source.path, str) else source.path:
            places, missing = _expand(pattern, key, source, subset_of(options))
            faults += missing
            for place in places:
                file = _data_file(place, split or place.split, name, source)
                readable, unreadable = _open(file)
                opened += readable
                faults += unreadable
        if split is None:
            opened, pooled = consistent_splits(opened, keep=key == "data.path")
            faults += pooled
        files += opened
    if options.prompt_file and options.completion_file:
        parallel, unreadable = _parallel_file(options)
        files += parallel
        faults += unreadable
    files = [replace(file, form=replace(file.form, rows=options.rows)) for file in files]
    faults += _unused_settings(options, "data", {file.format for file in files})
    for name, source in options.sources.items():
        formats = {file.format for file in files if file.source == name}
        faults += _unused_settings(source, f"data.sources.{name}", formats)
    seen: dict[tuple[Path | str, str, str | None], DataFile] = {}
    for file in files:
        part = file.records if file.split else None  # a list of one object
        first = seen.setdefault((file.address or file.path.resolve(), file.member, part), file)
        if first is not file:
            message = f"the file is given twice ({first.split or first.source} and {file.split or file.source})"
            faults.append(Fault("bad-value", message, "name each file once", file.name))
    return files, faults


def _unused_settings(options: DataOptions | Source, key: str, formats: set[str]) -> list[Fault]:
    """Return a warning for each setting that no file of these formats follows."""
    faults = []
    for name, (readers, what) in READERS.items():
        if name == "header" and str(options.header).isdecimal():
            readers = {"csv", "xlsx"}
        elif name == "header" and options.header == "first":
            readers = readers | {"xlsx"}
        if formats and getattr(options, name) and not formats & readers:
            message = f"{key}.{name} has no effect: no file is {what}"
            fault = Fault("unused-setting", message, f"leave it out: {key}.{name}=null", column=f"{key}.{name}")
            faults.append(replace(fault, severity="warning"))
    return faults


def versions_of(files: list[DataFile]) -> dict[str, str]:
    """Return the version of each file that was fetched, by its address."""
    fetched = {file.shown: ", ".join(filter(None, [file.version, file.companion_version])) for file in files}
    return {address: version for address, version in fetched.items() if version}


def has_formats(options: DataOptions) -> bool:
    """Return whether all configured formats and encodings are known, so that `find_files` can be called."""
    sources: list[DataOptions | Source] = [options, *options.sources.values()]
    encodings = [item.encoding for item in sources if item.encoding != "auto"]
    return all(item.format in FORMATS for item in sources) and all(map(is_text_encoding, encodings))


def _path_settings(options: DataOptions) -> Iterator[tuple[str, str | None, Source, str]]:
    """Yield key, split, reading options and source name of each setting that names files."""
    for name, source in options.sources.items():
        yield f"data.sources.{name}.path", None, source, name
    for key in ("path", *SPLITS):
        path = getattr(options, key)
        if path:
            shared = {item.name: getattr(options, item.name) for item in fields(Source) if hasattr(options, item.name)}
            source = Source(**(shared | {"path": path}))
            yield f"data.{key}", None if key == "path" else key, source, options.name


def _data_file(place: Located, split: str | None, name: str, source: Source) -> DataFile:
    header = str(source.header) if isinstance(source.header, int) else source.header
    read = (source.format, source.encoding, source.columns, source.delimiter, header)
    file = DataFile(place.path, split, name, *read, form=form_of(source), records=source.records)
    return replace(file, address=place.address, version=place.version)


def _parallel_file(options: DataOptions) -> tuple[list[DataFile], list[Fault]]:
    places: list[Located] = []
    faults: list[Fault] = []
    for key in PARALLEL:
        parallel = Source(format="text")
        expanded, missing = _expand(str(getattr(options, key)), f"data.{key}", parallel, Subset())
        several = Fault("bad-value", f"data.{key} is more than one file", "give one file", column=f"data.{key}")
        faults += missing or [fault for place in expanded if (fault := _path_fault(place.path, place.shown))]
        faults += [several] if len(expanded) > 1 else []
        places += expanded[:1]
    if any(fault.severity == "error" for fault in faults):
        return [], faults
    source = Source(str(places[0].path), "parallel", options.columns, options.encoding)
    file = _data_file(places[0], None, options.name, source)
    return [replace(file, companion=places[1].path, companion_version=places[1].version)], faults


def _expand(pattern: str, key: str, source: Source, subset: Subset) -> tuple[list[Located], list[Fault]]:
    """Return the files of an address, a path, a directory or a pattern, those of a directory with their splits."""
    if is_elsewhere(pattern):
        return locate(pattern, key, source.format, subset)
    parts, faults = _expand_path(pattern.removeprefix("file://"), key, source)
    return [Located(path, split) for path, split in parts], faults


def _expand_path(pattern: str, key: str, source: Source) -> tuple[list[Part], list[Fault]]:
    try:
        path = Path(pattern).expanduser()
        is_dir = path.is_dir()
    except (OSError, RuntimeError) as error:  # a name that is too long, an unknown home directory
        reason = error.strerror if isinstance(error, OSError) else str(error)
        fault = Fault("missing-file", f"this path is invalid: {reason}", f"correct {key}", pattern[:200], column=key)
        return [], [fault]
    if is_dir:
        return labelled_files(path, key) if source.columns.label == FOLDER else list_folder(path, key, source.format)
    if path.exists():
        return [(path, None)], []
    if path.is_symlink():
        message = f"this link leads to {os.readlink(path)}, which does not exist"
        return [], [Fault("missing-file", message, f"correct {key}, or the link", str(path), column=key)]
    if glob.has_magic(pattern):
        matches = matching_files(str(path))
        missing = [Fault("missing-file", "no file matches this pattern", f"correct {key}", pattern, column=key)]
        return [(match, None) for match in matches], [] if matches else missing
    parent = path.parent
    if not parent.is_dir():
        return [], [Fault("missing-file", f"there is no directory {parent}", f"correct {key}", str(path), column=key)]
    near = difflib.get_close_matches(path.name, [p.name for p in parent.iterdir()], n=1, cutoff=0.5)
    fix = f"did you mean {parent / near[0]}?" if near else f"correct {key}, or put the file there"
    return [], [Fault("missing-file", "there is no such file", fix, str(path), column=key)]


def _open(file: DataFile) -> tuple[list[DataFile], list[Fault]]:
    """Return the file with its format, or the files of an archive; and its faults."""
    fault = _path_fault(file.path, file.shown)
    if fault is not None:
        return [file], [fault]
    kind = None
    try:
        with open_path(file.path) as stream:
            kind = archive_kind(stream.peek(512))
        opened = with_format(file)
        if kind is not None and with_format(replace(file, format="auto")).format != "xlsx":
            return open_archive(file)
    except DAMAGE as error:
        if kind is not None:
            message = f"this is a {kind} archive that cannot be opened: {error}"
            return [file], [Fault("unreadable-file", message, "write or download it again", file.shown)]
        opened = with_named_format(file)  # reading reports the damage
    other = data_format(file.path.name)
    if file.format != "auto" and not has_ending(file.path, file.format) and other is not None:
        named = f"{'an' if other == 'arrow' else 'a'} {other} file"
        message = f"the name of the file is that of {named}, and data.format is {file.format}"
        fix = "data=auto finds the format of each file by its content"
        return [file], [Fault("wrong-extension", message, fix, file.shown)]
    if opened.format == "jsonl" and not file.split and not file.records and not file.companion:
        splits = split_lists(opened, split_of)
        return [replace(opened, split=split, records=key) for key, split in splits.items()] or [opened], []
    return [opened], []


def _path_fault(path: Path, shown: str) -> Fault | None:
    if not path.is_file():
        return Fault("unreadable-file", "this is not a regular file", "point to a file", shown)
    if not os.access(path, os.R_OK):
        fix = f"allow it: chmod u+r {shlex.quote(str(path))}"
        return Fault("no-permission", "the file cannot be read", fix, shown)
    if path.stat().st_size == 0:
        return Fault("empty-file", "the file is empty", "point to a file with rows", shown)
    return None


def local_data(options: DataOptions) -> DataOptions:
    """Return the options with every wheel address replaced by its local file."""
    return replace(
        options,
        path=_local(options.path),
        train=_local(options.train),
        validation=_local(options.validation),
        test=_local(options.test),
        sources={name: replace(source, path=_local(source.path)) for name, source in options.sources.items()},
    )


def _local(path: Any) -> Any:
    if isinstance(path, list):
        return [_local(item) for item in path]
    return str(fetch(path)) if path is not None and is_address(path) else path
