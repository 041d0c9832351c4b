"""Jobs in real processes: started, left alone, watched, paused, killed, resumed, stopped."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import torch

from kamerton import FineTuningConfig, FineTuningManager, TrainingJob
from kamerton.cli import main
from kamerton.errors import UserError
from kamerton.locks import last_owner
from kamerton.run.opening import LOCK
from support.jobs import SMALL, at_step
from support.nursery import children
from support.ports import free_port
from support.runs import record, weights
from support.warm import Starter

START = """
import asyncio, sys
from kamerton import FineTuningConfig, FineTuningManager

async def start():
    manager = FineTuningManager(root=sys.argv[1])
    data = await manager.prepare_data(sys.argv[2])
    config = FineTuningConfig(model="tiny", batch_size=2, learning_rate=1e-3, overrides=sys.argv[3:])
    print((await manager.start_training(config, data.split([0.7, 0.15, 0.15]))).path)

asyncio.run(start())
"""
pytestmark = pytest.mark.anyio
SAVES = ("save.strategy=steps", "save.every=20")
# A loaded machine may look at a job much later than it began.
STAYS = (*SMALL, *SAVES, "callbacks.early_stopping=null", "trainer.max_epochs=10000")
ENDLESS = (*STAYS, "trainer.max_steps=-1", "eval.every=500")


@pytest.mark.slow
async def test_a_job_survives_its_caller_and_its_own_crashes(
    manager: FineTuningManager, animals: Path, tmp_path: Path, warm: Starter, warm_jobs: None
) -> None:
    """Its starter exits; others pause, resume and kill it; its weights equal those of an uninterrupted run.

    No machine is too fast for it: it has no last step before the shell gives it one.
    """
    caller = ["-c", START, str(manager.root), str(animals), *ENDLESS]
    path = Path(warm.finish(*caller, "scheduler=constant", "scheduler.warmup_steps=10").splitlines()[-1])
    job, other = await manager.get_job(path.name), await FineTuningManager(manager.root).get_job(str(path))
    await asyncio.gather(at_step(job, 10), at_step(other, 10))  # two watch it
    with pytest.raises(UserError, match="is running"):
        await other.resume()

    assert (await other.pause()).state == "paused"
    paused_at = job.status.step
    assert job.status.error is None
    await job.resume()
    assert job.status.is_active
    await at_step(job, (paused_at or 0) + 10)

    os.kill(last_owner(path / LOCK).pid or 0, signal.SIGKILL)
    killed = await job.wait(600)
    assert killed.state == "failed"
    assert killed.error is not None
    assert "killed by SIGKILL: most likely it ran out of memory" in killed.error["message"]

    rows = len((path / "metrics.csv").read_text().splitlines())
    await job.resume()
    await at_step(job, rows)
    assert job.status.error is None
    assert (await job.pause()).state == "paused"
    overrides = [text for text in record(path)["job"]["overrides"] if not text.startswith(("run_id=", "paths."))]
    overrides.append(f"trainer.max_steps={(job.status.step or 0) + 5}")
    again = (f"run_id={path.name}", f"paths.outputs={manager.root}", "resume=force")
    assert main(["train", *overrides, *again]) == 0
    assert (await job.wait(600)).state == "succeeded"
    with pytest.raises(UserError, match="is finished"):
        await job.resume()
    codes = [event["code"] async for event in job.events()]
    assert codes.count("resumed") == 3
    assert {"interrupted", "failed"} <= set(codes)

    assert main(["train", *overrides, "run_id=one-go", f"paths.outputs={tmp_path}"]) == 0
    reference = weights(tmp_path / path.parent.name / "one-go")
    for name, weight in weights(path).items():
        assert torch.equal(weight, reference[name]), name


@pytest.mark.slow
async def test_stop_saves_a_checkpoint_and_an_unresponsive_run_is_killed(
    start: Callable[..., Awaitable[TrainingJob]], warm_jobs: None
) -> None:
    """Two jobs may run at once; a third one waits, and can be stopped while waiting."""
    stopped, deaf, third = [await start(*ENDLESS, f"seed={seed}") for seed in (1, 2, 3)]
    await asyncio.gather(at_step(stopped, 3), at_step(deaf, 22))
    assert third.status.state == "queued"
    assert (await third.stop()).state == "cancelled"
    assert not (third.path / "metrics.csv").exists()
    os.kill(last_owner(deaf.path / LOCK).pid or 0, signal.SIGSTOP)
    states = await asyncio.gather(stopped.stop(), deaf.stop(grace_s=0.5))
    assert [status.state for status in states] == ["cancelled", "cancelled"]
    for job in (stopped, deaf):
        assert (job.path / "checkpoints" / "last.ckpt").exists()
        assert record(job.path)["times"]["finished"] is not None
        assert (await job.stop()).state == "cancelled"  # once more changes nothing
        assert (await job.wait(1)).is_finished


@pytest.mark.slow
async def test_a_job_over_two_processes_is_paused_resumed_and_killed_as_one(
    start: Callable[..., Awaitable[TrainingJob]], monkeypatch: pytest.MonkeyPatch, warm_jobs: None
) -> None:
    monkeypatch.setenv("MASTER_PORT", str(free_port()))
    job = await start(*ENDLESS, "trainer=ddp", "trainer.devices=2")
    await at_step(job, 3)
    assert (await job.pause()).state == "paused"
    paused_at = job.status.step or 0
    await job.resume()
    await at_step(job, paused_at + 3)
    first = last_owner(job.path / LOCK).pid
    (second,) = children(first or 0)
    os.kill(first or 0, signal.SIGKILL)
    assert (await job.wait(600)).state == "failed"
    async with asyncio.timeout(600):
        while is_alive(second):
            await asyncio.sleep(0.02)


def is_alive(pid: int) -> bool:
    """Whether a process is more than a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.slow
async def test_an_error_before_training_is_the_recorded_reason(
    start: Callable[..., Awaitable[TrainingJob]], animals: Path
) -> None:
    """Its processes start as a shell would start them; those of the other tests are warm."""
    job = await start(*SMALL)
    animals.unlink()  # before its process looks at it
    status = await job.wait(600)
    assert status.state == "failed"
    assert status.error is not None
    assert "there is no such file" in status.error["message"]


async def test_nothing_is_started_that_cannot_run(manager: FineTuningManager, animals: Path) -> None:
    data = await manager.prepare_data(animals)
    assert (await manager.validate_data(data)).is_valid
    with pytest.raises(UserError) as error:
        await manager.start_training(FineTuningConfig(model="tiny", learning_rate=-1, batch_size=0), data)
    assert {fault.column for fault in error.value.faults} == {"optimizer.lr", "batch.size"}
    assert await manager.list_jobs() == []
