"""Checkpoints: the newest intact one is found, whatever happens while one is written."""

from __future__ import annotations

import errno
import os
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kamerton.errors import RunFailed, UserError
from kamerton.run.checkpoints import LAST, PREVIOUS, best_checkpoint, damage, newest_checkpoint, read_checkpoint
from kamerton.train.checkpoints import write_checkpoint

CALLS = ("fsync", "link", "replace", "unlink")


def state(step: int) -> dict[str, Any]:
    return {"global_step": step, "state_dict": {"weight": torch.full((500,), float(step))}}


def steps_there(folder: Path) -> set[int]:
    return {int(read_checkpoint(path)["global_step"]) for path in folder.glob("*.ckpt")}


def write_and_die(folder: Path, call: int) -> bool:
    """In a child process: write the third checkpoint, killed just before the `call`-th of `CALLS`. Was it killed?"""
    child = os.fork()
    if child == 0:
        count = iter(range(1000))
        for name in CALLS:
            setattr(os, name, dying(getattr(os, name), lambda: next(count) == call))
        write_checkpoint(state(3), folder / LAST)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def dying(plain: Callable[..., Any], due: Callable[[], bool]) -> Callable[..., Any]:
    def call(*arguments: Any, **options: Any) -> Any:
        if due():
            os.kill(os.getpid(), signal.SIGKILL)
        return plain(*arguments, **options)

    return call


def test_a_kill_while_writing_leaves_an_intact_checkpoint(tmp_path: Path) -> None:
    for call in range(20):
        folder = tmp_path / str(call)
        for step in (1, 2):
            write_checkpoint(state(step), folder / LAST)
        killed = write_and_die(folder, call)
        path, damaged = newest_checkpoint(folder)
        assert path is not None
        assert (damaged, damage(path)) == ([], None)
        assert read_checkpoint(path)["global_step"] in (2, 3)
        write_checkpoint(state(4), folder / LAST)  # and the next one is written as if nothing had happened
        assert {4} < steps_there(folder)
        assert [path.name for path in folder.iterdir() if path.suffix == ".partial"] == []
        if not killed:
            assert call > 3  # every call was tried
            return
    pytest.fail("writing took more calls than were tried")


@pytest.mark.parametrize("harm", ["a byte changed", "cut short", "emptied"])
def test_a_damaged_checkpoint_is_reported_and_the_previous_one_used(tmp_path: Path, harm: str) -> None:
    for step in (1, 2):
        write_checkpoint(state(step), tmp_path / LAST)
    damage_file(tmp_path / LAST, harm)
    path, damaged = newest_checkpoint(tmp_path)
    assert path == tmp_path / PREVIOUS
    assert [str(tmp_path / LAST) in text for text in damaged] == [True]
    damage_file(tmp_path / PREVIOUS, harm)
    with pytest.raises(UserError) as caught:
        newest_checkpoint(tmp_path)
    assert len(caught.value.faults) == 2


def damage_file(path: Path, harm: str) -> None:
    content = bytearray(path.read_bytes())
    if harm == "a byte changed":
        content[len(content) // 2] ^= 1  # among the weights
    path.unlink()  # `previous.ckpt` may be another name of the same file
    path.write_bytes(content[: {"cut short": len(content) // 2, "emptied": 0}.get(harm, len(content))])


@contextmanager
def disk_for(size: int) -> Iterator[None]:
    """No file may become larger than `size` bytes: to a program this looks like a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("size", [0, 100, 2000])
def test_a_full_disk_is_an_oserror_and_keeps_the_checkpoints(tmp_path: Path, size: int) -> None:
    write_checkpoint(state(1), tmp_path / LAST)
    with disk_for(size), pytest.raises(OSError) as caught:  # noqa: PT011 (errno is compared)
        write_checkpoint(state(2), tmp_path / LAST)
    assert caught.value.errno == errno.EFBIG
    assert read_checkpoint(tmp_path / LAST)["global_step"] == 1
    assert os.listdir(tmp_path) == [LAST]


def test_numpy_scalars_of_a_callback_are_read_again_and_objects_are_named(tmp_path: Path) -> None:
    path = tmp_path / LAST
    kept = {"Mine": {"pruned": np.bool_(True), "best": [np.float64(0.5), (np.int64(3),)]}}
    write_checkpoint({**state(1), "callbacks": kept}, path)
    assert read_checkpoint(path)["callbacks"] == {"Mine": {"pruned": True, "best": [0.5, (3,)]}}
    write_checkpoint({**state(1), "callbacks": {"Mine": {"path": tmp_path}}}, path)
    with pytest.raises(UserError) as caught:
        read_checkpoint(path)
    (fault,) = caught.value.faults
    assert (fault.code, fault.file) == ("checkpoint.objects", str(path))
    assert "pathlib" in fault.message
    assert "weights_only" not in fault.message


def noting(folder: Path, name: str, **recorder: Any) -> dict[str, Any]:
    """Return the `last.ckpt` of a ModelCheckpoint whose best is `name` in `folder`."""
    noted = {"best_model_path": str(folder / name), "dirpath": str(folder), "best_model_score": torch.tensor(0.5)}
    callbacks = {"Mine": {"best_model_path": str(folder / "mine.ckpt"), "dirpath": str(folder)}, "Best": noted}
    return {**state(9), "callbacks": {**callbacks, "Recorder": {"best": None, **recorder}}}


@pytest.mark.parametrize("name", ["best.ckpt", "epoch=7-val/loss=4.5.ckpt", "a/b/c=1.ckpt"])
def test_the_best_weights_are_found_under_any_name_also_where_the_run_was_moved(tmp_path: Path, name: str) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    write_checkpoint(state(4), before / name)
    write_checkpoint(state(2), before / "mine.ckpt")
    write_checkpoint(noting(before, name, keeper={"key": "Best", "mode": "max"}), before / LAST)
    before.rename(after)
    kept = best_checkpoint(after)
    assert (kept.path, kept.mode, kept.value) == (after / name, "max", 0.5)
    kept.path.unlink()
    with pytest.raises(RunFailed) as raised:
        best_checkpoint(after)
    assert (raised.value.fault.code, raised.value.fault.file) == ("checkpoint.missing", str(after / name))


def test_without_a_checkpoint_that_chooses_the_last_weights_are_kept_and_an_older_run_is_read(tmp_path: Path) -> None:
    for name, step in (("mine.ckpt", 2), ("best.ckpt", 4)):
        write_checkpoint(state(step), tmp_path / name)
    write_checkpoint(noting(tmp_path, "best.ckpt", keeper={}), tmp_path / LAST)
    assert best_checkpoint(tmp_path).path == tmp_path / LAST
    write_checkpoint(noting(tmp_path, "best.ckpt"), tmp_path / LAST)
    assert best_checkpoint(tmp_path).path == tmp_path / "mine.ckpt"
