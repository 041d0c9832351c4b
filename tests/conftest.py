"""Shared by all tests: a separate cache for the session, and small data files."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any

import pytest
from hypothesis import HealthCheck, settings

from support import rows
from support.warm import Starter, Warm, starter

# Started in the background, a shell has Ctrl-C ignored, also by what the tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)
# How fast the machine is decides no test.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


def pytest_collection_finish() -> None:
    """Leave what is imported by now, a million objects, out of every later collection of garbage."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def user_cache() -> str | None:
    """What `KAMERTON_CACHE` was before the tests: large downloads are kept there."""
    return _USER_CACHE


_USER_CACHE = os.environ.get("KAMERTON_CACHE")


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Tests neither read nor fill the user's cache, but for the one that needs the real model."""
    patch = pytest.MonkeyPatch()
    folder = tmp_path_factory.mktemp("cache")
    patch.setenv("KAMERTON_CACHE", str(folder))
    yield folder
    patch.undo()


@pytest.fixture(scope="session")
def warm() -> Iterator[Starter]:
    """Starts `kamerton` in separate processes, without waiting for its imports."""
    with starter() as start:
        yield start


@pytest.fixture
def warm_jobs(warm: Starter, monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs that this process starts do not wait for the imports of their processes."""

    def start(command: list[str], *, stdout: IO[Any], pass_fds: list[int], env: dict[str, str], **_: Any) -> Warm:
        return warm.python(*command[1:], output=stdout, kept=pass_fds, env=env)

    monkeypatch.setattr("kamerton.jobs.worker.subprocess", SimpleNamespace(Popen=start, DEVNULL=subprocess.DEVNULL))


@pytest.fixture
def animals(tmp_path: Path) -> Path:
    """A file of 120 rows, two labels that a letter of the prompt decides."""
    return rows.animals(tmp_path / "animals.jsonl")


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Makes a Python module of a name and a text that can be imported while the test runs."""

    def write(name: str, text: str) -> None:
        (tmp_path / f"{name}.py").write_text(text)
        monkeypatch.syspath_prepend(str(tmp_path))

    return write
