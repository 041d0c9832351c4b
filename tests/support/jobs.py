"""Following a job in a test."""

from __future__ import annotations

import asyncio

from kamerton import TrainingJob

SMALL = ("base=false", "baselines=false", "model.export=null", "logger=csv", "trainer.accelerator=cpu", "threads=1")


async def at_step(job: TrainingJob, step: int) -> None:
    """Wait until a job has logged so many steps: `run.json` is up to a second late."""
    rows = job.path / "metrics.csv"
    async with asyncio.timeout(600):
        while job.status.is_active and not (rows.exists() and len(rows.read_text().splitlines()) > step):
            await asyncio.sleep(0.02)
    assert job.status.state == "running", (job.status, (job.path / "log.txt").read_text())
