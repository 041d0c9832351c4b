"""For any file, the gate returns a valid result or a list of faults, and accounts for every row.

`scripts/fuzz/data_fuzz.py` sends it thousands of malformed files of every format, archives and sources; here are a few.
"""

from __future__ import annotations

import csv
import io
import json
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kamerton.data.codes import CODES
from kamerton.data.faults import FaultLog
from kamerton.data.gate import Prepared, prepare
from kamerton.data.options import Columns, DataOptions, SplitOptions
from kamerton.data.read.ingest import ingest
from kamerton.data.read.reading import Reading, report_unused
from kamerton.data.read.sources import find_files
from kamerton.errors import Fault, UserError
from support.conversations import CHAT, chats, names, values
from support.rows import pairs

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts" / "fuzz"))

from data_fuzz import DROP, check
from malformed_files import KINDS, draw

EVERY_DROP = {code: "drop" for code, rule in CODES.items() if "drop" in rule.actions}
FUZZ = settings(deadline=None, suppress_health_check=list(HealthCheck), database=None)

WHOLE = 4  # of the five thousand about every fourth goes through the whole gate, the others are read and checked

pair = st.fixed_dictionaries({"prompt": st.text(), "completion": st.text()})
records = st.dictionaries(names, values, max_size=4) | pair
broken_lines = st.binary(max_size=60) | st.text(max_size=60).map(lambda text: text.encode("utf-8", "surrogatepass"))
json_lines = records.map(lambda record: json.dumps(record).encode())
lines = st.lists(json_lines | broken_lines | st.just(b""), max_size=6)
GOOD = [json.dumps(row).encode() for row in pairs(30)]  # enough to be split


@dataclass(frozen=True)
class Input:
    """A file and its expected faults."""

    content: bytes
    format: str
    ending: str
    encoding: str = "auto"
    name: str | None = None  # of the column that is to be the prompt

    def options(self, folder: Path) -> DataOptions:
        """The file, written."""
        path = folder / f"rows.{self.ending}"
        path.write_bytes(self.content)
        columns = Columns() if self.name is None else Columns(prompt=self.name, metadata=["x", self.name])
        return DataOptions(format=self.format, path=str(path), encoding=self.encoding, columns=columns)


def run(tried: Input, whole: bool = True) -> bool:
    """Assert the invariants of any file; return whether it has a fault."""
    with tempfile.TemporaryDirectory() as folder:
        options = tried.options(Path(folder))
        faults = faults_of_every_row(options)
        assert_said_well(faults)
        if not whole:
            return bool(faults)
        options.policy = EVERY_DROP
        result = faults_or_result(options, Path(folder) / "cache")
    if isinstance(result, Prepared):
        kept = sum(len(examples) for examples in result.splits.values())
        assert result.report["counts"]["rows read"] == kept + sum(result.report["rejected"].values())
        json.dumps(result.report)
        return bool(faults)
    assert result
    assert_said_well(result)
    return True


def assert_said_well(faults: Iterable[Fault]) -> None:
    for fault in faults:
        assert fault.code in CODES
        assert fault.message
        assert fault.fix
        assert str(fault)


def faults_or_result(options: DataOptions, cache: Path) -> Prepared | tuple[Fault, ...]:
    try:
        return prepare(options, SplitOptions(), cache=cache)
    except UserError as error:
        return error.faults


def faults_of_every_row(options: DataOptions) -> list[Fault]:
    """Return the result of reading and checking; every row is kept or has a fault."""
    files, faults = find_files(options)
    log, reading = FaultLog(options.policy), Reading()
    if faults:
        return faults
    kept = sum(1 for _ in ingest(files, log, reading))
    report_unused(reading, (), log)
    assert sum(reading.rows.values()) == kept + sum(log.rejected.values())
    assert kept or log.errors
    return log.kept


def jsonl(parts: list[bytes], good: list[bytes], end: bytes, bom: bool) -> Input:
    return Input((b"\xef\xbb\xbf" if bom else b"") + end.join([*good, *parts]), "jsonl", "jsonl")


def csv_rows(rows: list[list[str]], tail: bytes) -> Input:
    text = io.StringIO()
    csv.writer(text).writerows([["prompt", "completion"], *rows])
    return Input(text.getvalue().encode("utf-8", "surrogatepass") + tail, "csv", "csv")


def any_bytes(content: bytes, format: str, packed: str) -> Input:
    ending = {"jsonl": "jsonl", "csv": "csv", "parquet": "parquet", "trec": "txt"}[format]
    return Input(content, format, ending + packed if format in ("jsonl", "csv") else ending)


def encodings(content: bytes, encoding: str) -> Input:
    return Input(content, "jsonl", "jsonl", encoding)


def parquet(rows: list[tuple[str | None, str | None, int]]) -> Input:
    columns = list(zip(*rows, strict=True)) or [(), (), ()]
    types = (pa.string(), pa.string(), pa.int64())
    table = pa.table([pa.array(c, t) for c, t in zip(columns, types, strict=True)], names=["prompt", "completion", "n"])
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return Input(buffer.getvalue(), "parquet", "parquet")


