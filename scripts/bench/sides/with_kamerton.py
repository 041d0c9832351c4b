"""`kamerton train` with its default callbacks, progress bar and CSV file: python with_kamerton.py JOB.json"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import clock
import pytorch_lightning as pl


class Clock(pl.Callback):
    """Counts the rows and starts the clock before the epoch is planned and its first batch is made."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        rows = trainer.datamodule.train  # type: ignore[attr-defined]
        clock.count(rows.lengths.tolist(), rows.target_counts.tolist())
        clock.begin()


def main(job: dict[str, Any]) -> int:
    """The exit code of the command."""
    from kamerton.commands.train import train_command

    out = Path(job["out"])
    return train_command(
        [
            "data=jsonl",
            f"data.train={job['rows']}",
            "data.labels=null",
            "data.near_duplicates=null",
            "data.max_length=4096",
            *(["model=tiny"] if job["model"] == "tiny" else ["model=hub", f"model.name={job['model']}"]),
            f"adapter={job['kind']}",
            f"batch.size={job['batch']}",
            f"optimizer.lr={job['lr']}",
            "optimizer.weight_decay=0",
            "scheduler=cosine",
            "scheduler.warmup_steps=1",
            f"trainer={job.get('trainer', 'cpu')}",
            "logger=csv",
            "base=false",
            "+callbacks.clock._target_=with_kamerton.Clock",
            "allow_targets=[with_kamerton.,probes.]",
            f"seed={job['seed']}",
            f"paths.outputs={out.parent}",
            f"name={out.name}",
            "run_id=run",
            *job["flags"].get("overrides", []),
        ]
    )


if __name__ == "__main__":
    clock.watch()
    if main(clock.read_job()):
        sys.exit(1)
    clock.report()
