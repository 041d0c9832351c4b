"""The example scripts as they are, on the tiny model; and that what a run has scored is not scored again."""

from __future__ import annotations

import asyncio
import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

from kamerton import FineTuningManager, TrainingMonitor

FOLDER = Path(__file__).resolve().parents[2] / "scripts" / "examples"


def example(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_the_basic_example_goes_from_rows_to_a_ranking(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], manager: FineTuningManager, warm_jobs: None
) -> None:
    basic = example("basic")
    asyncio.run(basic.main(basic.ROWS, "tiny", str(manager.root)))
    output = capsys.readouterr().out
    assert "succeeded" in output
    assert "1. " in output
    assert "2. " in output
    (path,) = [status.path for status in asyncio.run(manager.list_jobs())]
    assert f"{path / 'report.html'}\n" in output
    assert not (manager.root / "evaluations").exists()  # both models were scored by the run
    assert (manager.root / "comparisons").exists()

    async def again() -> None:
        monitor = TrainingMonitor(root=manager.root)
        metrics = await monitor.track_metrics(path.name)
        assert metrics.state == "succeeded"
        assert metrics.examples["processed"] == metrics.examples["total"]
        assert metrics.epoch_progress == 3
        assert len({step for step, row in metrics.rows if "train/loss" in row}) == metrics.step
        assert [first.step for first in [m async for m in monitor.stream_metrics(path.name)]] == [metrics.step]
        result = await manager.evaluate_model(str(path))
        assert result.metrics["accuracy"] == pytest.approx((path_metrics(await manager.get_job(path.name)))["accuracy"])
        second = await manager.prepare_data(basic.ROWS[:60])
        elsewhere = await manager.evaluate_model("tiny", second.split([0.5, 0.25, 0.25]))
        assert elsewhere.path.parent == manager.root / "evaluations"
        assert elsewhere.scores.num_rows == len(second.split([0.5, 0.25, 0.25]).test)

    asyncio.run(again())


def path_metrics(job: Any) -> dict[str, float]:
    return dict(job.status.metrics["test"])


@pytest.mark.slow
def test_the_advanced_example_stops_a_run_that_goes_wrong(
    animals: Path, capsys: pytest.CaptureFixture[str], manager: FineTuningManager, warm_jobs: None
) -> None:
    asyncio.run(example("advanced").main(str(animals), "tiny", 3.0, 40, str(manager.root)))
    output = capsys.readouterr().out
    assert "cancelled at step" in output
    assert re.search(r"(warn|error): [a-z-]+ at step \d+: ", output)
    (status,) = asyncio.run(manager.list_jobs())
    assert 0 < (status.step or 0) < (status.steps or 0)
    assert (status.path / "checkpoints" / "last.ckpt").exists()
