"""Real runs of the tiny model, compared: two seeds, a planted regression, leakage, golden prompts."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kamerton.cli import main
from kamerton.decide.compare.comparison import Comparison, read
from support.runs import LEAN

pytestmark = pytest.mark.slow
ROWS = 400
LIMITS = ["gate.max_drop.accuracy=0.02", "gate.slices.animal.max_drop.accuracy=0.02"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Two runs that differ in their seed, on a test set of 400 rows; of its answers four in five can be learnt."""
    folder = tmp_path_factory.mktemp("compare")

    def rows(count: int, start: int) -> list[dict[str, object]]:
        problems = []
        for number in range(start, start + count):
            animal = "cat" if number % 2 else "dog"
            odd = random.Random(number).random() < 0.2
            answer = {"cat": "dog", "dog": "cat"}[animal] if odd else animal
            completion = {"cat": "yes", "dog": "no"}[answer]
            problems.append(
                {"prompt": f"the {animal} number {number}", "completion": completion, "metadata": {"animal": animal}}
            )
        return problems

    splits = {"train": rows(160, 0), "validation": rows(40, 1000), "test": rows(ROWS, 2000)}
    for name, part in splits.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    data = [f"data.{name}={folder}/{name}.jsonl" for name in splits]
    small = [*LEAN, "base=true", "data.near_duplicates=null", "optimizer.lr=0.003"]
    quiet = ["adapter=full", "trainer.max_epochs=9", "trainer.max_steps=100", f"paths.outputs={folder}/outputs"]
    for seed in (1, 2):
        assert main(["train", *small, *quiet, *data, f"run_id=seed{seed}", f"seed={seed}"]) == 0
    (home,) = (folder / "outputs").iterdir()
    return SimpleNamespace(folder=folder, one=home / "seed1", other=home / "seed2", home=home)


@pytest.fixture
def compare(runs: SimpleNamespace, tmp_path: Path) -> Callable[..., Comparison]:
    def run(*arguments: str, code: int = 0) -> Comparison:
        assert main(["compare", *arguments, f"paths.outputs={tmp_path}", "name=it"]) == code
        return read(tmp_path / "comparisons" / "it")

    return run


def degraded(run: Path, path: Path, points: float) -> Path:
    """The run's score table with `points` of the answers about cats, right ones, made wrong."""
    table = pq.read_table(run / "scores" / "test.parquet")
    rows = table.to_pylist()
    cats = [i for i, row in enumerate(rows) if json.loads(row["metadata"])["animal"] == "cat"]
    right = [i for i in cats if rows[i]["predicted_label"] == rows[i]["label"]][: round(points * len(cats))]
    guess = [
        ({"yes": "no", "no": "yes"}[row["label"]] if i in right else row["predicted_label"])
        for i, row in enumerate(rows)
    ]
    place = table.schema.get_field_index("predicted_label")
    pq.write_table(table.set_column(place, "predicted_label", pa.array(guess)), path)
    return path


def test_two_seeds_are_one_side_against_the_base_model(
    runs: SimpleNamespace, compare: Callable[..., Comparison]
) -> None:
    result = compare(f"runs=[{runs.home}/*]")
    (side,) = result.candidates
    assert side.seeds == (1, 2)
    assert result.examples == ROWS
    assert {difference.field for difference in result.slices} >= {"label", "animal"}
    loss = next(difference for difference in result.differences if difference.metric == "loss")
    assert loss.test == "t over seeds and examples"
    assert loss.difference < 0
    assert [notice.code for notice in result.notices if notice.code.startswith("leakage")] == []


def test_the_gate_is_quiet_on_another_seed_and_catches_a_slice_that_is_five_points_worse(
    runs: SimpleNamespace, compare: Callable[..., Comparison], tmp_path: Path
) -> None:
    other = runs.other / "scores" / "test.parquet"  # a table is a separate configuration; two runs would be one
    quiet = compare(f"runs=[{other}]", f"baseline={runs.one / 'scores' / 'test.parquet'}", *LIMITS)
    assert quiet.gate.passed
    worse = degraded(runs.one, tmp_path / "worse.parquet", 0.05)
    assert 0.6 < quiet.baseline.metrics["accuracy"].value < 0.95
    caught = compare(f"runs=[{worse}]", f"baseline={runs.one}", *LIMITS, code=3)
    failed = [(check.field, check.group) for check in caught.gate.checks if not check.passed]
    assert ("animal", "cat") in failed
    assert ("animal", "dog") not in failed


def test_training_on_test_examples_is_detected_by_their_ids(
    runs: SimpleNamespace, compare: Callable[..., Comparison], capsys: pytest.CaptureFixture[str]
) -> None:
    config = runs.one / "config.yaml"
    text, record = config.read_text(), (runs.one / "run.json").read_text()
    leaked = runs.folder / "leaked.jsonl"
    leaked.write_text((runs.folder / "train.jsonl").read_text() + (runs.folder / "test.jsonl").read_text())
    try:  # the same scores, as if the run had been trained on the test file as well
        config.write_text(
            text.replace(f"{runs.folder}/train.jsonl", str(leaked))
            .replace(f"test: {runs.folder}/test.jsonl", f"test: {runs.folder}/validation.jsonl")
            .replace(f"validation: {runs.folder}/validation.jsonl", "validation: null")
        )
        changed = compare(f"runs=[{runs.one}]")
        assert "how they are prepared, have changed since" in " ".join(item.message for item in changed.notices)
        fingerprint = fingerprint_of(config)
        old = json.loads(record)["data"]["fingerprint"]
        (runs.one / "run.json").write_text(record.replace(old, fingerprint))
        result = compare(f"runs=[{runs.one}]")
    finally:
        config.write_text(text)
        (runs.one / "run.json").write_text(record)
    (notice,) = [item for item in result.notices if item.code == "leakage"]
    assert f"seed1 was trained on {ROWS} of the {ROWS} test examples" in notice.message
    assert "its numbers are too good" in " ".join(capsys.readouterr().out.split())


def fingerprint_of(config: Path) -> str:
    import yaml

    from kamerton.config.check import section
    from kamerton.data import DataOptions, SplitOptions, prepare

    values = yaml.safe_load(config.read_text())
    data, split = section(DataOptions, values, "data"), section(SplitOptions, values, "split")
    assert data is not None
    return prepare(data, split).fingerprint


def test_golden_prompts_are_held(runs: SimpleNamespace, compare: Callable[..., Comparison], tmp_path: Path) -> None:
    row = pq.read_table(runs.one / "scores" / "test.parquet").to_pylist()[0]
    good = {"prompt": row["prompt"], "label": row["predicted_label"], "one_of": ["yes", "no"]}
    path = tmp_path / "golden.jsonl"
    path.write_text(json.dumps(good) + "\n")
    assert compare(f"runs=[{runs.one}]", f"golden={path}").gate.passed
    path.write_text(json.dumps(good) + "\n" + json.dumps({"prompt": row["prompt"], "exact": "maybe"}) + "\n")
    result = compare(f"runs=[{runs.one}]", f"golden={path}", code=3)
    assert [check.source for check in result.gate.golden if not check.passed] == [f"{path}:2"]