def mapping(rows: list[dict[str, object]], name: str) -> Input:
    return Input("".join(json.dumps(row) + "\n" for row in rows).encode(), "jsonl", "jsonl", name=name)


def conversations(rows: list[dict[str, object]]) -> Input:
    good = [json.dumps({"messages": CHAT}).encode()] if len(rows) % 2 else []
    return Input(b"\n".join([*good, *(json.dumps(row).encode() for row in rows)]), "jsonl", "jsonl")


texts = st.text(max_size=9)
INPUTS: dict[str, tuple[Callable[..., Input], tuple[Any, ...], int]] = {
    # what makes it, of what, how often (more in the thorough run)
    "jsonl": (
        jsonl,
        (lines, st.sampled_from([[], GOOD]), st.sampled_from([b"\n", b"\r\n", b"\n\n"]), st.booleans()),
        240,
    ),
    "csv": (csv_rows, (st.lists(st.lists(st.text(max_size=15), max_size=4), max_size=8), st.binary(max_size=8)), 80),
    "bytes": (
        any_bytes,
        (
            st.binary(max_size=200),
            st.sampled_from(["jsonl", "csv", "parquet", "trec"]),
            st.sampled_from(["", ".gz", ".zst"]),
        ),
        100,
    ),
    "encoding": (
        encodings,
        (st.binary(max_size=120), st.sampled_from(["latin-1", "utf-16", "utf-16-le", "utf-32", "shift_jis", "utf-7"])),
        60,
    ),
    "parquet": (
        parquet,
        (st.lists(st.tuples(st.none() | texts, st.none() | texts, st.integers(0, 9)), max_size=9),),
        30,
    ),
    "conversations": (conversations, (st.lists(chats, min_size=1, max_size=4),), 150),
    "mapping": (
        mapping,
        (st.lists(records, max_size=4), st.sampled_from(["prompt", "text", "nothing", ""])),
        30,
    ),
}


def fuzz(kind: str, times: int = 1, whole: int = 1) -> int:
    """Return the number of distinct faulty inputs; about every `whole`-th runs through the whole gate."""
    make, strategies, count = INPUTS[kind]
    faulty: set[Input] = set()

    def try_one(drawn: Any) -> None:
        drawn_input = make(*drawn)
        if run(drawn_input, crc32(drawn_input.content) % whole == 0):  # the same when it is tried again
            faulty.add(drawn_input)

    settings(FUZZ, max_examples=count * times)(given(st.tuples(*strategies))(try_one))()
    return len(faulty)


@pytest.mark.slow
@pytest.mark.parametrize("kind", INPUTS)
def test_any_input_ends_in_faults_or_a_result(kind: str) -> None:
    fuzz(kind)


@pytest.mark.stress
def test_five_thousand_malformed_inputs() -> None:
    assert sum(fuzz(kind, times=11, whole=WHOLE) for kind in INPUTS) >= 5000


@pytest.mark.parametrize("number", range(len(KINDS)), ids=list(KINDS))
def test_a_sample_of_the_ten_thousand_malformed_inputs(number: int, tmp_path: Path) -> None:
    """`scripts/fuzz/data_fuzz.py` tries all of them; here are six of each kind."""
    for seed in range(number, 6 * len(KINDS), len(KINDS)):
        _, drawn = draw(seed)
        folder = tmp_path / str(seed)
        folder.mkdir()
        check(drawn, folder, DROP if seed % 2 else {})


CORPUS = {
    "truncated object": b'{"prompt": "a", "completion": "b"}\n{"prompt": "a", "compl',
    "array file": b'[\n{"prompt": "a", "completion": "b"},\n{"prompt": "c", "completion": "d"}\n]\n',
    "array line": b'[{"prompt": "a", "completion": "b"}]\n',
    "pretty printed": json.dumps({"prompt": "a", "completion": "b"}, indent=2).encode(),
    "deep nesting": b'{"prompt": ' + b"[" * 5000 + b"]" * 5000 + b', "completion": "b"}\n',
    "null bytes": b'{"prompt": "a\\u0000b", "completion": "c"}\n\x00\x00\n',
    "utf-16 file": '{"prompt": "a", "completion": "b"}\n'.encode("utf-16"),
    "lone surrogate": b'{"prompt": "\\ud800", "completion": "b"}\n',
    "huge number": b'{"prompt": "a", "completion": "b", "n": 1' + b"0" * 400 + b"}\n",
    "nan": b'{"prompt": "a", "completion": "b", "n": NaN}\n',
    "duplicate keys": b'{"prompt": "a", "prompt": "c", "completion": "b"}\n',
    "only spaces": b"   \n\t\n",
    "only a bom": b"\xef\xbb\xbf",
    "carriage returns": b'{"prompt": "a", "completion": "b"}\r{"prompt": "c", "completion": "d"}\r',
    "empty keys": b'{"": "a", "completion": "b"}\n',
    "one value": b"1\n",
}


@pytest.mark.parametrize("name", CORPUS)
@pytest.mark.parametrize("format", ["jsonl", "csv"])
def test_corpus_of_broken_files(name: str, format: str) -> None:
    run(Input(CORPUS[name], format, format))
