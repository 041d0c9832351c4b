"""`kamerton train objective=grpo` with its default callbacks and CSV file: python grpo_with_kamerton.py JOB.json"""

from __future__ import annotations

import sys
from typing import Any

import clock
import kamerton_run


def main(job: dict[str, Any]) -> int:
    """The exit code of the command."""
    own = [
        "objective=grpo",
        f"objective.samples={job['samples']}",
        f"objective.max_new_tokens={job['max_new_tokens']}",
        f"batch.size={job['prompts']}",
        "reward._target_=reward_of_words.share_of_words",
        "allow_targets=[with_kamerton.,reward_of_words.]",
    ]
    return kamerton_run.train(job, own, "train/length", "lengths.json")


if __name__ == "__main__":
    clock.watch()
    if main(clock.read_job()):
        sys.exit(1)
    clock.report()
