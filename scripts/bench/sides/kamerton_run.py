"""What the Kamerton sides of scripts/bench/preferences.py and scripts/bench/rewards.py have in common."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any


def train(job: dict[str, Any], overrides: list[str], column: str, file: str) -> int:
    """Run `kamerton train` with its default callbacks and CSV file; return its exit code.

    The values of a column of its metrics.csv go to `file` in the job's folder.
    """
    from kamerton.commands.train import train_command

    out = Path(job["out"])
    code = train_command(
        [
            *overrides,
            "data=jsonl",
            f"data.train={job['rows']}",
            "data.near_duplicates=null",
            "data.max_length=4096",
            "model=hub",
            f"model.name={job['model']}",
            f"adapter={job['kind']}",
            f"trainer.max_steps={job['steps']}",
            f"optimizer.lr={job['lr']}",
            "optimizer.weight_decay=0",
            "scheduler=constant",
            "scheduler.warmup_steps=0",
            "trainer=cpu",
            "logger=csv",
            "base=false",
            "baselines=false",
            "+callbacks.clock._target_=with_kamerton.Clock",
            f"seed={job['seed']}",
            f"paths.outputs={out.parent}",
            f"name={out.name}",
            "run_id=run",
            *job["flags"].get("overrides", []),
        ]
    )
    with open(out / "run" / "metrics.csv", encoding="utf-8") as rows:
        values = [float(row[column]) for row in csv.DictReader(rows) if row.get(column)]
    (out / file).write_text(json.dumps(values))
    return code
