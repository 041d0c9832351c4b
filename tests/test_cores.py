"""Cores: what limits their number, and that threads sleep while they are short and only then."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
import torch

from kamerton import cores


@pytest.mark.parametrize(
    ("files", "groups", "expected"),
    [
        ({}, "0::/", 64),
        ({"cpu.max": "max 100000"}, "0::/", 64),
        ({"cpu.max": "300000 100000"}, "0::/", 3),
        ({"cpu.max": "150000 100000"}, "0::/", 2),
        ({"cpu.max": "20000 100000"}, "0::/", 1),
        ({"a/b/cpu.max": "800000 100000", "a/cpu.max": "400000 100000"}, "0::/a/b", 4),
        ({"a/b/cpu.max": "200000 100000", "other/cpu.max": "100000 100000"}, "0::/a/b", 2),
        ({"cpu/a/cpu.cfs_quota_us": "500000", "cpu/a/cpu.cfs_period_us": "100000"}, "3:cpu,cpuacct:/a\n2:pids:/b", 5),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, "3:cpu:/", 64),
        ({"cpu.max": "three cores"}, "what is this", 64),
    ],
)
def test_the_quota_of_every_control_group_limits_the_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], groups: str, expected: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    for name, text in files.items():
        (tmp_path / "cgroup" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "cgroup" / name).write_text(text)
    (tmp_path / "own").write_text(groups)
    assert cores.usable_cores(tmp_path / "cgroup", tmp_path / "own") == expected


def test_the_affinity_limits_the_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 9, 11})
    assert cores.usable_cores(tmp_path, tmp_path / "none") == 3


@pytest.mark.parametrize(
    ("threads", "variable", "usable", "expected"),
    [(None, None, 1, 1), (None, None, 8, 2), (None, "2", 1, 2), (3, None, 1, 3), (3, "2", 8, 3)],
)
def test_threads_are_the_set_number_or_no_more_than_the_usable_cores(
    monkeypatch: pytest.MonkeyPatch, threads: int | None, variable: str | None, usable: int, expected: int
) -> None:
    before = torch.get_num_threads()
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if variable is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", variable)
    monkeypatch.setattr(cores, "usable_cores", lambda: usable)
    try:
        torch.set_num_threads(2)
        cores.set_threads(threads)
        assert torch.get_num_threads() == expected
    finally:
        torch.set_num_threads(before)


def test_the_users_own_variables_decide_how_threads_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "_watched", None)
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    cores.wait_politely()
    assert cores.waiting() == "OMP_WAIT_POLICY=ACTIVE"
    assert cores._watched is None


def test_threads_sleep_while_cores_are_short(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scheduler's figures are set by the test: each look finds as much waiting as `share` says."""
    clock, share, before = [0.0, 0.0], [0.0], torch.get_num_threads()

    def waited() -> float:
        clock[1] += share[0]
        return clock[1]

    def now() -> float:
        clock[0] += 1.0
        return clock[0]

    def teams() -> int:
        return sum(thread.name == "kamerton-team" for thread in threading.enumerate())

    monkeypatch.setattr(cores, "PERIOD_S", 0.001)
    monkeypatch.setattr(cores, "core_wait", waited)
    monkeypatch.setattr(cores, "monotonic", now)
    monkeypatch.setattr(cores, "usable_cores", lambda: 5)
    torch.set_num_threads(2)
    stop = threading.Event()
    watcher = threading.Thread(target=cores._watch, args=(stop,))
    watcher.start()
    try:
        for short, expected in ((0.5, 2), (0.07, 2), (0.01, 0), (0.07, 0), (0.2, 2), (0.0, 0)):
            share[0] = short
            looks = clock[0]
            while teams() != expected or clock[0] < looks + 5:
                stop.wait(0.001)
    finally:
        stop.set()
        watcher.join()
        torch.set_num_threads(before)


def test_the_time_that_threads_wait_for_a_core_only_grows() -> None:
    values = [cores.core_wait() for _ in range(3)]
    assert values == sorted(values)
    assert values[0] >= 0
