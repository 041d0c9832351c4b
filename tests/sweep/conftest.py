"""A small configuration of the tiny model, from Python."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from kamerton.config.check import to_config
from kamerton.config.compose import compose_values
from kamerton.config.schema import Config
from support.runs import LEAN

Configure = Callable[..., Config]
SMALL = (*LEAN, "eval.every=0.25", "trainer.max_epochs=1")


@pytest.fixture
def configure(animals: Path, tmp_path: Path) -> Configure:
    """A configuration with these overrides."""

    def configured(*overrides: str) -> Config:
        return to_config(compose_values([*SMALL, f"data.path={animals}", f"paths.outputs={tmp_path}/o", *overrides]))

    return configured
