"""A job that learns preferences, from rows in memory to its evaluation."""

from __future__ import annotations

import pytest

from kamerton import DataOptions, FineTuningConfig, FineTuningManager
from support.jobs import SMALL
from support.pairs_files import pairs
from support.rows import write_jsonl

pytestmark = [pytest.mark.anyio, pytest.mark.slow]
QUICK = (*SMALL, "callbacks.early_stopping=null", "model.export=adapter")


async def test_a_job_learns_preferences(manager: FineTuningManager, warm_jobs: None) -> None:
    data = await manager.prepare_data(pairs(40), rows="preferences")
    config = FineTuningConfig(
        model="tiny", method="dpo", beta=0.2, epochs=3, batch_size=8, learning_rate=0.01, overrides=QUICK
    )
    job = await manager.start_training(config, data.split([0.6, 0.2, 0.2]))
    status = await job.wait(600)
    assert status.state == "succeeded", (status.error, (job.path / "log.txt").read_text())
    assert status.objective == "dpo"
    assert {"preference_accuracy", "margin", "reward_chosen"} <= set(status.metrics["train"])
    result = await manager.evaluate_model(job.model_id)
    assert result.metrics["preference_accuracy"] > 0.5
    assert result.scores.num_rows > 0
    file = write_jsonl(manager.root / "other.jsonl", pairs(10, "a"))
    assert (job.path / "model" / "prompt.json").exists()  # does not make them single completions
    for test in (str(file), pairs(10, "a"), DataOptions(test=str(file), rows="preferences")):
        other = await manager.evaluate_model(job.model_id, test)
        assert other.scores.num_rows == 20
        assert "preference_accuracy" in other.metrics
