"""Malformed inputs for the data gate: files of every format, archives and several sources, from a seed."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from malformed_rows import ODD, PREFERENCES, WORDS, pair, rows, spoil, spoil_bytes, words

ENCODINGS = [
    "utf-8",
    "utf-8-sig",
    "latin-1",
    "cp1252",
    "cp1250",
    "utf-16",
    "utf-16-le",
    "utf-32",
    "shift_jis",
    "gb18030",
]
DELIMITERS = [*",;\t|" * 3, *"^~: \x1f"]


@dataclass
class Input:
    """Files by name, and the values of `DataOptions` that read them; paths are below the folder of the files."""

    files: dict[str, bytes]
    options: dict[str, Any] = field(default_factory=dict)


def dumped(value: Any, **options: Any) -> bytes:
    """JSON in UTF-8; halves of surrogate pairs are written as bytes that are not UTF-8."""
    return json.dumps(value, ensure_ascii=False, **options).encode("utf-8", "surrogatepass")


def json_lines(random: Random) -> Input:
    lines = [dumped(row) for row in spoil(random, rows(random))]
    if random.random() < 0.5:
        at = random.randrange(len(lines) + 1)
        lines.insert(
            at, random.choice([b"", b"{", b"[]", b"1", b'"a"', b"nan", b'{"a": 1, "a": 2}', b"# note", b"\xff"])
        )
    return Input({"rows.jsonl": random.choice([b"\n", b"\r\n", b"\n\n", b"\r"]).join(lines)})


def json_document(random: Random) -> Input:
    """An array, an object with the rows somewhere below, rows by key, or columns; often pretty-printed."""
    records = spoil(random, rows(random))
    keys = random.choices(["data", "items", "rows", "train", "version", "a b", "x.y", ""], k=3)
    document: Any = random.choice(
        [
            records,
            {keys[0]: records},
            {keys[0]: {keys[1]: records}, "version": 1},
            {keys[0]: [{keys[1]: records}, {keys[2]: records[:1]}]},
            {f"{number}": record for number, record in enumerate(records)},
            {"train": records, "test": records[:2], "note": random.choice(ODD)},
            {"prompt": [words(random) for _ in records], "completion": records[1:]},
        ]
    )
    content = dumped(document, indent=random.choice([None, 2, "\t"]))
    content = spoil_bytes(random, content) if random.random() < 0.5 else content
    options = (
        {"records": random.choice(["data", "data[].items[]", "nowhere", "data.items"])} if keys[1] == "x.y" else {}
    )
    return Input({random.choice(["rows.json", "rows.jsonl"]): content}, options)


def table(random: Random) -> Input:
    """A table with or without header, any delimiter, quoting and encoding, and fields too many or too few."""
    delimiter = random.choice(DELIMITERS)
    header = random.choice(
        [["prompt", "completion"], ["text", "label"], ["", ""], ["a", "a"], ["id", "q", "a", "note"]]
    )
    lines = [
        [str(value) for value in pair(random, number).values()] for number in range(random.choice([0, 1, 9, 30, 40]))
    ]
    lines = [line + [words(random) for _ in header[2:]] for line in lines]
    lines = [header, *lines] if random.random() < 0.7 else lines
    for line in random.sample(lines, min(len(lines), random.choice([0, 1, 3]))):
        change = random.randrange(4)
        if change == 0:
            line.append(words(random))
        elif change == 1:
            line.pop()
        else:
            line[random.randrange(len(line))] = str(
                random.choice([*ODD, '"', 'a "quoted" b', f"a{delimiter}b", "a\nb"])
            )
    lines = [line if line != [""] else ["-"] for line in lines]  # which the writer cannot write without quotes
    text = io.StringIO()
    quoting = random.choice([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONE])
    end = random.choice(["\n", "\r\n", "\r"])
    csv.writer(text, delimiter=delimiter, quoting=quoting, escapechar="\\", lineterminator=end).writerows(lines)
    encoding = random.choice(ENCODINGS) if random.random() < 0.4 else "utf-8"
    content = text.getvalue().encode(encoding, "replace")
    content = spoil_bytes(random, content) if random.random() < 0.5 else content
    options: dict[str, Any] = {}
    if random.random() < 0.2:
        options["delimiter"] = random.choice([*DELIMITERS[:4], "comma", "tab"])
    if random.random() < 0.2:
        options["header"] = random.choice(["first", ["prompt", "completion"], ["a"]])
    if random.random() < 0.2:
        options["encoding"] = random.choice(ENCODINGS)
    return Input({f"rows.{random.choice(['csv', 'tsv', 'txt'])}": content}, options)


def parquet(random: Random) -> Input:
    records = spoil(random, [*rows(random), *rows(random)] if random.random() < 0.2 else rows(random))
    try:
        content = _parquet(pa.Table.from_pylist([record for record in records if isinstance(record, dict)]))
    except (
        pa.ArrowException,
        TypeError,
        ValueError,
        OverflowError,
        AttributeError,
    ):  # of values that Arrow has no type for
        column = pa.array([str(record) for record in records])
        content = _parquet(pa.table({random.choice(["text", "", "n"]): column, "blob": [b"\xff"] * len(column)}))
    return Input({"rows.parquet": spoil_bytes(random, content) if random.random() < 0.5 else content})


def _parquet(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()


def text(random: Random) -> Input:
    lines = [
        random.choice([words(random), f"DESC:manner {words(random)}", "", f"{words(random)}\t1"]) for _ in range(20)
    ]
    content = "\n".join(lines).encode(random.choice(ENCODINGS), "replace")
    options = {"format": random.choice(["text", "trec", "auto"]), "records": random.choice([None, "lines"])}
    return Input({f"rows.{random.choice(['txt', 'md', 'text'])}": spoil_bytes(random, content)}, options)


def any_bytes(random: Random) -> Input:
    content = random.choice(
        [random.randbytes(random.randrange(300)), b"", b"\n" * 9, b"\xef\xbb\xbf", b"PK\x03\x04", b"PAR1"]
    )
    return Input(
        {f"rows.{random.choice(['jsonl', 'json', 'csv', 'parquet', 'txt', 'xlsx', 'zip', 'gz', 'dat'])}": content}
    )


FILES: list[Callable[[Random], Input]] = [json_lines, json_document, table, parquet, text, any_bytes]


def compressed(random: Random) -> Input:
    """A compressed file, possibly truncated, or with an ending that is not its own."""
    ((name, content),) = random.choice(FILES[:3])(random).files.items()
    ending, compress = random.choice(
        [("gz", gzip.compress), ("bz2", bz2.compress), ("xz", lzma.compress), ("zst", _plain)]
    )
    packed = compress(content)
    packed = spoil_bytes(random, packed) if random.random() < 0.6 else packed
    return Input({f"{name}.{ending}" if random.random() < 0.8 else name: packed})


def _plain(content: bytes) -> bytes:
    return content


def archive(random: Random) -> Input:
    """An archive of several files, some of them malformed, with names that need care."""
    members = {}
    for _ in range(random.randint(1, 4)):
        ((name, content),) = random.choice(FILES)(random).files.items()
        place = random.choice(["", "data/", "../", "/tmp/", "__MACOSX/._", "train/", "test/", "a b/ż/", ".git/"])
        members[place + random.choice(["", "train_", "test-", "part.1."]) + name] = content
    buffer = io.BytesIO()
    ending = random.choice(["zip", "tar", "tar.gz"])
    if ending == "zip":
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as packed:
            for name, content in members.items():
                packed.writestr(name, content)
    else:
        with tarfile.open(fileobj=buffer, mode="w:gz" if ending == "tar.gz" else "w") as tar:
            for name, content in members.items():
                information = tarfile.TarInfo(name)
                information.size = len(content)
                tar.addfile(information, io.BytesIO(content))
    content = buffer.getvalue()
    return Input({f"rows.{ending}": spoil_bytes(random, content) if random.random() < 0.4 else content})


def several(random: Random) -> Input:
    """Several files: in a folder, as a list, as sources of their own, or as splits."""
    files: dict[str, bytes] = {}
    for number in range(random.randint(2, 4)):
        for name, content in random.choice([*FILES, compressed, archive])(random).files.items():
            files[f"{number}-{name}"] = content
    names = list(files)
    how = random.randrange(4)
    if how == 0:
        return Input(files, {"path": "."})
    if how == 1:
        return Input(files, {"path": [*names, random.choice(["missing.jsonl", names[0]])]})
    if how == 2:
        sources = {name.replace(".", "_"): {"path": name, "weight": random.choice([1, 0.5, 3, 0])} for name in names}
        return Input(files, {"sources": sources})
    return Input(files, dict(zip(("train", "validation", "test"), names, strict=False)))


def preferences(random: Random) -> Input:
    """Pairs, rankings, comparisons or judged completions, several of them spoilt, for an objective that reads them."""
    records: list[Any] = rows(random, PREFERENCES)
    for _ in range(random.choice([1, 1, 3, 10])):
        records = spoil(random, records)
        if not records:
            break
    content = dumped(records) if random.random() < 0.3 else b"\n".join(map(dumped, records))
    rows_as = random.choice(["preferences", "preferences", "judgements"])
    return Input({"rows.jsonl": content}, {"rows": rows_as})


KINDS = {
    "json lines": json_lines,
    "json documents": json_document,
    "tables": table,
    "parquet": parquet,
    "texts": text,
    "bytes": any_bytes,
    "compressed": compressed,
    "archives": archive,
    "several files": several,
    "preferences": preferences,
}


def draw(seed: int) -> tuple[str, Input]:
    """Return the malformed input of a seed, and its kind."""
    random = Random(seed)
    kind = list(KINDS)[seed % len(KINDS)]
    drawn = KINDS[kind](random)
    if len(drawn.files) == 1 and "path" not in drawn.options:
        drawn.options["path"] = next(iter(drawn.files))
    if random.random() < 0.15:
        name = random.choice(["prompt", "text", "question", "messages", "none such", WORDS[0]])
        drawn.options["columns"] = {random.choice(["prompt", "completion", "messages", "text", "label"]): name}
    return kind, drawn
