"""Whatever a file holds, the gate ends in a valid result or in listed faults, and accounts for every row."""

from __future__ import annotations

import csv
import io
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kamerton.data.codes import CODES
from kamerton.data.faults import FaultLog
from kamerton.data.gate import Prepared, prepare
from kamerton.data.ingest import Reading, ingest
from kamerton.data.options import Columns, DataOptions, SplitOptions
from kamerton.data.sources import find_files
from kamerton.errors import Fault, UserError

EVERY_DROP = {code: "drop" for code, rule in CODES.items() if "drop" in rule.actions}
FUZZ = settings(deadline=None, suppress_health_check=list(HealthCheck), database=None)

names = st.sampled_from(
    ["prompt", "completion", "text", "label", "messages", "question", "answer", "conversations", "x"]
)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12)
turns = st.fixed_dictionaries(
    {}, optional={"role": scalars | st.sampled_from(["user", "assistant"]), "content": scalars, "weight": scalars}
)
values = st.recursive(scalars, lambda inner: st.lists(inner | turns, max_size=4) | st.dictionaries(names, inner))
pair = st.fixed_dictionaries({"prompt": st.text(), "completion": st.text()})
records = st.dictionaries(names, values, max_size=5) | pair
broken_lines = st.binary(max_size=60) | st.text(max_size=60).map(lambda text: text.encode("utf-8", "surrogatepass"))
json_lines = records.map(lambda record: json.dumps(record).encode())
lines = st.lists(json_lines | broken_lines | st.just(b""), max_size=12)


def run(content: bytes, format: str, ending: str, encoding: str = "utf-8", columns: Columns | None = None) -> bool:
    """Asserts what must hold of any file; True if it has a fault."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"rows.{ending}"
        path.write_bytes(content)
        options = DataOptions(format=format, path=str(path), encoding=encoding, columns=columns or Columns())
        faulty = assert_every_row_is_accounted_for(options)
        options.policy = EVERY_DROP
        result = faults_or_result(options, Path(folder) / "cache")
    if isinstance(result, Prepared):
        kept = sum(len(examples) for examples in result.splits.values())
        assert result.report["counts"]["rows read"] == kept + sum(result.report["rejected"].values())
        json.dumps(result.report)
        return faulty
    assert result
    for fault in result:
        assert fault.code in CODES
        assert fault.message
        assert fault.fix
        assert str(fault)
    return True


def faults_or_result(options: DataOptions, cache: Path) -> Prepared | tuple[Fault, ...]:
    try:
        return prepare(options, SplitOptions(), cache=cache)
    except UserError as error:
        return error.faults


def assert_every_row_is_accounted_for(options: DataOptions) -> bool:
    files, faults = find_files(options)
    log, reading = FaultLog(options.policy), Reading()
    if faults:
        return True
    kept = sum(1 for _ in ingest(files, log, reading))
    assert sum(reading.rows.values()) == kept + sum(log.rejected.values())
    assert kept or log.errors
    return bool(log.counts)


def jsonl(parts: list[bytes], end: bytes, bom: bool) -> tuple[bytes, bool]:
    content = (b"\xef\xbb\xbf" if bom else b"") + end.join(parts)
    return content, run(content, "jsonl", "jsonl")


def csv_rows(rows: list[list[str]], tail: bytes) -> tuple[bytes, bool]:
    text = io.StringIO()
    csv.writer(text).writerows([["prompt", "completion"], *rows])
    content = text.getvalue().encode("utf-8", "surrogatepass") + tail
    return content, run(content, "csv", "csv")


def any_bytes(content: bytes, format: str, packed: str) -> tuple[bytes, bool]:
    ending = {"jsonl": "jsonl", "csv": "csv", "parquet": "parquet", "trec": "txt"}[format]
    ending += packed if format in ("jsonl", "csv") else ""
    return ending.encode() + content, run(content, format, ending)


def encodings(content: bytes, encoding: str) -> tuple[bytes, bool]:
    return encoding.encode() + content, run(content, "jsonl", "jsonl", encoding)


def parquet(rows: list[tuple[str | None, str | None, int]]) -> tuple[bytes, bool]:
    columns = list(zip(*rows, strict=True)) or [(), (), ()]
    types = (pa.string(), pa.string(), pa.int64())
    table = pa.table([pa.array(c, t) for c, t in zip(columns, types, strict=True)], names=["prompt", "completion", "n"])
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue(), run(buffer.getvalue(), "parquet", "parquet")


def mapping(rows: list[dict[str, object]], name: str) -> tuple[bytes, bool]:
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    return name.encode() + content, run(content, "jsonl", "jsonl", columns=Columns(prompt=name, metadata=["x", name]))


texts = st.text(max_size=9)
INPUTS: dict[
    str, tuple[Callable[..., tuple[bytes, bool]], tuple[Any, ...], int]
] = {  # what is checked, with what, how often (more in the thorough run)
    "jsonl": (jsonl, (lines, st.sampled_from([b"\n", b"\r\n", b"\n\n"]), st.booleans()), 240),
    "csv": (csv_rows, (st.lists(st.lists(st.text(max_size=15), max_size=4), max_size=8), st.binary(max_size=8)), 80),
    "bytes": (
        any_bytes,
        (
            st.binary(max_size=200),
            st.sampled_from(["jsonl", "csv", "parquet", "trec"]),
            st.sampled_from(["", ".gz", ".zst"]),
        ),
        80,
    ),
    "encoding": (
        encodings,
        (st.binary(max_size=120), st.sampled_from(["latin-1", "utf-16", "utf-16-le", "utf-32", "shift_jis", "utf-7"])),
        40,
    ),
    "parquet": (
        parquet,
        (st.lists(st.tuples(st.none() | texts, st.none() | texts, st.integers(0, 9)), max_size=9),),
        40,
    ),
    "mapping": (
        mapping,
        (st.lists(records, max_size=6), st.sampled_from(["prompt", "text", "nothing", ""])),
        30,
    ),
}


def fuzz(kind: str, times: int = 1) -> int:
    """How many different inputs with a fault were tried."""
    check, strategies, count = INPUTS[kind]
    faulty: set[bytes] = set()

    def try_one(drawn: Any) -> None:
        content, bad = check(*drawn)
        if bad:
            faulty.add(content)

    settings(FUZZ, max_examples=count * times)(given(st.tuples(*strategies))(try_one))()
    return len(faulty)


@pytest.mark.parametrize("kind", INPUTS)
def test_any_input_ends_in_faults_or_a_result(kind: str) -> None:
    fuzz(kind)


@pytest.mark.slow
def test_five_thousand_malformed_inputs() -> None:
    assert sum(fuzz(kind, times=11) for kind in INPUTS) >= 5000


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
    run(CORPUS[name], format, format)
