"""`kamerton train objective=dpo` with its default callbacks and CSV file: python dpo_with_kamerton.py JOB.json"""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any

import clock


def main(job: dict[str, Any]) -> int:
    """The exit code of the command."""
    from kamerton.commands.train import train_command
    from kamerton.pipeline import preferences

    out = Path(job["out"])
    compute = preferences.reference_logprobs

    def begin_with_the_reference(*values: Any, **named: Any) -> Any:
        """The reference is part of the work, and is not read from an earlier run."""
        clock.begin()
        return compute(*values, **{**named, "cache": out / "cache"})

    preferences.reference_logprobs = begin_with_the_reference
    code = train_command(
        [
            "objective=dpo",
            "data=jsonl",
            f"data.train={job['rows']}",
            "data.near_duplicates=null",
            "data.max_length=4096",
            "model=hub",
            f"model.name={job['model']}",
            f"adapter={job['kind']}",
            f"batch.size={job['batch']}",
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
            "allow_targets=[with_kamerton.]",
            f"seed={job['seed']}",
            f"paths.outputs={out.parent}",
            f"name={out.name}",
            "run_id=run",
            *job["flags"].get("overrides", []),
        ]
    )
    with open(out / "run" / "metrics.csv", encoding="utf-8") as file:
        losses = [float(row["train/loss"]) for row in csv.DictReader(file) if row.get("train/loss")]
    (out / "losses.json").write_text(json.dumps(losses))
    return code


if __name__ == "__main__":
    clock.watch()
    if main(clock.read_job()):
        sys.exit(1)
    clock.report()
