"""A small third-party Hydra application: it reports, may be pruned, and returns a number.

What it does can be told by its configuration, so that tests can make it fail, diverge or wait. As a script it is a
worker of its own.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from optuna import TrialPruned

from hydra_plugins.kamerton.trial import current_trial


def work(cfg: Any) -> float | Sequence[float]:
    """Return (x - 1)² + y after `steps` reports; write a line to `log.jsonl` at its start and end."""
    folder = Path(HydraConfig.get().runtime.output_dir)
    trial = current_trial()
    number = None if trial is None else trial.number
    note(folder, {"begins": number, "pid": os.getpid(), "x": cfg.x, "y": cfg.y, "word": cfg.word})
    value = float((cfg.x - 1) ** 2 + cfg.y)
    if cfg.fails_at is not None and cfg.x < cfg.fails_at:
        raise RuntimeError(f"x is {cfg.x}; see postgresql://me:hunter2@host/db")
    if cfg.nan_at is not None and cfg.x < cfg.nan_at:
        return float("nan")
    for step in range(cfg.steps):
        time.sleep(cfg.pause)
        if trial is not None:
            trial.report(value + 1 / (step + 1), step)
            if cfg.prunes and trial.should_prune():
                raise TrialPruned
    while cfg.gate is not None and Path(cfg.gate).exists():
        time.sleep(0.02)
    if cfg.killed_at is not None and cfg.x < cfg.killed_at:
        print("more and more memory", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    note(folder, {"ends": number})
    return (value, float(cfg.y)) if cfg.two else value


def note(folder: Path, line: dict[str, Any]) -> None:
    """Append one line of JSON."""
    with (folder / "log.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(line, default=str) + "\n")


main = hydra.main(version_base="1.3", config_path=str(Path(__file__).parent), config_name="app")(work)

if __name__ == "__main__":
    main()
