"""What a run logs to Weights & Biases apart from its training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import wandb

from kamerton.errors import Interrupted
from support.runs import TINY, record, trainer


def test_a_run_interrupted_while_it_is_scored_logs_its_scores_when_it_is_resumed(
    animals: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    train = trainer(animals, tmp_path, *TINY, "logger=wandb", "base=false", "trainer.max_steps=2", "run_id=w")
    summaries: list[dict[str, Any]] = []
    monkeypatch.setattr("kamerton.pipeline.wandb.log_report", lambda _: summaries.append(dict(wandb.run.summary)))

    def stopped(*_: Any) -> None:
        raise Interrupted

    with monkeypatch.context() as patch:
        patch.setattr("kamerton.pipeline.finish.score_test", stopped)
        train(code=130)
    assert not summaries
    run = train()
    (summary,) = summaries
    assert summary["test/accuracy"] == record(run)["metrics"]["test"]["accuracy"]
    assert wandb.run is None  # so that the next run of a sweep starts its own
    (name,) = {path.name.rpartition("-")[2] for path in (run / "wandb").glob("offline-run-*")}
    assert name == record(run)["wandb_id"]
