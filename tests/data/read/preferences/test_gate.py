"""Preference rows against each other, unused columns, and the numbers of the data report."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kamerton.data.gate import Prepared
from kamerton.data.option_checks import check_data_options
from kamerton.data.options import Columns, DataOptions, SplitOptions
from kamerton.data.summary import describe_preferences
from support.rows import WORDS, question

Gate = Callable[..., Prepared]
Row = dict[str, Any]
ALL = SplitOptions(ratios=[1, 0, 0])
OPTIONS: dict[str, Any] = {"rows": "preferences", "near_duplicates": None}


def pair(number: int, **more: Any) -> Row:
    return {"prompt": question(number), "chosen": f"good {number}", "rejected": f"bad {number}", **more}


def turned(row: Row) -> Row:
    return {**row, "chosen": row["rejected"], "rejected": row["chosen"]}


def warnings(prepared: Prepared, code: str) -> list[Any]:
    return [fault for fault in prepared.report["faults"] if fault["code"] == code]


def test_exact_duplicates_are_dropped(gate: Gate) -> None:
    prepared = gate([*map(pair, range(30)), pair(3)], ALL, **OPTIONS)
    assert prepared.report["rejected"] == {"exact-duplicate": 1}


def test_a_pair_and_its_opposite_contradict_each_other(gate: Gate) -> None:
    rows = [*map(pair, range(30)), turned(pair(3))]
    prepared = gate(rows, ALL, **OPTIONS)
    assert [fault["row"] for fault in warnings(prepared, "contradiction")] == [4, 31]
    assert len(prepared.splits["train"]) == 31
    dropped = gate(rows, ALL, policy={"contradiction": "drop"}, **OPTIONS)
    assert len(dropped.splits["train"]) == 29


def test_other_pairs_of_one_prompt_do_not(gate: Gate) -> None:
    prepared = gate([*map(pair, range(30)), {**pair(3), "rejected": "worst"}], ALL, **OPTIONS)
    assert not warnings(prepared, "contradiction")
    assert len(prepared.splits["train"]) == 31


def test_rankings_may_contradict_pairs(gate: Gate) -> None:
    ranking = {"prompt": question(3), "completions": ["none", "bad 3", "good 3"], "scores": [1, 5, 4]}
    prepared = gate([*map(pair, range(30)), ranking], ALL, **OPTIONS)
    assert [fault["row"] for fault in warnings(prepared, "contradiction")] == [4, 31]


def test_opposite_judgements_of_one_completion(gate: Gate) -> None:
    rows: list[Row] = [{"prompt": question(i), "completion": "Yes.", "label": bool(i % 2)} for i in range(30)]
    rows += [{**rows[3], "label": False}, {**rows[4], "completion": "No."}]
    prepared = gate(rows, ALL, rows="judgements", near_duplicates=None)
    assert [fault["row"] for fault in warnings(prepared, "contradiction")] == [4, 31]


def test_splits_keep_a_prompt_together(gate: Gate) -> None:
    rows = [{**pair(i // 4), "chosen": f"good {i}"} for i in range(200)]
    prepared = gate(rows, SplitOptions(ratios=[0.5, 0.25, 0.25]), **OPTIONS)
    prompts = [{str(example.prompt) for example in part} for part in prepared.splits.values()]
    assert sum(map(len, prompts)) == len(set.union(*prompts)) == 50
    assert all(prompts)


def test_a_prompt_of_two_files_leaks(gate: Gate, tmp_path: Any) -> None:
    from kamerton.data.gate import prepare
    from support.rows import write_jsonl

    train = write_jsonl(tmp_path / "train.jsonl", map(pair, range(30)))
    test = write_jsonl(tmp_path / "test.jsonl", [{**pair(3), "chosen": "another"}, *map(pair, range(30, 59))])
    prepared = prepare(DataOptions(train=str(train), test=str(test), **OPTIONS), SplitOptions())
    assert prepared.report["leakage"]["exact"] == {"train and test": 1}
    assert len(prepared.splits["train"]) == 29


def test_near_duplicates_differ_in_all_completions(gate: Gate) -> None:
    """A row with the same prompt and better completion, and quite another worse one, is no near duplicate."""
    words = " ".join(WORDS)
    rows = [*map(pair, range(40)), {**pair(3), "rejected": words}, {**pair(3), "rejected": f"{words} end"}]
    prepared = gate(rows, ALL, rows="preferences")
    assert [fault["row"] for fault in warnings(prepared, "near-duplicate")] == [42]


def test_columns_that_are_not_shown_are_reported(gate: Gate) -> None:
    text = "The mill was built in the year 1700 by two sisters."
    prepared = gate([pair(i, context=f"{text} {i}", id=i, score_chosen=8) for i in range(30)], ALL, **OPTIONS)
    assert prepared.report["unused"] == {"context": 30, "id": 30, "score_chosen": 30}
    (fault,) = warnings(prepared, "unused-field")
    assert 'data.prompt="{context?}' in fault["fix"]
    kept = gate([pair(i, context=text) for i in range(30)], ALL, columns=Columns(metadata=["context"]), **OPTIONS)
    assert kept.report["unused"] == {}
    assert kept.splits["train"][0].metadata == {"context": text}


def test_fields_that_change_the_meaning_are_refused(codes: Callable[..., set[str]]) -> None:
    assert codes([pair(i, images=["a.png"]) for i in range(30)], ALL, **OPTIONS) == {"unused-field"}


def test_fields_of_completions_are_listed(gate: Gate) -> None:
    answers = [{"answer": "a", "rank": 1, "critique": "x"}, {"answer": "b", "rank": 2, "critique": "y"}]
    prepared = gate([{"prompt": question(i), "answers": answers} for i in range(30)], ALL, **OPTIONS)
    assert prepared.report["unused"] == {"answers[].critique": 30}


def test_numbers_of_prompts_completions_and_pairs(gate: Gate) -> None:
    ranking = {"prompt": question(3), "completions": ["a", "b", "c"], "scores": [1, 1, 2]}
    prepared = gate([*map(pair, range(30)), ranking], ALL, **OPTIONS)
    assert prepared.report["preferences"] == {"prompts": 30, "completions": 63, "pairs": 32}
    assert describe_preferences(prepared.facts) == "30 prompts, 63 completions, 32 pairs"
    judged = gate(map(pair, range(30)), ALL, rows="judgements", near_duplicates=None)
    assert describe_preferences(judged.facts) == "30 prompts, 60 completions, 30 desired, 30 undesired"


def test_how_completions_are_compared_is_noted(gate: Gate) -> None:
    (notes,) = gate(map(pair, range(30)), ALL, rows="judgements", near_duplicates=None).report["notes"].values()
    assert "of several completions the best is desired, the others are not" in notes


def test_completions_are_no_labels(gate: Gate) -> None:
    prepared = gate([{"prompt": question(i), "chosen": "yes", "rejected": "no"} for i in range(30)], ALL, **OPTIONS)
    assert prepared.labels is None


@pytest.mark.parametrize(
    "options",
    [
        {"rows": "preferences", "train_on": "calls"},
        {"rows": "preferences", "labels": ["a", "b"]},
        {"rows": "judgements", "balance": "over"},
        {"rows": "preferences", "overlong": "truncate"},
        {"rows": "preferences", "completion": "{chosen}"},
        {"rows": "judgements", "train_on": "answers"},
        {"columns": Columns(chosen="good")},
    ],
)
def test_settings_that_do_not_fit_are_refused(options: dict[str, Any]) -> None:
    (fault,) = check_data_options(DataOptions(path="rows.jsonl", **options))
    assert fault.code == "bad-value"
    assert fault.fix


def test_judgements_are_stratified_by_their_label(gate: Gate) -> None:
    rows = [{"prompt": question(i), "completion": f"Yes, {i}.", "label": i % 10 == 0} for i in range(100)]
    split = SplitOptions(ratios=[0.6, 0.2, 0.2], stratify="label")
    splits = gate(rows, split, rows="judgements", near_duplicates=None).splits
    assert [sum(example.score for example in part) for part in splits.values()] == [6, 2, 2]


def test_pairs_have_no_label_to_stratify_by(codes: Callable[..., set[str]], gate: Gate) -> None:
    assert codes(list(map(pair, range(30))), SplitOptions(stratify="label"), **OPTIONS) == {"bad-value"}
    rows = [pair(i, source="a" if i % 3 else "b") for i in range(30)]
    by_field = SplitOptions(ratios=[0.8, 0.1, 0.1], stratify="source")
    parts = gate(rows, by_field, columns=Columns(metadata=["source"]), **OPTIONS).splits
    assert {name: sum(example.metadata["source"] == "b" for example in part) for name, part in parts.items()} == {
        "train": 8,
        "validation": 1,
        "test": 1,
    }


@pytest.mark.parametrize(("label", "missing", "fix"), [(True, "undesired", "false"), (False, "desired", "true")])
def test_judgements_of_one_kind_alone_are_a_warning(gate: Gate, label: bool, missing: str, fix: str) -> None:
    rows = [{"prompt": question(i), "completion": f"answer {i}", "label": label} for i in range(30)]
    (fault,) = warnings(gate(rows, ALL, **{**OPTIONS, "rows": "judgements"}), "label-missing")
    assert f"the train split has no {missing} completion" in fault["message"]
    assert f"add rows with the label {fix}" in fault["fix"]
    rows[3]["label"] = not label
    assert not warnings(gate(rows, ALL, **{**OPTIONS, "rows": "judgements"}), "label-missing")
