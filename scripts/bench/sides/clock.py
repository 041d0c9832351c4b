"""What every side of the training benchmark measures in the same way; needs torch and the standard library alone.

The clock runs from before the first batch is made to the end of the last optimizer step, so it counts every example of
the epoch. Ends of steps come from a hook that torch calls after any optimizer's step, whoever calls it. The peak of
resident memory is the process's own at the last of them, before anything is saved. On a GPU a step has ended when the
device has finished it, and the peak of its memory is noted as well.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

BEGUN: list[float] = []
ENDS: list[float] = []
FACTS: dict[str, float] = {}
_PEAK = [0.0]


def watch() -> None:
    """Note the end of every optimizer step from now on."""
    from torch.optim.optimizer import register_optimizer_step_post_hook

    register_optimizer_step_post_hook(_step_ended)


def begin() -> None:
    """Training begins now; a second call changes nothing."""
    if not BEGUN:
        BEGUN.append(time.perf_counter())


def count(lengths: list[int], targets: list[int]) -> None:
    """What the side trains on: tokens and target tokens of each row, as it sees them."""
    FACTS.update(tokens=sum(lengths) / len(lengths), targets=sum(targets) / len(targets), rows=len(lengths))


def report() -> None:
    """Print what was measured as one line of JSON."""
    result = {"begun": BEGUN[0], "ends": ENDS, "peak_mib": _PEAK[0], **FACTS}
    print("\nRESULT " + json.dumps(result), flush=True)


def read_job() -> dict[str, Any]:
    """The job that the benchmark asks this process for."""
    job: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text())
    return job


def _step_ended(*_: Any) -> None:
    if not BEGUN:  # an optimizer is tried before training
        return
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()
        FACTS["gpu_peak_mib"] = torch.cuda.max_memory_allocated() / 2**20
    ENDS.append(time.perf_counter())
    _PEAK[0] = peak_mib()


def peak_mib() -> float:
    """The most memory this process ever had resident, MiB (VmHWM)."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024
