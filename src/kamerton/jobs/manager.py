"""`FineTuningManager`: from data in Python to trained, evaluated and compared models, by jobs that outlive the caller.

manager = FineTuningManager(root="outputs")
data = await manager.prepare_data("questions.jsonl")
if (await manager.validate_data(data)).is_valid:
    job = await manager.start_training(FineTuningConfig(model="smollm2", epochs=3), data.split([0.7, 0.15, 0.15]))
    await job.wait()
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

from hydra_plugins.kamerton._overrides import override
from kamerton.config.search import search_words, split_search
from kamerton.data.validation import ValidationResult
from kamerton.jobs.config import FineTuningConfig, checked, composing, data_overrides, to_overrides
from kamerton.jobs.control import as_job
from kamerton.jobs.data import DataParts, ProcessedData, Raw, process
from kamerton.jobs.evaluate import Data, EvaluationResult, Ranking, compare, evaluate
from kamerton.jobs.job import TrainingJob
from kamerton.jobs.store import JobStatus, find, list_jobs, read_status
from kamerton.jobs.worker import start_worker
from kamerton.run.opening import claim_run


class FineTuningManager:
    """Starts and steers fine-tunes; every run directory below `root` is a job of its.

    Its methods raise `UserError` with everything that is wrong with what they are given. Long work is done in threads
    and processes: the event loop stays free.

    At most `max_running` jobs below `root` train at once on this machine, by default one for each GPU, or one; the
    others wait in the order of their start, each job for as many GPUs as `trainer.devices` says.
    """

    def __init__(self, root: str | Path = "outputs", max_running: int | None = None) -> None:
        if max_running is not None and max_running < 1:
            raise ValueError(f"max_running is {max_running}: at least one job must be able to run")
        self.max_running = max_running
        self.root = Path(root).expanduser().absolute()

    async def prepare_data(self, raw: Raw) -> ProcessedData:
        """Read, check and clean rows, `DataExample`s, or the files at a path or of `DataOptions`.

        What is wrong with them is not raised: `validate_data` tells it.
        """
        return await asyncio.to_thread(process, raw, self.root)

    async def validate_data(self, data: ProcessedData) -> ValidationResult:
        """`is_valid`, and every error and warning of the data."""
        return data.validation

    async def start_training(
        self, config: FineTuningConfig, data: DataParts | ProcessedData | None = None
    ) -> TrainingJob:
        """Queue a fine-tune and return at once; its process outlives this one.

        Without `data`, `config.overrides` name them (`data=trec`). Everything is checked before.
        """
        return await asyncio.to_thread(self._start, config, data)

    async def monitor_progress(self, job_id: str) -> JobStatus:
        """The job's state, step, ETA and latest metrics. `job_id` is an id, `experiment/id`, or a run directory."""
        return read_status(find(self.root, job_id))

    async def get_job(self, job_id: str) -> TrainingJob:
        """A job that was started earlier, here or elsewhere."""
        return TrainingJob(find(self.root, job_id))

    async def list_jobs(self) -> list[JobStatus]:
        """Every run below the root, the newest first."""
        return list_jobs(self.root)

    async def evaluate_model(self, model_id: str, data: Data | None = None) -> EvaluationResult:
        """How good a model is: `accuracy`, `f1`, `precision`, `recall`, custom metrics, with intervals.

        `model_id` is a job's (or its id), an option of the group `model`, a name of the hub, or a folder. Without
        `data` it is the test split of what the job was trained on, else the test part of `data`, or every row of a
        file, a folder or rows: `data="rows.jsonl"`.
        """
        return await asyncio.to_thread(evaluate, self.root, model_id, data)

    async def compare_models(self, model_ids: Sequence[str], data: Data | None = None) -> Ranking:
        """The models from the best to the worst on one test set, each with a tested verdict.

        `data` is as in `evaluate_model`; by default that of the first job among them. The report is in
        `<root>/comparisons/`.
        """
        return await asyncio.to_thread(compare, self.root, model_ids, data)

    def _start(self, config: FineTuningConfig, data: DataParts | ProcessedData | None) -> TrainingJob:
        parts = data.split() if isinstance(data, ProcessedData) else data
        given = [] if parts is None else data_overrides(parts.data, parts.split)
        overrides = [*given, *to_overrides(config, None if parts is None else len(parts.train))]
        with composing:
            values = checked([*overrides, override("paths.outputs", str(self.root))], config.folder)
        run = claim_run(values, self.root / str(values["name"]))
        search, others = split_search([*search_words(config.folder, overrides), *overrides])
        start_worker(run, as_job(others, run.path), os.getcwd(), self.max_running, search)
        return TrainingJob(run.path)
