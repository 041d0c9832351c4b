"""Before SLURM ends a job at its time limit, it can warn it (`--signal=USR1@120`): the run saves and queues again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from kamerton.run.distributed import rank_info

SIGNAL = signal.SIGUSR1


def in_slurm() -> bool:
    """Whether this process belongs to a job of SLURM."""
    return "SLURM_JOB_ID" in os.environ


def requeue() -> None:
    """Ask SLURM to start this job again; rank 0 asks for all. What it runs then goes on with the run."""
    if rank_info().rank > 0:
        return
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    job = f"{array}_{task}" if array else os.environ["SLURM_JOB_ID"]
    try:
        done = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True, timeout=60, check=False)
        trouble = done.stderr.strip() if done.returncode else None
    except (OSError, subprocess.TimeoutExpired) as error:
        trouble = str(error)
    if trouble is not None:
        print(f"SLURM did not requeue job {job}: {trouble}\n    fix: submit it again", file=sys.stderr)
