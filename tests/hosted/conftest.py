"""Hosted runs against an imitation of a fine-tuning API on this machine, in this process or in a forked one."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kamerton.config.check import to_config
from kamerton.config.compose import compose_values
from kamerton.hosted.openai import train_hosted
from kamerton.pipeline.session import Invocation, RunResult
from support.imitation import Imitation

KEY = "sk-abcdefghijklmnop"


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[Imitation]:
    """An endpoint that the environment names, with its key."""
    with Imitation() as result:
        monkeypatch.setenv("OPENAI_BASE_URL", result.url)
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        yield result


@pytest.fixture
def overrides(tmp_path: Path, animals: Path) -> list[str]:
    """A run on the animals."""
    data = ["data=jsonl", f"data.path={animals}", "data.near_duplicates=null"]
    return ["model=openai", "model.name=tiny", *data, f"paths.outputs={tmp_path / 'outputs'}", "run_id=one"]


@pytest.fixture
def hosted(overrides: list[str]) -> Callable[..., RunResult]:
    """Runs it in this process, without waiting."""

    def run(*more: str, typed: tuple[str, ...] = ()) -> RunResult:
        return train_hosted(
            to_config(compose_values([*overrides, *more])), Invocation(typed), sleep=lambda seconds: None
        )

    return run


@pytest.fixture
def forked(hosted: Callable[..., RunResult]) -> Callable[..., Any]:
    """Start it in a separate process, which a test may kill."""

    def begin(*more: str) -> Any:
        def work() -> None:
            code = 1
            try:
                hosted(*more)
                code = 0
            except BaseException as error:  # reported by the exit code
                print(f"{type(error).__name__}: {error}", file=sys.stderr)
            finally:
                os._exit(code)

        process = multiprocessing.get_context("fork").Process(target=work)
        process.start()
        return process

    return begin
