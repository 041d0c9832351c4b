"""Leakage of test examples into training is detected by id, and reported if it cannot be checked."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from kamerton.data import DataExample, DataOptions, SplitOptions, prepare
from kamerton.decide.compare.configurations import Group, ScoredRun
from kamerton.decide.compare.leakage import all_training, leakage_notices, seen_in_training
from kamerton.score.table import scores_table

OLD = "what is the longest river that flows through the old capital city of France"
TRAIN = [(OLD, "place"), ("who wrote the book", "person"), *((f"question {i} of {i * i}", "number") for i in range(30))]
TEST = [
    ("who wrote the book", "person"),
    ("who wrote the book ", "place"),
    (f"{OLD} today", "place"),
    ("how tall is the tower", "number"),
]


@pytest.fixture
def run(tmp_path: Path) -> ScoredRun:
    """A run that was trained on `TRAIN` and scored on `TEST`, which was not cleaned of it."""
    for name, rows in (("train", TRAIN), ("test", TEST)):
        lines = [json.dumps({"prompt": prompt, "completion": answer}) for prompt, answer in rows]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
    kept = dict.fromkeys(
        ("leakage", "near-leakage", "exact-duplicate", "contradiction", "few-rows", "near-duplicate"), "warn"
    )
    data = DataOptions(train=f"{tmp_path}/train.jsonl", test=f"{tmp_path}/test.jsonl", policy=kept)
    config = {"seed": 1, "data": asdict(data), "split": asdict(SplitOptions())}
    fingerprint = prepare(data, SplitOptions()).fingerprint
    examples = [DataExample(prompt, answer) for prompt, answer in TEST]
    same = {"metadata": "{}", "nll": 1.0, "target_tokens": 1, "correct_tokens": 1}
    rows = [same | {"example_id": each.id, "prompt": each.prompt, "target": each.completion} for each in examples]
    return ScoredRun(tmp_path / "run", scores_table(rows, None), config, fingerprint)


def test_examples_that_were_trained_on_are_named(run: ScoredRun) -> None:
    groups = [Group("new", (run,))]
    (notice,) = leakage_notices(groups, all_training(groups))
    leaked = DataExample("who wrote the book", "person").id
    assert notice.code == "leakage"
    assert f"run was trained on 1 of the 4 test examples ({leaked})" in notice.message


def test_how_an_example_was_seen(run: ScoredRun) -> None:
    training_runs = all_training([Group("new", (run,))]).values()
    assert seen_in_training(run.table, training_runs) == ["exactly", "its prompt", "nearly", "not at all"]


def test_unchecked_leakage_is_reported_once_per_reason(run: ScoredRun, tmp_path: Path) -> None:
    table = ScoredRun(tmp_path / "scores.parquet", run.table)
    lines = (tmp_path / "train.jsonl").read_text().splitlines()
    (tmp_path / "train.jsonl").write_text("\n".join(lines[1:]))
    groups = [
        Group("new", (run,)),
        Group("one", (table,)),
        Group("base", (ScoredRun(run.path, run.table, trained=False),)),
    ]
    training = all_training(groups)
    messages = [notice.message for notice in leakage_notices(groups, training)]
    assert messages == [
        "leakage of test examples into training is unchecked for run: "
        "its data files, or how they are prepared, have changed since",
        "leakage of test examples into training is unchecked for scores.parquet: "
        "its record does not name its training data",
    ]
    assert seen_in_training(run.table, training.values()) is None
    (tmp_path / "train.jsonl").unlink()
    (said_gone,) = [notice.message for notice in leakage_notices(groups[:1], all_training(groups[:1]))]
    assert "its data cannot be prepared again" in said_gone


def test_out_of_fold_scores_cause_no_leakage_notice(run: ScoredRun) -> None:
    folds = ScoredRun(run.path, run.table, run.config, run.fingerprint, out_of_fold=True)
    groups = [Group("cv", (folds,))]
    assert leakage_notices(groups, all_training(groups)) == []


def test_a_configuration_without_data_files_is_unchecked(run: ScoredRun) -> None:
    nameless = replace(run, config={**run.config, "data": asdict(DataOptions())})
    (notice,) = leakage_notices([Group("new", (nameless,))], all_training([Group("new", (nameless,))]))
    assert "its record does not name its training data" in notice.message
