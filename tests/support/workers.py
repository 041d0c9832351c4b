"""Workers of a sweep as processes that tests start, watch and kill."""

from __future__ import annotations

import json
import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from support.warm import Starter, Warm

APP = Path(__file__).parents[1] / "plugins" / "app.py"
# For a worker that is to be found dead. Elsewhere the usual minutes: who is alive, but starved, is not dead.
QUICK = ("hydra.sweeper.heartbeat_interval=1", "hydra.sweeper.grace_period=10")
_LIMIT = 600.0
Worker = Callable[..., AbstractContextManager[Warm]]


@contextmanager
def sweeping(warm: Starter, folder: Path, *overrides: str, **environment: str) -> Iterator[Warm]:
    """The small application sweeping in `folder`; it is killed at the end of the block, if it still runs."""
    words = [str(APP), "-m", "hydra/sweeper=optuna", *overrides]
    with tempfile.TemporaryFile("a+") as output:
        process = warm.python(*words, output=output, cwd=folder, env={**os.environ, **environment})
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
                process.wait()


def ended(process: Warm, code: int = 0) -> str:
    """What a worker printed, when it has ended with this exit code."""
    process.wait(_LIMIT)
    process.output.seek(0)
    output = str(process.output.read())
    assert process.returncode == code, output
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
