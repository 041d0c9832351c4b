"""`FineTuningManager`: train, evaluate and compare models from Python, in jobs that outlive the caller.

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
from typing import Literal

from hydra_plugins.kamerton._overrides import override
from kamerton.config.search import search_words, split_search
from kamerton.data.validation import ValidationResult
from kamerton.jobs.config import FineTuningConfig, compose_job, composing, data_overrides, to_overrides
from kamerton.jobs.control import as_job
from kamerton.jobs.data import DataParts, ProcessedData, Raw, process
from kamerton.jobs.evaluate import Data, compare, evaluate
from kamerton.jobs.job import TrainingJob
from kamerton.jobs.locate import find_run
from kamerton.jobs.results import EvaluationResult, Ranking
from kamerton.jobs.store import JobStatus, list_jobs, read_status
from kamerton.jobs.worker import start_worker
from kamerton.run.opening import claim_run


class FineTuningManager:
    """Start and control fine-tunes as jobs; every run directory below `root` is a job.

    Methods are coroutines: long work runs in threads and processes, so the event loop stays free.

    Args:
        root: the folder of all run directories.
        max_running: jobs that train at once on this machine; by default one for each GPU, or one. The others wait in
            the order of their start.

    Raises:
        UserError: by every method, with all faults of its arguments.

    Example:
        >>> import asyncio
        >>> from kamerton import FineTuningConfig, FineTuningManager
        >>> async def main():
        ...     manager = FineTuningManager(root="outputs")
        ...     data = await manager.prepare_data("questions.jsonl")
        ...     config = FineTuningConfig(model="tiny", epochs=1, overrides=["base=false"])
        ...     job = await manager.start_training(config, data.split([0.7, 0.15, 0.15]))
        ...     status = await job.wait()
        ...     return status.state
        >>> asyncio.run(main())
        'succeeded'
    """

    def __init__(self, root: str | Path = "outputs", max_running: int | None = None) -> None:
        if max_running is not None and max_running < 1:
            raise ValueError(f"max_running is {max_running}: at least one job must be able to run")
        self.max_running = max_running
        self.root = Path(root).expanduser().absolute()

    async def prepare_data(
        self, raw: Raw, rows: Literal["completions", "prompts", "preferences", "judgements"] | None = None
    ) -> ProcessedData:
        """Read, check and clean data.

        Args:
            raw: a path, `DataOptions`, rows as mappings, or `DataExample`s.
            rows: `completions`, `prompts` (alone, or with a completion, to train on rewards), `preferences`
                (completions of a prompt of which some are better) or `judgements` (completions that are desired or
                not); None: as in the options, by the scores of examples, else completions.

        Returns:
            `ProcessedData`; its faults are in `.validation`, none is raised.
        """
        return await asyncio.to_thread(process, raw, self.root, rows)

    async def validate_data(self, data: ProcessedData) -> ValidationResult:
        """Return every error and warning of the data."""
        return data.validation

    async def start_training(
        self, config: FineTuningConfig, data: DataParts | ProcessedData | None = None
    ) -> TrainingJob:
        """Queue a fine-tune and return at once; its process outlives this one.

        Args:
            config: the settings; everything is checked before the job starts.
            data: the data; None if `config.overrides` name them (`data=trec`).
        """
        return await asyncio.to_thread(self._start, config, data)

    async def monitor_progress(self, job_id: str) -> JobStatus:
        """Return state, step, ETA and latest metrics. `job_id` is an id, `experiment/id`, or a run directory."""
        return read_status(find_run(self.root, job_id))

    async def get_job(self, job_id: str) -> TrainingJob:
        """Return a job that was started earlier, here or elsewhere."""
        return TrainingJob(find_run(self.root, job_id))

    async def list_jobs(self) -> list[JobStatus]:
        """Return every run below the root, the newest first."""
        return list_jobs(self.root)

    async def evaluate_model(self, model_id: str, data: Data | None = None) -> EvaluationResult:
        """Score a model on a test set.

        Args:
            model_id: a job, an option of the group `model`, a name on the hub, or a folder.
            data: by default the test split of the job; else the test part of `DataParts` or `ProcessedData`, or every
                row of a file, a folder or rows, which are read as the data of the job (pairs for `method="dpo"`).

        Returns:
            Metrics with 95 % intervals, and the score table.
        """
        return await asyncio.to_thread(evaluate, self.root, model_id, data)

    async def compare_models(self, model_ids: Sequence[str], data: Data | None = None) -> Ranking:
        """Rank models on one test set, each with a tested verdict, and write a report to `<root>/comparisons/`.

        Args:
            model_ids: at least two models, as in `evaluate_model`.
            data: as in `evaluate_model`; by default that of the first job.
        """
        return await asyncio.to_thread(compare, self.root, model_ids, data)

    def _start(self, config: FineTuningConfig, data: DataParts | ProcessedData | None) -> TrainingJob:
        parts = data.split() if isinstance(data, ProcessedData) else data
        from_data = [] if parts is None else data_overrides(parts.data, parts.split)
        overrides = [*from_data, *to_overrides(config, None if parts is None else len(parts.train))]
        with composing:
            values = compose_job([*overrides, override("paths.outputs", str(self.root))], config.folder)
        run = claim_run(values, self.root / str(values["name"]))
        search, others = split_search([*search_words(config.folder, overrides), *overrides])
        start_worker(run, as_job(others, run.path), os.getcwd(), self.max_running, search)
        return TrainingJob(run.path)
