"""Every format and compression gives the same rows, and unreadable parts are faults with their location."""

from __future__ import annotations

import gzip
import json
import struct
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kamerton.data.data_file import DataFile
from kamerton.data.gate import prepare
from kamerton.data.options import Columns, DataOptions, SplitOptions
from kamerton.data.read.records import read_rows
from kamerton.data.read.sources import find_files
from kamerton.errors import Fault, UserError
from support.rows import pairs, question

ROWS = [{"prompt": 'a, "b"\nc', "completion": "é"}, {"prompt": "d", "completion": "日本"}]

LINES = {"jsonl": (1, 2), "csv": (2, 4)}  # their first lines: the first row contains a line end


def read(path: Path, format: str, encoding: str = "utf-8") -> list[tuple[int, object]]:
    rows = read_rows(DataFile(path, None, "data", format, encoding, Columns()))
    return [(row, result.code if isinstance(result, Fault) else result) for row, result in rows]


def jsonl(rows: list[dict[str, str]], encoding: str = "utf-8") -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode(encoding)


def packed(content: bytes, ending: str) -> bytes:
    return gzip.compress(content) if ending == ".gz" else pa.compress(content, "zstd", asbytes=True)


def as_csv(rows: list[dict[str, str]]) -> bytes:
    quoted = ['"' + value.replace('"', '""') + '"' for row in rows for value in row.values()]
    return ("prompt,completion\n" + "".join(f"{a},{b}\n" for a, b in zip(*[iter(quoted)] * 2, strict=True))).encode()


@pytest.mark.parametrize("ending", ["", ".gz", ".zst"])
@pytest.mark.parametrize("format", ["jsonl", "csv"])
def test_text_formats_plain_and_packed(tmp_path: Path, format: str, ending: str) -> None:
    content = jsonl(ROWS) if format == "jsonl" else as_csv(ROWS)
    path = tmp_path / f"rows.{format}{ending}"
    path.write_bytes(packed(content, ending) if ending else content)
    assert read(path, format) == list(zip(LINES[format], ROWS, strict=True))


def test_parquet(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "rows.parquet")
    assert read(tmp_path / "rows.parquet", "parquet") == list(enumerate(ROWS, 1))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32", "gb18030"])
def test_other_encodings_when_asked_for(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "rows.jsonl").write_bytes(jsonl(ROWS, encoding))
    assert read(tmp_path / "rows.jsonl", "jsonl", encoding) == list(enumerate(ROWS, 1))


