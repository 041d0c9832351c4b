"""A JSON file of any form gives the same rows, in bounded memory, and a fault names the record."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kamerton.data.options import DataOptions
from kamerton.data.read.json import stream as json_stream
from kamerton.data.read.records import read_rows
from kamerton.data.read.sources import find_files
from kamerton.errors import Fault

Rows = list[dict[str, Any]]
ROWS: Rows = [{"prompt": f'a, "b" é 日本\n{i}', "completion": f"c{i}"} for i in range(5)]
CHAT = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
SQUAD = {
    "version": "1.1",
    "data": [
        {
            "title": "T",
            "paragraphs": [{"context": "c", "qas": [{"id": 1, "question": "p"}, {"id": 2, "question": "q"}]}],
        },
        {"title": "U", "paragraphs": [{"context": "d", "qas": [{"id": 3, "question": "r", "title": "own"}]}]},
    ],
}


def read(path: Path, records: str | None = None) -> tuple[list[tuple[int, Any]], list[str]]:
    """The rows of a file whose format is detected, faults by their code and message, and the notes."""
    files, faults = find_files(DataOptions(path=str(path), records=records))
    assert not faults
    notes: list[str] = []
    rows = [(number, row) for file in files for number, row in read_rows(file, notes.append)]
    return [(number, f"{row.code}: {row.message}" if isinstance(row, Fault) else row) for number, row in rows], notes


def rows_of(path: Path, text: str, records: str | None = None) -> list[Any]:
    path.write_text(text, "utf-8")
    return [row for _, row in read(path, records)[0]]


def only_fault(path: Path, text: str, records: str | None = None) -> Fault:
    path.write_text(text, "utf-8")
    (file,), _ = find_files(DataOptions(path=str(path), records=records))
    ((number, fault),) = read_rows(file)
    assert number == 0
    assert isinstance(fault, Fault)
    return fault


FORMS: dict[str, Callable[[Rows], str]] = {
    "lines": lambda rows: "\n".join(map(json.dumps, rows)),
    "array": json.dumps,
    "pretty array": lambda rows: json.dumps(rows, indent=2, ensure_ascii=False),
    "array of lines": lambda rows: "[\n" + ",\n".join(map(json.dumps, rows)) + "\n]\n",
    "with a mark": lambda rows: "\ufeff" + json.dumps(rows, indent=1),
    "one after another": lambda rows: "\n".join(json.dumps(row, indent=1) for row in rows),
    "below a key": lambda rows: json.dumps({"data": rows}),
    "below a key, pretty": lambda rows: json.dumps({"other": None, "data": rows}, indent=1).replace(
        '"other": null,', ""
    ),
    "below two keys": lambda rows: json.dumps({"data": {"rows": rows}}, indent=1),
    "columns": lambda rows: json.dumps({name: [row[name] for row in rows] for name in rows[0]}),
    "columns of pandas": lambda rows: json.dumps(
        {name: {str(i): row[name] for i, row in enumerate(rows)} for name in rows[0]}
    ),
    "split of pandas": lambda rows: json.dumps(
        {"columns": list(rows[0]), "data": [list(row.values()) for row in rows]}
    ),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["rows.json", "rows.jsonl", "rows.txt", "rows"])
def test_every_form_gives_the_same_rows(form: str, name: str, tmp_path: Path) -> None:
    if name == "rows.jsonl" and ("columns" in form or "pandas" in form):
        pytest.skip("a single line of JSON Lines is a row")
    assert rows_of(tmp_path / name, FORMS[form](ROWS)) == ROWS


values = st.text(max_size=20) | st.integers() | st.none() | st.lists(st.text(max_size=3), max_size=2)
some_rows = st.lists(st.fixed_dictionaries({"prompt": st.text(max_size=9), "more": values}), min_size=2, max_size=6)


@given(some_rows, st.sampled_from([None, 1, 3]), st.integers(1, 40))
def test_streamed_arrays_equal_parsed_ones(
    tmp_path_factory: pytest.TempPathFactory, rows: Rows, indent: int | None, chunk: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_stream, "CHUNK", chunk)
        path = tmp_path_factory.mktemp("rows") / "rows.json"
        assert rows_of(path, json.dumps(rows, indent=indent, ensure_ascii=False)) == rows


def test_records_by_id_carry_it(tmp_path: Path) -> None:
    text = json.dumps({"a1": ROWS[0], "a2": ROWS[1]})
    assert rows_of(tmp_path / "a.json", text) == [{"id": "a1", **ROWS[0]}, {"id": "a2", **ROWS[1]}]
    content: Any = {"a1": {**ROWS[0], "id": "own"}, "7": {**ROWS[1], "id": 7}}
    first, second = rows_of(tmp_path / "a.json", json.dumps(content))
    assert (first["id"], first["outer.id"]) == ("own", "a1")
    assert second == content["7"]


def test_a_single_object_is_one_record(tmp_path: Path) -> None:
    for indent in (None, 1):
        for row in (ROWS[0], CHAT, {"x": 1, "tags": ["a"], "question": "b"}):
            assert rows_of(tmp_path / "a.json", json.dumps(row, indent=indent)) == [row]


def test_a_list_of_turns_is_a_conversation(tmp_path: Path) -> None:
    turns = CHAT["messages"]
    assert rows_of(tmp_path / "a.jsonl", f"{json.dumps(turns)}\n{json.dumps(turns)}\n") == [CHAT, CHAT]
    assert rows_of(tmp_path / "a.json", json.dumps([turns, turns])) == [CHAT, CHAT]


def test_single_values_around_the_records_are_columns(tmp_path: Path) -> None:
    text = json.dumps({"instruction": "Classify", "data": [{"text": "a", "label": "b", "instruction": "own"}]})
    expected = {"outer.instruction": "Classify", "text": "a", "label": "b", "instruction": "own"}
    assert rows_of(tmp_path / "a.json", text) == [expected]


def test_what_is_not_read_beside_the_records_is_a_warning(tmp_path: Path) -> None:
    text = json.dumps({"info": {"by": "me"}, "data": ROWS})
    (tmp_path / "a.json").write_text(text)
    (number, warning), *rows = read(tmp_path / "a.json")[0]
    assert (number, warning) == (0, "not-read: not read, beside the records below 'data': info")
    assert [row for _, row in rows] == ROWS


def test_several_lists_are_a_fault_whose_settings_read_each(tmp_path: Path) -> None:
    text = json.dumps({"first": ROWS[:2], "second": ROWS[2:]})
    fault = only_fault(tmp_path / "a.json", text)
    assert fault.fix == "choose one: data.records=first or data.records=second"
    rows = [row for row in rows_of(tmp_path / "a.json", text, "second") if isinstance(row, dict)]
    assert rows == ROWS[2:]


def test_nested_records_are_flattened_with_the_values_around_them(tmp_path: Path) -> None:
    fault = only_fault(tmp_path / "a.json", json.dumps(SQUAD))
    path = "data[].paragraphs[].qas[]"
    assert fault.fix == f"add 'data.records=\"{path}\"'"
    expected = [
        {"version": "1.1", "title": "T", "context": "c", "id": 1, "question": "p"},
        {"version": "1.1", "title": "T", "context": "c", "id": 2, "question": "q"},
        {"version": "1.1", "outer.title": "U", "context": "d", "id": 3, "question": "r", "title": "own"},
    ]
    assert rows_of(tmp_path / "a.json", json.dumps(SQUAD), path) == expected
    rows = rows_of(tmp_path / "a.json", json.dumps(SQUAD["data"], indent=1), "paragraphs[].qas[]")
    assert [row["id"] for row in rows] == [1, 2, 3]


def test_a_path_that_leads_nowhere_is_a_fault(tmp_path: Path) -> None:
    assert only_fault(tmp_path / "a.json", json.dumps(SQUAD), "dat").fix == "set data.records=data"
    row = rows_of(tmp_path / "a.json", json.dumps([{"x": [ROWS[0]]}, {"y": 1}]), "x[]")
    assert row == [ROWS[0], "missing-field: nothing is at 'x[]' in this record"]


def test_lists_of_lists_and_texts_are_one_fault_each(tmp_path: Path) -> None:
    assert (
        "hold lists"
        in only_fault(tmp_path / "a.json", json.dumps({"train": [["a", "b"]], "val": [["c", "d"]]})).message
    )
    assert (
        "differ in length: text 2, label 1"
        in only_fault(tmp_path / "a.json", json.dumps({"text": ["a", "b"], "label": ["c"]})).message
    )
    for record, kind in (("a", "a string"), ([["a"], "b"], "an array")):
        (row, *_) = rows_of(tmp_path / "a.json", json.dumps([record] * 3))
        assert row == f"not-an-object: the record is {kind}, not an object with named fields"


LISTS = [[f"How many mills stood there in {year}?", ("one", "many")[year % 2]] for year in range(20)]


@pytest.mark.parametrize("text", ["\n".join(map(json.dumps, LISTS)), json.dumps(LISTS), json.dumps(LISTS, indent=1)])
def test_lists_need_names_which_the_fault_proposes(text: str, tmp_path: Path) -> None:
    fault = only_fault(tmp_path / "a.json", text)
    assert (fault.message, fault.fix) == (
        "the records are lists, not objects with named fields",
        "add 'data.header=[text,label]'",
    )
    (file,), _ = find_files(DataOptions(path=str(tmp_path / "a.json"), header=["text", "label"]))
    assert [row for _, row in read_rows(file)] == [{"text": text, "label": label} for text, label in LISTS]
    (file,), _ = find_files(DataOptions(path=str(tmp_path / "a.json"), header=["a", "b", "c"]))
    assert {row.code for _, row in read_rows(file) if isinstance(row, Fault)} == {"wrong-field-count"}


def test_lists_below_keys_need_a_key_and_names(tmp_path: Path) -> None:
    fault = only_fault(tmp_path / "a.json", json.dumps({"first": LISTS, "test": LISTS[:4]}))
    assert fault.fix.startswith("add data.records=first 'data.header=")
    (file,), _ = find_files(DataOptions(path=str(tmp_path / "a.json"), records="test", header=["text", "label"]))
    rows = [row for number, row in read_rows(file) if number]
    assert rows == [{"text": text, "label": label} for text, label in LISTS[:4]]


def test_a_fault_names_its_record_and_the_others_are_read(tmp_path: Path) -> None:
    text = '[{"a": 1},\n{"a": 1, "a": 2}, {"b": {"c": 1, "c": 2}},\n{"n": NaN}, {"n": -Infinity},\n"x", null, {"z": 1}]'
    (tmp_path / "a.json").write_text(text)
    assert read(tmp_path / "a.json")[0] == [
        (1, {"a": 1}),
        (2, "repeated-key: duplicate key 'a'"),
        (3, "repeated-key: duplicate key 'c'"),
        (4, {"n": None}),
        (5, "bad-json: not JSON: Infinity is not a value of JSON"),
        (6, "not-an-object: the record is a string, not an object with named fields"),
        (7, "not-an-object: the record is null, not an object with named fields"),
        (8, {"z": 1}),
    ]


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('[{"a": 1},\n {"a" 2},\n {"a": 3}]', "Expecting ':' delimiter (record 2, line 2, column 7)"),
        ('[{"a": 1},\n {"a": 2}', "the file ends without ',' or ']' (record 3, line 2, column 10)"),
        ('[\n{"a": 1}\n] [', "there is more behind the end of the array (record 2, line 3, column 3)"),
        ('{"data": [\n{"a": 1},\n{"a": }]}', "Expecting value (record 1, line 3, column 7)"),
    ],
)
@pytest.mark.parametrize("chunk", [1, 7, 2**20])
def test_what_is_not_json_is_one_fault_with_its_place(
    text: str, place: str, chunk: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_stream, "CHUNK", chunk)
    (tmp_path / "a.json").write_text(text)
    number, fault = read(tmp_path / "a.json")[0][-1]
    assert (number, fault) == (0, f"unreadable-file: not JSON: {place}")


def test_a_byte_of_another_encoding_is_a_fault_of_its_record(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes('[{"a": "café"}, {"a": "ok"}]'.encode("latin-1"))
    assert read(tmp_path / "a.json")[0] == [
        (1, "undecodable-byte: the record has the byte 0xe9, which is not utf-8"),
        (2, {"a": "ok"}),
    ]
    (tmp_path / "a.json").write_text(json.dumps(ROWS, ensure_ascii=False, indent=1), "utf-16")
    assert read(tmp_path / "a.json") == (list(enumerate(ROWS, 1)), ["encoding utf-16", "JSON array"])


def test_a_broken_line_is_not_taken_for_a_document(tmp_path: Path) -> None:
    good = json.dumps(ROWS[0])
    for broken in ('{"prompt": "a",', "{", '{"prompt": ', '{"a": 1} x'):
        (tmp_path / "a.jsonl").write_text(f"{broken}\n{good}\n{good}\n")
        assert [number for number, row in read(tmp_path / "a.jsonl")[0] if isinstance(row, dict)] == [2, 3], broken


def test_the_memory_of_a_long_array_is_that_of_its_longest_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps([{"prompt": "x" * 500, "completion": str(i)} for i in range(2000)]))
    monkeypatch.setattr(json_stream, "CHUNK", 1000)
    with open(path, "rb") as stream:
        reader = json_stream.JsonStream(stream, "utf-8")
        longest = 0
        for _ in reader.items():
            reader.value()
            longest = max(longest, len(reader._text))
    assert longest < 3000


def test_texts_in_parts_by_intent_are_rows(tmp_path: Path) -> None:
    parts = [{"text": "Add "}, {"text": "Rain", "entity": "song"}, {"text": " please"}]
    rows = rows_of(
        tmp_path / "rows.json", json.dumps({"Add": [{"data": parts}], "Play": [{"data": [{"text": "Play"}]}]})
    )
    assert rows == [
        {"text": "Add Rain please", "intent": "Add", "entities": [{"text": "Rain", "label": "song"}]},
        {"text": "Play", "intent": "Play", "entities": []},
    ]


def test_questions_with_relevant_texts_are_a_fault_with_a_command(tmp_path: Path) -> None:
    value = {"queries": {"q": "How many?"}, "corpus": {"c": "Three."}, "relevant_docs": {"q": ["c"]}}
    fault = only_fault(tmp_path / "rows.json", json.dumps(value))
    assert "for embeddings" in fault.message
    assert "jq -c" in fault.fix
