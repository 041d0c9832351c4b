"""Faults of unavailable strategies. Their exactness is tested in tests/e2e/test_processes.py."""

from __future__ import annotations

import sys

import pytest

from kamerton.config.compose import compose_values
from kamerton.config.target_checks import check_targets


def test_a_missing_extra_is_a_fault_with_the_install_command(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("deepspeed", "deepspeed.utils"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "kamerton.train.zero", raising=False)
    (fault,) = check_targets(compose_values(["trainer=deepspeed"]))
    assert fault.column == "trainer.strategy._target_"
    assert fault.fix == "pip install 'kamerton[deepspeed]'"
