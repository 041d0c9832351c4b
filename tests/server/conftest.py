"""What the server's tests share."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from kamerton.jobs.locate import run_directories
from kamerton.jobs.store import WORKER
from kamerton.locks import lock_owner
from kamerton.run.opening import LOCK
from support.serving import Served, serving
from support.tuned import train_tuned


@pytest.fixture(scope="session")
def tuned_run(tmp_path_factory: pytest.TempPathFactory, own_cache: Path) -> Path:
    """A run that has learnt a few texts, for tests that only read it: `OUTPUTS/local/JOB`."""
    return train_tuned(tmp_path_factory.mktemp("outputs"))


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory, own_cache: Path) -> Iterator[Served]:
    """A server with two tenants; what still trains at the end is killed."""
    root = tmp_path_factory.mktemp("served")
    with serving(root) as result:
        yield result
    for path in run_directories(root):
        for lock in (WORKER, LOCK):
            owner = lock_owner(path / lock)
            if owner is not None and owner.pid is not None:
                os.kill(owner.pid, signal.SIGKILL)
