"""Jobs of the tiny model in separate processes; all are stopped after the test."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from kamerton import FineTuningConfig, FineTuningManager, TrainingJob
from kamerton.jobs.locate import run_directories
from kamerton.jobs.store import WORKER
from kamerton.locks import lock_owner
from kamerton.run.opening import LOCK


@pytest.fixture
def anyio_backend() -> str:
    """Coroutines are tested on asyncio."""
    return "asyncio"


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[FineTuningManager]:
    """A manager of an empty folder; what still trains there after the test is killed."""
    created = FineTuningManager(root=tmp_path / "outputs", max_running=2)
    yield created
    for path in run_directories(created.root):
        for lock in (WORKER, LOCK):
            owner = lock_owner(path / lock)
            if owner is not None and owner.pid is not None:
                os.kill(owner.pid, signal.SIGKILL)


@pytest.fixture
def start(manager: FineTuningManager, animals: Path) -> Callable[..., Coroutine[Any, Any, TrainingJob]]:
    """Starts a job on the animals."""

    async def begin(*overrides: str, **config: Any) -> TrainingJob:
        data = await manager.prepare_data(animals)
        created = FineTuningConfig(model="tiny", overrides=overrides, **config)
        return await manager.start_training(created, data.split([0.7, 0.15, 0.15]))

    return begin
