"""Evaluating models by what their runs have scored: nothing is trained here."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from kamerton import EvaluationMetrics, FineTuningManager, TrainingMonitor
from kamerton.errors import UserError
from kamerton.score.custom import with_custom_metrics
from kamerton.score.table import scores_table, write_scores

pytestmark = pytest.mark.anyio


def table(right: int, of: int = 40) -> pa.Table:
    """Scores of a model that gets the first `right` examples right."""
    rows = [
        {
            "example_id": f"{number:016x}",
            "prompt": f"question {number}",
            "target": "yes" if number % 2 else "no",
            "label": "yes" if number % 2 else "no",
            "predicted_label": "yes" if (number % 2 == 1) == (number < right) else "no",
            "label_logprobs": [-0.7, -0.7],
            "nll": 1.0,
            "target_tokens": 2,
            "correct_tokens": 1,
            "metadata": "{}",
        }
        for number in range(of)
    ]
    return scores_table(rows, ["no", "yes"])


def scored(root: Path, name: str, right: int, split: str = "test", of: int = 40) -> str:
    path = root / name
    path.mkdir(parents=True)
    (path / "run.json").write_text(json.dumps({"state": "succeeded"}))
    write_scores(table(right, of), path / "scores" / f"{split}.parquet")
    return path.name


async def test_a_ranking_is_by_accuracy_with_a_tested_verdict(manager: FineTuningManager) -> None:
    names = [scored(manager.root, f"animals/{name}", right) for name, right in (("a", 10), ("b", 38), ("c", 24))]
    ranking = await manager.compare_models(names)
    assert [(place.rank, place.model_id) for place in ranking.models] == [(1, "b"), (2, "c"), (3, "a")]
    assert ranking.metric == "accuracy"
    assert ranking.best.metrics["accuracy"] == pytest.approx(38 / 40)
    assert ranking.best.verdict is not None
    assert "better than" in ranking.best.verdict
    assert ranking.models[-1].verdict is None  # what the others are tested against
    assert list((manager.root / "comparisons").glob("*/*.html"))


async def test_a_cross_validation_is_scored_by_all_its_folds(manager: FineTuningManager) -> None:
    name = scored(manager.root, "animals/crossed", 30, "out_of_fold")
    (manager.root / "animals" / name / "folds").mkdir()
    result = await manager.evaluate_model(name)
    assert result.accuracy == pytest.approx(0.75)
    assert result.intervals["accuracy"][0] < 0.75 < result.intervals["accuracy"][1]
    data = await manager.prepare_data([{"prompt": f"q {n}", "completion": "x"} for n in range(40)])
    with pytest.raises(UserError, match="a model for each fold"):
        await manager.evaluate_model(name, data)


async def test_incomparable_runs_are_reported(manager: FineTuningManager) -> None:
    first_run = scored(manager.root, "animals/a", 10)
    with pytest.raises(UserError, match="at least two"):
        await manager.compare_models([first_run, first_run])
    with pytest.raises(UserError, match="not the test set"):
        await manager.compare_models([first_run, scored(manager.root, "animals/b", 10, of=30)])
    with pytest.raises(UserError, match="no such folder"):
        await manager.evaluate_model(str(manager.root / "nowhere"))


async def test_answers_are_checked_wherever_they_are(manager: FineTuningManager, tmp_path: Path) -> None:
    monitor, name = TrainingMonitor(root=manager.root), scored(manager.root, "animals/a", 40)
    path = manager.root / "animals" / name
    same = [await manager.evaluate_model(name), path, path / "scores" / "test.parquet", table(40)]
    assert all(monitor.validate_results(path).is_valid for path in same)
    collapsed = table(40).set_column(
        table(40).column_names.index("predicted_label"), "predicted_label", pa.array(["yes"] * 40)
    )
    assert [fault.code for fault in monitor.validate_results(collapsed).errors] == ["results.collapsed"]


async def test_an_evaluation_has_the_usual_names(
    manager: FineTuningManager, module: Callable[[str, str], None]
) -> None:
    module(
        "tests_own", "def short(table): return [1.0] * table.num_rows\ndef rows(table): return float(table.num_rows)\n"
    )
    path = manager.root / "animals" / "named"
    (path / "scores").mkdir(parents=True)
    (path / "run.json").write_text(json.dumps({"state": "succeeded"}))
    own = {"short": {"_target_": "tests_own.short"}, "rows": {"_target_": "tests_own.rows"}}
    write_scores(with_custom_metrics(table(30), own, ["tests_own."]), path / "scores" / "test.parquet")
    result = await manager.evaluate_model("named")
    assert isinstance(result, EvaluationMetrics)
    assert result.f1_score == result.f1 == result.metrics["f1"]
    assert result.custom_metrics == {"short": 1.0, "rows": 40.0}


async def test_all_rows_of_a_file_are_evaluated(manager: FineTuningManager, animals: Path) -> None:
    for data in (str(animals), animals, [json.loads(line) for line in animals.read_text().splitlines()]):
        result = await manager.evaluate_model("tiny", data)
        assert result.scores.num_rows == 120
    with pytest.raises(UserError, match="no such file"):
        await manager.evaluate_model("tiny", "nowhere.jsonl")


async def test_a_job_shows_its_directory_and_state(manager: FineTuningManager) -> None:
    scored(manager.root, "animals/a", 10)
    job = await manager.get_job("a")
    assert repr(job) == f"TrainingJob('{manager.root}/animals/a', state='succeeded')"
    (job.path / "run.json").unlink()
    assert repr(job) == f"TrainingJob('{manager.root}/animals/a', state='unreadable')"
