"""One job, in the hand of whoever wants to follow or end it. It holds no state: every answer is read anew."""

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
    """A run that trains in a process of its own; `path` is its run directory.

    States: `queued`, `validating_files`, `running`, `paused`, `succeeded`, `failed`, `cancelled`.
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
        """The run's id."""
        return self.path.name

    @property
    def model_id(self) -> str:
        """What names the tuned model: its run directory."""
        return str(self.path)

    @property
    def status(self) -> JobStatus:
        """The job at this moment."""
        return read_status(self.path)

    async def wait(self, timeout_s: float | None = None) -> JobStatus:
        """The job when it has ended or is paused; raises `TimeoutError` where that takes longer."""
        end = None if timeout_s is None else time.monotonic() + timeout_s
        while (status := self.status).is_active:
            if end is not None and time.monotonic() >= end:
                raise TimeoutError(f"run {self.id} is {status.state} after {timeout_s} s")
            await asyncio.sleep(control.POLL_S)
        return status

    async def stop(self, grace_s: float = control.GRACE_S) -> JobStatus:
        """Cancel it: it saves a checkpoint and ends, and is killed after `grace_s` seconds. It can be resumed."""
        return await control.end(self.path, "cancelled", grace_s)

    async def pause(self, grace_s: float = control.GRACE_S) -> JobStatus:
        """Let it save and end for now; `resume` goes on with it."""
        return await control.end(self.path, "paused", grace_s)

    async def resume(self, *, trust: bool = False) -> None:
        """Go on from the last checkpoint, to the result it would have had without a break.

        `trust` lets the code run that its overrides name (`allow_targets`, `model.trust_remote_code`), and lets it be
        read in another folder than the current one. Raises `UserError` where it is finished or at work.
        """
        await asyncio.to_thread(control.resume, self.path, trust=trust)

    async def events(self, *, follow: bool = True) -> AsyncIterator[dict[str, Any]]:
        """`{time, level, code, message, evidence, advice}`, from the first on; with `follow` until the job ends."""
        place = 0
        while True:
            active = self.status.is_active  # before the events are read: none is missed
            found, place = read_events(self.path, place)
            for event in found:
                yield event
            if not (follow and active):
                return
            await asyncio.sleep(control.POLL_S)
