"""Data at hand in Python, through the gate, as parts that a job can be given."""

from __future__ import annotations

from pathlib import Path

import pytest

from kamerton import DataExample, DataOptions, read_examples, validate
from kamerton.data.example import Alternative, Message, ToolCall
from kamerton.errors import UserError
from kamerton.jobs.data import data_options, process
from support.pairs_files import pairs
from support.rows import write_jsonl

ROWS = [
    {"prompt": f"the {word} number {number}", "completion": label}
    for number in range(40)
    for word, label in (("cat", "yes"), ("dog", "no"))
]


def test_rows_become_parts_that_can_be_unpacked(tmp_path: Path) -> None:
    data = process(ROWS, tmp_path)
    assert data.validation.is_valid
    train, validation, test = parts = data.split([0.5, 0.25, 0.25])
    assert sum(map(len, parts)) == 80
    assert len(train) > len(validation) > 0
    prompts = [{example.prompt for example in part} for part in (train, validation, test)]
    assert not prompts[0] & prompts[1] | prompts[0] & prompts[2]
    again = process(reversed(ROWS), tmp_path).split([0.5, 0.25, 0.25])
    assert {example.id for example in again.train} == {example.id for example in train}  # whatever the order


def test_files_and_examples_give_the_same_result(tmp_path: Path, animals: Path) -> None:
    of_file = process(animals, tmp_path)
    assert of_file.data.name == "animals"
    examples = [*of_file.split().train, *of_file.split().validation, *of_file.split().test]
    of_examples = process(examples, tmp_path)
    assert {example.id for example in of_examples.split().test} == {example.id for example in of_file.split().test}
    assert next(iter(of_examples.split().train)).metadata.keys() == {"number"}


def test_chats_keep_their_turns(tmp_path: Path) -> None:
    turns = (Message("system", "be short"), Message("user", "hello"), Message("assistant", "hi", 0.0))
    chats = [DataExample((*turns, Message("user", f"number {n}")), f"answer {n}") for n in range(40)]
    parts = process(chats, tmp_path).split()
    assert {example.id for part in parts for example in part} == {chat.id for chat in chats}


def test_rows_of_preferences_become_parts(tmp_path: Path) -> None:
    data = process(pairs(40), tmp_path, "preferences")
    assert data.validation.is_valid, data.validation.errors
    parts = data.split([0.5, 0.25, 0.25])
    assert sum(map(len, parts)) == 80
    example = parts.train[0]
    assert example.score == 1
    assert [(other.completion, other.score) for other in example.alternatives] == [("no", 0.0)]
    faults = process([*pairs(40), {"prompt": "a", "chosen": "b", "rejected": "b"}], tmp_path, "preferences").validation
    assert [(fault.code, fault.row) for fault in faults.errors] == [("bad-preference", 81)]
    assert not process(pairs(40), tmp_path).validation.is_valid  # as completions


def test_validate_reads_preferences(tmp_path: Path) -> None:
    file = write_jsonl(tmp_path / "pairs.jsonl", pairs(40))
    assert validate(DataOptions(path=str(file), rows="preferences")).report["counts"]["rows read"] == 80
    for raw in (file, DataOptions(path=str(file))):
        assert process(raw, tmp_path, "preferences").data.rows == "preferences"


CALL = (ToolCall("add", '{"a": 1}', "call_1"),)
TOOLS = '[{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}]'
CHAT = (Message("system", "be short"), Message("user", "hello"), Message("assistant", "hi", 0.0), Message("user", "go"))


@pytest.mark.parametrize(
    "example",
    [
        DataExample("a", "b", score=1.0, alternatives=(Alternative("c", 0.0),)),
        DataExample(CHAT, "b", {"topic": "x"}, score=1.0, alternatives=(Alternative("c", 0.0),)),
        DataExample("a", "b", score=3.0, alternatives=(Alternative("c", 2.0), Alternative("d", 0.5))),
        DataExample("a", "b", score=0.0),
        DataExample(CHAT, "b", score=1.0),
        DataExample("a", "b", reasoning="r", score=1.0, alternatives=(Alternative("c", 0.0, "s"),)),
        DataExample("a", "", tool_calls=CALL, tools=TOOLS, score=1.0, alternatives=(Alternative("c", 0.0),)),
        DataExample("a", "b", reasoning="r"),
        DataExample(CHAT, "", tool_calls=CALL, tools=TOOLS),
        DataExample("a", "b", weight=0.5),
    ],
)
def test_examples_are_written_and_read_back_whole(example: DataExample, tmp_path: Path) -> None:
    options = data_options([example], tmp_path)
    kind = "preferences" if example.alternatives else "judgements"
    assert options.rows == ("completions" if example.score is None else kind)
    (read,) = read_examples(options)
    assert read.id == example.id
    assert dict(read.metadata) == dict(example.metadata)


def test_faults_are_listed_and_split_raises_them(tmp_path: Path) -> None:
    data = process([*ROWS, {"prompt": "no answer"}, {"prompt": 3, "completion": "yes"}], tmp_path)
    assert not data.validation.is_valid
    assert len(data.validation.errors) == 2
    with pytest.raises(UserError):
        data.split()
    missing = process(tmp_path / "nowhere.csv", tmp_path)
    assert [fault.code for fault in missing.validation.errors] == ["missing-file"]


def test_wrong_ratios_and_things_that_are_no_rows_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="sum to 1"):
        process(ROWS, tmp_path).split([0.5, 0.6, 0.1])
    with pytest.raises(UserError, match="row 2 cannot be used"):
        process([ROWS[0], "text"], tmp_path)  # type: ignore[list-item]
    with pytest.raises(UserError, match="not JSON serializable"):
        process([{"prompt": object(), "completion": "x"}], tmp_path)


def test_nan_in_rows_is_missing(tmp_path: Path) -> None:
    nan = float("nan")
    rows = [row | {"score": nan, "completion": nan if i == 3 else row["completion"]} for i, row in enumerate(ROWS)]
    faults = process(rows, tmp_path).validation.errors
    assert [(fault.code, fault.row) for fault in faults] == [("missing-field", 4)]
