"""`TrainingMonitor`: follow a job's metrics during and after training. Only reads run directories.

monitor = TrainingMonitor(root="outputs")
async for metrics in monitor.stream_metrics(job.id):
    for issue in monitor.detect_issues(metrics):
        print(issue.message, issue.advice)
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kamerton.files import load_yaml
from kamerton.jobs.locate import find_run
from kamerton.jobs.store import JobStatus, read_status, record_of

if TYPE_CHECKING:
    import pyarrow as pa

    from kamerton.data.validation import ValidationResult
    from kamerton.jobs.results import EvaluationResult
    from kamerton.monitor import Issue
    from kamerton.monitor.series import Setting

Row = tuple[int, Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class TrainingMetrics:
    """A job's metrics at one moment; None if not logged yet.

    Args:
        job_id, state, step: the job and its position.
        loss, token_accuracy, perplexity: of the target tokens of the latest optimizer step. The accuracy of labels is
            known when the test split is scored: `EvaluationMetrics.accuracy`.
        learning_rate: of the latest step.
        epoch_progress: epochs so far (1.5: half of the second one).
        examples: `processed` and `total` of the run.
        validation: the latest metrics of the validation split.
        tokens_per_s: training speed.
        rows: all logged steps.
        setting: what detectors need to know of the run.

    Example:
        >>> import asyncio
        >>> from kamerton import TrainingMonitor
        >>> metrics = asyncio.run(TrainingMonitor("outputs").track_metrics("trec/ID"))
        >>> metrics.step, metrics.accuracy == metrics.token_accuracy, metrics.loss > 0
        (4, True, True)
    """

    job_id: str
    state: str
    step: int
    loss: float | None = None
    token_accuracy: float | None = None
    perplexity: float | None = None
    learning_rate: float | None = None
    epoch_progress: float | None = None
    examples: Mapping[str, int] = field(default_factory=dict)
    validation: Mapping[str, float] = field(default_factory=dict)
    tokens_per_s: float | None = None
    rows: Sequence[Row] = field(default=(), repr=False)
    setting: Setting | None = field(default=None, repr=False)

    @property
    def accuracy(self) -> float | None:
        """Alias of `token_accuracy`: the accuracy of the latest step's target tokens, not of labels."""
        return self.token_accuracy


class TrainingMonitor:
    """Follow the jobs below `root`, while they train and afterwards; it reads run directories only.

    Args:
        root: the folder of all run directories.

    Example:
        >>> import asyncio
        >>> from kamerton import TrainingMonitor
        >>> async def main():
        ...     monitor = TrainingMonitor("outputs")
        ...     async for metrics in monitor.stream_metrics("trec/ID"):  # until the job ends
        ...         problems = {issue.code: issue.advice for issue in monitor.detect_issues(metrics)}
        ...     return "divergence" in problems, monitor.generate_report("trec/ID").name
        >>> asyncio.run(main())
        (False, 'report.html')
    """

    def __init__(self, root: str | Path = "outputs") -> None:
        self.root = Path(root).expanduser().absolute()

    async def track_metrics(self, job_id: str) -> TrainingMetrics:
        """Return the metrics at this moment. Raises `UserError` for an unknown job."""
        path = find_run(self.root, job_id)
        return await asyncio.to_thread(_read, path, read_status(path))

    async def stream_metrics(self, job_id: str, every_s: float = 0.5) -> AsyncIterator[TrainingMetrics]:
        """Yield the metrics whenever new ones are logged, checked every `every_s` seconds, until the job ends."""
        path, seen = find_run(self.root, job_id), -1
        file = path / "metrics.csv"
        while True:
            status = read_status(path)  # before the rows, so that the last ones are not missed
            size = file.stat().st_size if file.exists() else 0
            if size != seen or not status.is_active:
                seen = size
                yield await asyncio.to_thread(_read, path, status)
            if not status.is_active:
                return
            await asyncio.sleep(every_s)

    def detect_issues(self, metrics: TrainingMetrics) -> list[Issue]:
        """Return every problem that the metrics show, in the order of steps."""
        from kamerton.monitor.detect import find_issues

        return [] if metrics.setting is None else find_issues(metrics.rows, metrics.setting)

    def validate_results(self, predictions: pa.Table | str | Path | EvaluationResult) -> ValidationResult:
        """Check the answers of a score table, its file, a run directory, or an evaluation for defects.

        Raises:
            UserError: if the file is not a score table.
        """
        from kamerton.decide.compare.predictions import validate_results
        from kamerton.score.table import read_scores

        if isinstance(predictions, str | Path):
            path = Path(predictions)
            if path.is_dir():
                return validate_results(read_scores(path / "scores" / "test.parquet"), path)
            return validate_results(read_scores(path))
        return validate_results(getattr(predictions, "scores", predictions))

    def generate_report(self, job_id: str) -> Path:
        """Write the report of a job, also of a running or failed one, and return the path of its HTML page."""
        from kamerton.decide.report.cross_validation import write_cross_report
        from kamerton.decide.report.run import write_report

        path = find_run(self.root, job_id)
        return (write_cross_report if (path / "folds").is_dir() else write_report)(path)


def _read(path: Path, status: JobStatus) -> TrainingMetrics:
    from kamerton.monitor.series import read_table

    file = path / "metrics.csv"
    rows = read_table(file) if file.exists() else ()
    latest = rows.latest() if rows else {}
    lr = latest.get("lr", next((value for key, value in reversed(latest.items()) if key.startswith("lr-")), None))
    return TrainingMetrics(
        job_id=status.id,
        state=status.state,
        step=rows.last_step if rows else status.step or 0,
        loss=latest.get("train/loss"),
        token_accuracy=latest.get("train/token_accuracy"),
        perplexity=latest.get("train/perplexity"),
        learning_rate=lr,
        epoch_progress=status.epoch,
        examples=status.examples,
        validation=status.metrics.get("validation") or {},
        tokens_per_s=latest.get("perf/tokens_per_s"),
        rows=rows,
        setting=_setting(path, status.steps),
    )


def _setting(path: Path, steps: int | None) -> Setting | None:
    """Return the run's facts that detectors need; None before its number of steps is recorded."""
    from kamerton.monitor.series import Setting
    from kamerton.train.schedule import warmup_length

    if not steps:
        return None
    config: dict[str, Any] = load_yaml((path / "config.yaml").read_text(encoding="utf-8"))
    schedule = config.get("scheduler") or {}
    warmup = record_of(path).schedule.warmup_steps
    if warmup is None:
        warmup = warmup_length(steps, schedule.get("warmup_steps"), schedule.get("warmup_ratio"))
    objective = (config.get("objective") or {}).get("name", "sft")
    return Setting(steps, config.get("clip_norm"), warmup, objective)
