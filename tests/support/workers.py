"""Workers of a sweep as processes that tests start, watch and kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

APP = Path(__file__).parents[1] / "plugins" / "app.py"
# For a worker that is to be found dead. Elsewhere the usual minutes: who is alive, but starved, is not dead.
QUICK = ("hydra.sweeper.heartbeat_interval=1", "hydra.sweeper.grace_period=10")
_LIMIT = 600.0


@contextmanager
def worker(folder: Path, *overrides: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """The small application sweeping in `folder`; it is killed at the end of the block, if it still runs."""
    command = [sys.executable, str(APP), "-m", "hydra/sweeper=optuna", *overrides]
    process = subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait()


def ended(process: subprocess.Popen[str]) -> str:
    """What a worker printed, when it has ended well."""
    output, _ = process.communicate(timeout=_LIMIT)
    assert process.returncode == 0, output
    return output


def await_that(is_so: Callable[[], Any]) -> Any:
    """Wait until something is so, and return it."""
    began = time.monotonic()
    while not (value := is_so()):
        assert time.monotonic() - began < _LIMIT, "it never came to be"
        time.sleep(0.02)
    return value


def notes(folder: Path) -> list[dict[str, Any]]:
    """What the jobs of one run directory wrote."""
    path = folder / "log.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
