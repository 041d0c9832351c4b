"""Runs of preferences that SIGKILL ends at several moments: resumed, they give the bits of a run that nothing ended."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from support.pairs import judged_rows, pair_rows
from support.resuming import same_result
from support.rows import write_jsonl
from support.runs import LEAN, record
from support.warm import Starter

pytestmark = pytest.mark.slow
# kill.py PLACE NUMBER ARGUMENTS…: `kamerton ARGUMENTS`, which dies in the NUMBER-th call at this place.
KILL = """
import os, signal, sys
from pathlib import Path
from kamerton.cli import main
from kamerton.pipeline import preferences
from kamerton.score import evaluate
from kamerton.train import checkpoints, module, reference
from kamerton.train.objectives import judgement

PLACES = {
    "step": (module.FineTuneModule, "training_step"),
    "update": (module.FineTuneModule, "_clip_and_step"),
    "beforehand": (judgement, "predict"),
    "validation": (module.FineTuneModule, "validation_step"),
    "reference": (reference, "predict"),
    "reference file": (reference, "flush"),
    "reference of the test split": (evaluate, "score"),
    "checkpoint": (checkpoints, "flush"),
}
place, number, *arguments = sys.argv[1:]
owner, name = PLACES[place]
plain, calls = getattr(owner, name), iter(range(1, 10**6))

def dying(*given, **named):
    if next(calls) == int(number):
        if name == "flush" and Path(given[0]).is_file():  # half of the file is written
            os.truncate(given[0], Path(given[0]).stat().st_size // 2)
        os.kill(os.getpid(), signal.SIGKILL)
    return plain(*given, **named)

setattr(owner, name, dying)
sys.exit(main(arguments))
"""
# In this order, each after the run was resumed from the one before; checkpoints are written after 2, 4, 6 steps.
EVERYWHERE = (
    *(("reference", 3), ("reference file", 1), ("reference of the test split", 1)),
    *(("step", 2), ("update", 4), ("validation", 2), ("checkpoint", 1), ("checkpoint", 2), ("step", 1)),
)


@pytest.mark.parametrize("objective", ["dpo", "kto"])
def test_runs_killed_at_every_moment_resume_to_the_same_bits(objective: str, tmp_path: Path, warm: Starter) -> None:
    """With dropout and pairs that are divided over passes."""
    rows: list[Any] = judged_rows() if objective == "kto" else pair_rows()
    data = write_jsonl(tmp_path / "rows.jsonl", rows)
    (tmp_path / "kill.py").write_text(KILL)
    options = [f"objective={objective}", *LEAN, f"data.path={data}", f"paths.outputs={tmp_path}"]
    options += ["trainer.accelerator=cpu", "trainer.max_steps=8", "trainer.max_epochs=-1", "adapter.dropout=0.1"]
    options += ["batch.max_tokens=48", "eval.strategy=steps", "eval.every=3", "save.strategy=steps", "save.every=2"]

    def run(*words: str, cache: str = "cache", code: int = 0) -> str:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "KAMERTON_CACHE": str(tmp_path / cache)}
        return warm.finish(*words, "train", *options, code=code, env=environment)

    run("-m", "kamerton", cache="another")
    (straight,) = (tmp_path / "jsonl").iterdir()
    straight = straight.rename(tmp_path / "jsonl" / "straight")
    places = [*EVERYWHERE, ("beforehand", 5)] if objective == "kto" else EVERYWHERE
    options.append("resume=auto")
    for place, number in places:
        run(str(tmp_path / "kill.py"), place, str(number), code=-9)
    printed = run("-m", "kamerton")
    assert "resumed from step" in printed
    (killed,) = (path for path in (tmp_path / "jsonl").iterdir() if path != straight)
    assert record(killed)["state"] == "succeeded"
    assert same_result(killed, straight)
    assert list(killed.rglob("*.partial*")) == []
