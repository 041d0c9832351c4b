"""`kamerton train objective=grpo` with its default callbacks and CSV file: python grpo_with_kamerton.py JOB.json"""

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

    out = Path(job["out"])
    code = train_command(
        [
            "objective=grpo",
            f"objective.samples={job['samples']}",
            f"objective.max_new_tokens={job['max_new_tokens']}",
            "reward._target_=reward_of_words.share_of_words",
            "data=jsonl",
            f"data.train={job['rows']}",
            "data.near_duplicates=null",
            "data.max_length=4096",
            "model=hub",
            f"model.name={job['model']}",
            f"adapter={job['kind']}",
            f"batch.size={job['prompts']}",
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
            "allow_targets=[with_kamerton.,reward_of_words.]",
            f"seed={job['seed']}",
            f"paths.outputs={out.parent}",
            f"name={out.name}",
            "run_id=run",
            *job["flags"].get("overrides", []),
        ]
    )
    with open(out / "run" / "metrics.csv", encoding="utf-8") as file:
        lengths = [float(row["train/length"]) for row in csv.DictReader(file) if row.get("train/length")]
    (out / "lengths.json").write_text(json.dumps(lengths))
    return code


if __name__ == "__main__":
    clock.watch()
    if main(clock.read_job()):
        sys.exit(1)
    clock.report()
