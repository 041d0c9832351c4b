"""The queue: never more jobs than allowed, in their order, and no place is lost to a worker that died."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path
from typing import IO

import pytest

from hydra_plugins.kamerton._gpus import VISIBLE
from kamerton.jobs.queue import queue_slot
from kamerton.locks import acquire, lock_owner


@pytest.fixture(autouse=True)
def no_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VISIBLE, "")


def waiting(root: Path) -> list[Path]:
    return [path for path in root.glob(".jobs/*/waiting/*") if not path.name.startswith(".")]


def wait_for(root: Path, count: int, deadline: threading.Event) -> None:
    while len(waiting(root)) != count and not deadline.wait(0.01):
        pass


@pytest.mark.parametrize("limit", [None, 1, 2, 3])
def test_never_more_than_the_limit_run_and_those_who_wait_keep_their_order(tmp_path: Path, limit: int | None) -> None:
    running, most, order = set[int](), [0], list[int]()
    lock, go = threading.Lock(), threading.Event()

    def job(number: int) -> None:
        with queue_slot(tmp_path, number, limit, 1):
            with lock:
                running.add(number)
                order.append(number)
                most[0] = max(most[0], len(running))
            go.wait(300)
            with lock:
                running.discard(number)

    first = [threading.Thread(target=job, args=(number,)) for number in range(limit or 1)]
    for thread in first:
        thread.start()
    while len(order) < (limit or 1):
        go.wait(0.01)
    later = [threading.Thread(target=job, args=(number,)) for number in (12, 10, 11)]
    for thread in later:
        thread.start()
    wait_for(tmp_path, 3, threading.Event())
    assert len(running) == (limit or 1)
    go.set()
    for thread in (*first, *later):
        thread.join(300)
    assert sorted(order) == [*range(limit or 1), 10, 11, 12]
    if limit in (None, 1):  # more may run at once, and the second may write itself down before the first
        assert order[1:] == [10, 11, 12]
    assert most[0] <= (limit or 1)
    assert waiting(tmp_path) == []


def test_a_dead_workers_ticket_is_skipped(tmp_path: Path) -> None:
    folder = tmp_path / ".jobs" / socket.gethostname() / "waiting"
    folder.mkdir(parents=True)
    (folder / f"{0:020d}-4711").write_text(f"4711 {socket.gethostname()}")
    with queue_slot(tmp_path, 1, 1, None):
        assert waiting(tmp_path) == []


def test_a_job_gets_free_gpus_and_hands_its_locks_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VISIBLE, f"test-a-{os.getpid()},test-b-{os.getpid()}")
    with queue_slot(tmp_path, 1, None, 1) as first, queue_slot(tmp_path, 2, None, 1) as two:
        names = {first.environment[VISIBLE], two.environment[VISIBLE]}
        assert names == set(os.environ[VISIBLE].split(","))
        assert len(first.locks) == 2  # the GPU's and the slot's
        slots = list(tmp_path.glob(".jobs/*/slot-*"))
        assert len(slots) == 2
        assert all(lock_owner(slot) for slot in slots)
        assert acquire(slots[0], patience=0) is None


def test_owners_take_turns_however_many_jobs_one_of_them_queued(tmp_path: Path) -> None:
    order, go = list[str](), threading.Event()

    def job(number: int, owner: str) -> None:
        with queue_slot(tmp_path, number, 1, None, owner):
            order.append(f"{owner}{number}")
            go.wait(300)

    first = threading.Thread(target=job, args=(0, "ann-x"))
    first.start()
    while not order:
        go.wait(0.01)
    queued = [(1, "ann-x"), (2, "ann-x"), (3, "ann-x"), (4, "ben"), (5, "ben"), (6, "")]
    later = [threading.Thread(target=job, args=item) for item in queued]
    for thread in later:
        thread.start()
    wait_for(tmp_path, len(queued), threading.Event())
    go.set()
    for thread in (first, *later):
        thread.join(300)
    assert order == ["ann-x0", "ben4", "6", "ann-x1", "ben5", "ann-x2", "ann-x3"]


def test_a_job_that_ran_between_the_look_and_the_lock_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / ".jobs" / socket.gethostname()
    looked, ticket = list[Path](), f"{5:020d}-{os.getpid()}-ben"

    def acquire_late(path: Path, patience: float = 0.3) -> IO[str] | None:
        if path.name == "slot-0":
            looked.append(path)
            if len(looked) == 1:  # another job of ann starts and ends before her next one takes the slot
                (folder / "begun" / "of-ann").touch()
        return acquire(path, patience)

    for place in ("waiting", "begun"):
        (folder / place).mkdir(parents=True)
    (folder / "begun" / "of-ben").touch()
    os.utime(folder / "begun" / "of-ben", (9, 9))
    (folder / "begun" / "of-ann").touch()
    os.utime(folder / "begun" / "of-ann", (8, 8))
    ben = acquire(folder / "waiting" / ticket)
    assert ben is not None
    monkeypatch.setattr("kamerton.jobs.queue.acquire", acquire_late)
    monkeypatch.setattr("kamerton.jobs.queue.time.sleep", lambda _: (folder / "begun" / "of-ben").touch())
    with ben, queue_slot(tmp_path, 6, 1, None, "ann"):
        assert len(looked) == 2


def test_the_owner_with_fewer_running_jobs_is_next(tmp_path: Path) -> None:
    started, free = list[str](), {name: threading.Event() for name in ("ann0", "ann1", "ben2", "ann3", "ben4")}

    def job(name: str) -> None:
        with queue_slot(tmp_path, int(name[3]), 2, None, name[:3]):
            started.append(name)
            free[name].wait(300)

    threads = {name: threading.Thread(target=job, args=(name,)) for name in free}

    def start(name: str, count: int) -> None:
        threads[name].start()
        while len(started) + len(waiting(tmp_path)) != count or len(started) < min(2, count):
            threads[name].join(0.01)

    start("ann0", 1)
    start("ann1", 2)
    start("ben2", 3)
    free["ann0"].set()
    while len(started) < 3:
        threads["ann0"].join(0.01)
    start("ann3", 4)
    start("ben4", 5)
    free["ben2"].set()  # ann has one that runs, ben has none
    while len(started) < 4:
        threads["ben2"].join(0.01)
    for event in free.values():
        event.set()
    for thread in threads.values():
        thread.join(300)
    assert started == ["ann0", "ann1", "ben2", "ben4", "ann3"]
