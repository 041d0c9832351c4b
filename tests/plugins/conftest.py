"""Runs the small application in this process, each time in an empty directory."""

from __future__ import annotations

import functools
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra.core.hydra_config import HydraConfig

from kamerton.config.hydra_internals import own_loader
from support.warm import Starter
from support.workers import Worker, sweeping

APP = Path(__file__).parent / "app.py"


def _load() -> Any:
    spec = importlib.util.spec_from_file_location("sweep_app", APP)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["sweep_app"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def outside_of_a_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start outside of Hydra's jobs, even after an interrupted command of another test."""
    monkeypatch.setattr(HydraConfig.instance(), "cfg", None)


@pytest.fixture(scope="session")
def worker(warm: Starter) -> Worker:
    """Starts the small application in its own process."""
    return functools.partial(sweeping, warm)


@pytest.fixture(scope="session")
def app() -> Any:
    """The module of the small application."""
    return _load()


@pytest.fixture
def sweep(app: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Runs a sweep with the overrides it is given, below `tmp_path`; returns how it finished."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")

    def run(*overrides: str) -> Any:
        from hydra_plugins.kamerton._results import finished

        monkeypatch.setattr(sys, "argv", [str(APP), "-m", "hydra/sweeper=optuna", *overrides])
        before = len(finished)
        with own_loader():  # which reads Hydra's files once
            app.main()
        assert len(finished) == before + 1
        return finished[-1]

    return run
