"""`TrainingJob`: follow, stop, pause and resume one job. It has no state; every call reads the run directory."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from kamerton.errors import UserError
from kamerton.jobs import control
from kamerton.jobs.store import JobStatus, read_status
from kamerton.run.directory import read_events


class TrainingJob:
    """A run that trains in its own process. It has no state: every answer is read from the run directory.

    Args:
        path: the run directory.

    Example:
        >>> import asyncio
        >>> from kamerton import FineTuningManager
        >>> job = asyncio.run(FineTuningManager("outputs").get_job("trec/ID"))
        >>> job.id, asyncio.run(job.wait()).state
        ('ID', 'succeeded')
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __repr__(self) -> str:
        try:
            state = self.status.state
        except UserError:  # such as a directory that was deleted
            state = "unreadable"
        return f"TrainingJob({str(self.path)!r}, state={state!r})"

    @property
    def id(self) -> str:
        """The id of the run."""
        return self.path.name

    @property
    def model_id(self) -> str:
        """The identifier of the tuned model: its run directory."""
        return str(self.path)

    @property
    def status(self) -> JobStatus:
        """The current status of the job."""
        return read_status(self.path)

    async def wait(self, timeout_s: float | None = None) -> JobStatus:
        """Return the status when the job has ended or is paused.

        Raises:
            TimeoutError: if that takes longer than `timeout_s` seconds.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while (status := self.status).is_active:
            if deadline is not None and time.monotonic() >= deadline:
                raise TimeoutError(f"run {self.id} is {status.state} after {timeout_s} s")
            await asyncio.sleep(control.POLL_S)
        return status

    async def stop(self, grace_s: float = control.GRACE_S) -> JobStatus:
        """Save a checkpoint and cancel; a job that takes longer than `grace_s` seconds is killed. It can be resumed."""
        return await control.end_run(self.path, "cancelled", grace_s)

    async def pause(self, grace_s: float = control.GRACE_S) -> JobStatus:
        """Save a checkpoint and pause; `resume` continues."""
        return await control.end_run(self.path, "paused", grace_s)

    async def resume(self, *, trust: bool = False) -> None:
        """Continue from the last checkpoint, to the same result as without an interruption.

        Args:
            trust: allow code that the overrides name (`allow_targets`, `model.trust_remote_code`), and another current
                folder than the job was started in.

        Raises:
            UserError: if the job is finished or running.
        """
        await asyncio.to_thread(control.resume, self.path, trust=trust)

    async def events(self, *, follow: bool = True) -> AsyncIterator[dict[str, Any]]:
        """Yield `{time, level, code, message, evidence, advice}` from the first; with `follow` until the job ends."""
        offset = 0
        while True:
            active = self.status.is_active  # before reading the events, so that none is missed
            events, offset = read_events(self.path, offset)
            for event in events:
                yield event
            if not (follow and active):
                return
            await asyncio.sleep(control.POLL_S)