def test_a_bom_needs_no_option(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_bytes(b"\xef\xbb\xbf" + as_csv(ROWS))
    assert read(tmp_path / "rows.csv", "csv") == list(zip(LINES["csv"], ROWS, strict=True))


def test_the_undecodable_byte_is_named_with_its_offset(tmp_path: Path) -> None:
    content = b'{"prompt": "a", "completion": "b"}\n{"prompt": "caf\xe9", "completion": "b"}\n'
    (tmp_path / "rows.jsonl").write_bytes(content)
    rows = list(read_rows(DataFile(tmp_path / "rows.jsonl", None, "data", "jsonl", "utf-8", Columns())))
    assert [row for row, _ in rows] == [1, 2]
    fault = rows[1][1]
    assert isinstance(fault, Fault)
    assert "0xe9" in fault.message
    assert str(content.index(b"\xe9")) in fault.message


def test_broken_lines_stand_between_good_ones(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"a": 1}\n\nnot json\n[1]\n{"b": 2}')
    assert read(tmp_path / "rows.jsonl", "jsonl") == [
        (1, {"a": 1}),
        (3, "bad-json"),
        (4, "not-an-object"),
        (5, {"b": 2}),
    ]


@pytest.mark.parametrize(
    ("line", "fix"),
    [
        ('\ufeff{"a": 1}', "byte-order mark"),
        ('{"a": "\\ud800"}', "leave its half out"),
        ('{"a": 1e999}', "null"),
        ('{"a": -Infinity}', "null"),
        ('{"a": 1},', "no comma"),
        ('{"a": ' + "[" * 2000 + "]" * 2000 + "}", "nest less deeply"),
    ],
)
def test_the_fix_of_a_broken_line_is_that_of_its_fault(line: str, fix: str, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(f'{{"a": 1}}\n{line}\n', "utf-8")
    (file,), _ = find_files(DataOptions(path=str(tmp_path / "rows.jsonl")))
    fault = [*read_rows(file)][1][1]
    assert isinstance(fault, Fault)
    assert fix in fault.fix


def test_a_json_array_over_many_lines_is_read(tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_text(json.dumps(ROWS, indent=1))
    assert read(tmp_path / "rows.json", "jsonl") == list(enumerate(ROWS, 1))


def test_csv_rows_that_do_not_fit_the_header(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text('a,b\n1,2\n\n1,2,3\n"x"y,2\n4,5\n')
    good = [(2, {"a": "1", "b": "2"}), (6, {"a": "4", "b": "5"})]
    assert read(tmp_path / "rows.csv", "csv") == [good[0], (4, "wrong-field-count"), (5, "bad-csv"), good[1]]


def test_only_repeated_keys_are_faults_not_their_names_in_texts(tmp_path: Path) -> None:
    lines = ['{"a": "x", "b": 1, "a": "y"}', '{"a": "say \\"a\\"", "b": "a"}', '{"m": [{"r": 1}, {"r": 2}]}']
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    result = read(tmp_path / "rows.jsonl", "jsonl")
    assert result == [(1, "repeated-key"), (2, {"a": 'say "a"', "b": "a"}), (3, {"m": [{"r": 1}, {"r": 2}]})]
    many = ", ".join(f'"k{i}": {i}' for i in range(99))
    (tmp_path / "rows.jsonl").write_text(f'{{{many}}}\n{{{many}, "k7": 1}}\n')
    assert [code if isinstance(code, str) else 0 for _, code in read(tmp_path / "rows.jsonl", "jsonl")] == [
        0,
        "repeated-key",
    ]


def test_a_csv_line_that_is_too_long_is_a_fault_of_its_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kamerton.data.read.files.lines.MAX_LINE", 64)
    (tmp_path / "rows.csv").write_text(f"a,b\n1,2\n{'x' * 200},2\n3,4\n")
    assert read(tmp_path / "rows.csv", "csv") == [
        (2, {"a": "1", "b": "2"}),
        (3, "row-too-large"),
        (4, {"a": "3", "b": "4"}),
    ]


def test_parquet_values_that_python_cannot_express_come_as_text(tmp_path: Path) -> None:
    columns = {
        "ns": pa.array([1234567890123456789], pa.timestamp("ns")),
        "whole": pa.array([1234567890123456000], pa.timestamp("ns")),
        "far": pa.array([2**62], pa.timestamp("us")),
        "a": pa.array(["x"]),
    }
    pq.write_table(pa.table(columns), tmp_path / "rows.parquet")
    ((_, row),) = read(tmp_path / "rows.parquet", "parquet")
    assert isinstance(row, dict)
    assert row["a"] == "x"
    assert row["ns"] == "2009-02-13 23:31:30.123456789"
    assert type(row["whole"]) is datetime  # whether pandas is installed or not
    assert isinstance(row["far"], str)


@pytest.mark.parametrize("line", ['{"id": %s, "x": 0.5}', '{"a\\\\": [{"b": [1, %s]}]}', '{"id": %s, "y": NaN}'])
def test_integers_of_any_size_keep_their_digits(tmp_path: Path, line: str) -> None:
    path = tmp_path / "rows.jsonl"
    for number in ("123456789012345678901234567890", "-9223372036854775809", "18446744073709551616"):
        path.write_text(line % number + "\n")
        ((_, row),) = read(path, "jsonl")
        assert number in json.dumps(row)
    path.write_text('{"id": %s, "a": 1}\n{"id": 1e30}\n' % ("9" * 5000))
    assert read(path, "jsonl") == [(1, "bad-json"), (2, {"id": 1e30})]


@pytest.mark.parametrize("offsets", [(0, 10**6, 20, 30), (0, -5, 20, 30), (0, 25, 5, 30)])
@pytest.mark.parametrize("is_stream", [False, True])
def test_offsets_outside_an_arrow_file_are_a_fault(tmp_path: Path, offsets: tuple[int, ...], is_stream: bool) -> None:
    table = pa.table({"prompt": ["a" * 10, "b" * 10, "c" * 10], "completion": ["x", "y", "z"]})
    sink = pa.BufferOutputStream()
    with (pa.ipc.new_stream if is_stream else pa.ipc.new_file)(sink, table.schema) as writer:
        writer.write_table(table)
    content = sink.getvalue().to_pybytes()
    damaged = content.replace(struct.pack("<4i", 0, 10, 20, 30), struct.pack("<4i", *offsets))
    assert damaged != content
    (tmp_path / "rows.arrow").write_bytes(damaged)
    assert read(tmp_path / "rows.arrow", "arrow") == [(0, "unreadable-file")]


def test_a_csv_row_is_the_line_at_which_it_begins(tmp_path: Path) -> None:
    text = 'a,b\n"one\ntwo\n\nthree",2\n\n"x\ny",4\n1\n5,6\n'
    (tmp_path / "rows.csv").write_text(text)
    rows = read(tmp_path / "rows.csv", "csv")
    assert [row for row, _ in rows] == [2, 7, 9, 10]
    starts = [text.splitlines()[row - 1] for row, _ in rows]
    assert starts == ['"one', '"x', "1", "5,6"]


def test_an_open_quote_that_would_swallow_the_rest_refuses_the_file(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text('a,b\n"1,1",2\n"3,4\n5,6\n')
    assert read(tmp_path / "rows.csv", "csv") == [(2, {"a": "1,1", "b": "2"}), (0, "unreadable-file")]


@pytest.mark.parametrize("ending", [".gz", ".zst"])
def test_a_packed_file_that_breaks_off(tmp_path: Path, ending: str) -> None:
    whole = packed(jsonl([{"prompt": str(i), "completion": str(i * i)} for i in range(9999)]), ending)
    (tmp_path / f"rows.jsonl{ending}").write_bytes(whole[: len(whole) // 2])
    assert read(tmp_path / f"rows.jsonl{ending}", "jsonl")[-1] == (0, "unreadable-file")


def test_two_columns_of_one_name(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("a,a\n1,2\n")
    assert read(tmp_path / "rows.csv", "csv") == [(0, "duplicate-column")]


def test_an_endless_line_is_skipped_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kamerton.data.read.files.lines.MAX_LINE", 100)
    (tmp_path / "rows.jsonl").write_text('{"a": 1}\n' + '{"b": "' + "x" * 1000 + '"}\n{"c": 3}\n')
    assert read(tmp_path / "rows.jsonl", "jsonl") == [(1, {"a": 1}), (2, "row-too-large"), (3, {"c": 3})]


@given(st.lists(st.fixed_dictionaries({"a": st.text(), "b": st.text()}), min_size=1))
def test_any_rows_come_back(tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, str]]) -> None:
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert [record for _, record in read(path, "jsonl")] == rows


def test_trec_lines(tmp_path: Path) -> None:
    lines = ["NUM:count How many ?", "NUM:date How many ?", "HUM:ind Who was Mozart\xe9 ?", "nonsense", "ABC:x Why ?"]
    (tmp_path / "t.txt").write_bytes("\n".join(lines).encode("latin-1"))
    rows = read(tmp_path / "t.txt", "trec", "latin-1")
    assert [row for row, _ in rows] == [1, 2, 3, 4, 5]
    assert rows[0][1] == rows[1][1]
    first = rows[0][1]
    assert isinstance(first, dict)
    assert first["completion"] == "number"
    assert first["fine"] == ["NUM:count", "NUM:date"]
    assert "Mozarté" in str(rows[2][1])
    assert [code for _, code in rows[3:]] == ["bad-trec", "bad-trec"]


@pytest.mark.parametrize("format", ["jsonl", "csv"])
@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16_is_reported_once(tmp_path: Path, format: str, encoding: str) -> None:
    path = tmp_path / f"rows.{format}"
    path.write_bytes(("\ufeff" + (jsonl(ROWS) if format == "jsonl" else as_csv(ROWS)).decode()).encode(encoding))
    assert read(path, format) == [(0, "unreadable-file")]


REPEATED = [
    r'{"prompt":"x","completion":"y","\u0070rompt":"HIDDEN"}',
    '{"prompt" :"x","completion":"y","prompt":"HIDDEN"}',
    r'{"prompt\\":"x","completion":"y","completion":"HIDDEN"}',
    r'{"prompt":"x","completion":": y","messages":[{"role":"user","content":"a","cont\u0065nt":"HIDDEN"}]}',
    '{"prompt":"x","completion":"y","metadata":{"a":{"b":1,"b":2}}}',
    '{"prompt":"x","n":1.5,"m":2,"prompt":"HIDDEN"}',
    '{"prompt":"x",' + ",".join(f'"k{i}":1' for i in range(60)) + ',"k7":2}',
]
ONCE = [
    r'{"prompt":"say \"prompt\": now","completion":"{\"prompt\": 1, \"prompt\": 2}"}',
    r'{"prompt":": prompt \\","completion":"\\\":\\","a\\":1}',
    '{"prompt":{"prompt":[{"prompt":1},{"prompt":2}]},"completion":"prompt"}',
    "{}",
]


@pytest.mark.parametrize("line", REPEATED)
def test_repeated_keys_are_detected_with_escapes_and_in_nested_objects(tmp_path: Path, line: str) -> None:
    (tmp_path / "rows.jsonl").write_text(line + "\n")
    assert [code for _, code in read(tmp_path / "rows.jsonl", "jsonl")] == ["repeated-key"]


@pytest.mark.parametrize("line", ONCE)
def test_keys_that_only_look_repeated(tmp_path: Path, line: str) -> None:
    (tmp_path / "rows.jsonl").write_text(line + "\n")
    assert read(tmp_path / "rows.jsonl", "jsonl") == [(1, json.loads(line))]


class Pairs(list):  # type: ignore[type-arg]
    """An object as pairs, so that a key can be in it twice."""


keys = st.text('ab\\":é ', min_size=1, max_size=3)
values = st.recursive(
    st.text('ab\\":{} ', max_size=6) | st.integers() | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.lists(st.tuples(keys, inner), max_size=4).map(Pairs),
    max_leaves=12,
)


def as_json(value: object, escape: bool) -> tuple[str, bool]:
    """The value as JSON, and whether an object in it repeats a key."""
    if isinstance(value, Pairs):
        parts = [(json.dumps(name, ensure_ascii=escape), *as_json(item, escape)) for name, item in value]
        names = [name for name, _ in value]
        text = "{" + ", ".join(f"{name}{' ' * escape}: {item}" for name, item, _ in parts) + "}"
        return text, len(set(names)) < len(names) or any(twice for *_, twice in parts)
    if isinstance(value, list):
        result = [as_json(item, escape) for item in value]
        return f"[{', '.join(text for text, _ in result)}]", any(twice for _, twice in result)
    return json.dumps(value, ensure_ascii=escape), False


@given(st.lists(st.tuples(keys, values), max_size=4).map(Pairs), st.booleans())
def test_a_line_repeats_a_key_if_and_only_if_an_object_in_it_does(row: Pairs, escape: bool) -> None:
    from kamerton.data.read.json.lines import parse_object

    line, twice = as_json(row, escape)
    result = parse_object(line, "rows.jsonl")
    assert (isinstance(result, Fault) and result.code == "repeated-key") == twice


def test_nan_in_parquet_is_null_at_any_depth(tmp_path: Path) -> None:
    nan = float("nan")
    columns = {
        "double": pa.array([1.0, nan, None]),
        "float": pa.array([1.0, nan, None], pa.float32()),
        "half": pa.array([np.float16(1), np.float16("nan"), None], pa.float16()),
        "list": pa.array([[1.0, nan], [], None]),
        "object": pa.array([{"a": nan, "b": "x"}, {"a": 2.0, "b": None}, None]),
        "words": pa.array(["a", "b", "a"]).dictionary_encode(),
    }
    pq.write_table(pa.table(columns), tmp_path / "rows.parquet")
    (_, first), (_, two), (_, three) = read(tmp_path / "rows.parquet", "parquet")
    assert first == {
        "double": 1,
        "float": 1,
        "half": 1,
        "list": [1, None],
        "object": {"a": None, "b": "x"},
        "words": "a",
    }
    assert two == {
        "double": None,
        "float": None,
        "half": None,
        "list": [],
        "object": {"a": 2, "b": None},
        "words": "b",
    }
    assert three == {"double": None, "float": None, "half": None, "list": None, "object": None, "words": "a"}


def test_nan_in_json_lines_as_python_writes_it_is_null(tmp_path: Path) -> None:
    rows = [{"prompt": "NaN", "score": float("nan"), "more": [float("nan"), {"a": 1}]}, {"score": float("inf")}]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"a": NaN, "a": 1}\n')
    result = [record for _, record in read(tmp_path / "rows.jsonl", "jsonl")]
    assert result == [{"prompt": "NaN", "score": None, "more": [None, {"a": 1}]}, "bad-json", "repeated-key"]


def test_a_label_that_is_nan_is_missing_and_no_class(tmp_path: Path) -> None:
    labels = [[0.0, 1.0, float("nan")][i % 3] for i in range(60)]
    table = {"prompt": [question(i) for i in range(60)], "label": labels}
    pq.write_table(pa.table(table), tmp_path / "rows.parquet")
    policy: dict[str, str | None] = {"not-a-string": "fix"}
    options = DataOptions(path=str(tmp_path / "rows.parquet"), format="parquet", policy=policy)
    with pytest.raises(UserError) as caught:
        prepare(options)
    assert {fault.code for fault in caught.value.faults if fault.severity == "error"} == {"missing-field"}
    policy["missing-field"] = "drop"
    assert prepare(options).labels == ["0.0", "1.0"]


@pytest.mark.parametrize("split", [SplitOptions(group="author"), SplitOptions(time="author")])
def test_a_key_that_is_nan_is_missing(tmp_path: Path, split: SplitOptions) -> None:
    table = pa.table({**{name: [row[name] for row in pairs(60)] for name in ("prompt", "completion")}})
    authors = pa.array([float("nan") if i in (3, 9) else i // 4 for i in range(60)], pa.float64())
    pq.write_table(table.append_column("author", authors), tmp_path / "rows.parquet")
    with pytest.raises(UserError) as caught:
        prepare(DataOptions(path=str(tmp_path / "rows.parquet"), format="parquet"), split)
    errors = [(fault.code, fault.row) for fault in caught.value.faults if fault.severity == "error"]
    assert errors == [("missing-metadata", 4), ("missing-metadata", 10)]
