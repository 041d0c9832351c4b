"""`kamerton train objective=grpo` on the tiny model."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from support.resuming import same_result, signal_in
from support.rows import write_jsonl
from support.runs import LEAN, Train, metric_rows, trainer

WORDS = (
    *(word for word in LEAN if not word.startswith("batch.size")),
    *("objective=grpo", "objective.samples=3", "objective.max_new_tokens=6", "objective.updates=2", "batch.size=3"),
    *("reward=length", "reward.length.most=4", "reward.length.unit=characters", "optimizer.lr=1e-2"),
    *("trainer.max_steps=4", "trainer.accelerator=cpu", "save.strategy=steps", "save.every=1"),
    *("eval.strategy=steps", "eval.every=2", "eval.sample=3", "data.near_duplicates=null"),
)


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    rows = [{"prompt": f"{a} + {b} =", "level": a} for a in range(1, 6) for b in range(1, 6)]
    return write_jsonl(tmp_path / "prompts.jsonl", rows)


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    return tmp_path / "outputs"


@pytest.fixture
def train(prompts: Path, outputs: Path) -> Train:
    return trainer(prompts, outputs, *WORDS)


def test_the_divergence_of_a_full_fine_tune_is_from_the_weights_before_training(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("adapter=full", "objective.kl_weight=0.5", "optimizer.lr=1e-3")
    straight = train(*options, "run_id=straight")
    kl = [float(row["train/kl"]) for row in metric_rows(straight) if row.get("train/kl")]
    assert kl[0] == 0
    assert min(kl[1:]) > 0
    with monkeypatch.context() as patch:
        signal_in(patch, "training_step", 2, signal.SIGTERM)
        stopped = train(*options, "run_id=stopped", code=130)
    train(*options, "run_id=stopped")
    assert same_result(stopped, straight)
