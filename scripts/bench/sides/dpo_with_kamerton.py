"""`kamerton train objective=dpo` with its default callbacks and CSV file: python dpo_with_kamerton.py JOB.json"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import clock
import kamerton_run


def main(job: dict[str, Any]) -> int:
    """The exit code of the command."""
    from kamerton.pipeline import preferences

    out = Path(job["out"])
    compute = preferences.reference_logprobs

    def begin_with_the_reference(*values: Any, **named: Any) -> Any:
        """The reference is part of the work, and is not read from an earlier run."""
        clock.begin()
        return compute(*values, **{**named, "cache": out / "cache"})

    preferences.reference_logprobs = begin_with_the_reference
    own = ["objective=dpo", f"batch.size={job['batch']}", "allow_targets=[with_kamerton.]"]
    return kamerton_run.train(job, own, "train/loss", "losses.json")


if __name__ == "__main__":
    clock.watch()
    if main(clock.read_job()):
        sys.exit(1)
    clock.report()
