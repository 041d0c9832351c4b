"""`TrainingMonitor`: what a job's metrics say while it trains and afterwards. Reads run directories, nothing else.

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
from kamerton.jobs.store import JobStatus, find, read_status, record_of

if TYPE_CHECKING:
    import pyarrow as pa

    from kamerton.data.validation import ValidationResult
    from kamerton.jobs.evaluate import EvaluationResult
    from kamerton.monitor import Issue
    from kamerton.monitor.series import Setting

Row = tuple[int, Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class TrainingMetrics:
    """A job's metrics at one moment. What was not logged yet is None.

    `loss` (nats a target token), `perplexity` and `token_accuracy` (the share of target tokens that are right; also
    called `accuracy`) are those of the latest optimizer step; `validation` holds the latest of the validation split.
    The accuracy of labels is known when the test split is scored: `EvaluationMetrics.accuracy`. `epoch_progress` counts
    epochs (1.5: in the middle of the second), `examples` is `{processed, total}` of the whole run. `rows`
    are all steps.
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
        """The accuracy of the latest step's target tokens, not of labels: another name of `token_accuracy`."""
        return self.token_accuracy


class TrainingMonitor:
    """Follows the jobs below `root`; any number of monitors may follow one job."""

    def __init__(self, root: str | Path = "outputs") -> None:
        self.root = Path(root).expanduser().absolute()

    async def track_metrics(self, job_id: str) -> TrainingMetrics:
        """The metrics at this moment. Raises `UserError` for an unknown job."""
        path = find(self.root, job_id)
        return await asyncio.to_thread(_read, path, read_status(path))

    async def stream_metrics(self, job_id: str, every_s: float = 0.5) -> AsyncIterator[TrainingMetrics]:
        """The metrics whenever there are new ones, until the job ends or is paused; the last come in any case.

        They are looked for every `every_s` seconds; of a run of very many steps less often will do.
        """
        path, seen = find(self.root, job_id), -1
        while True:
            status = read_status(path)  # before the rows: what is written last is not missed
            size = _size(path / "metrics.csv")
            if size != seen or not status.is_active:
                seen = size
                yield await asyncio.to_thread(_read, path, status)
            if not status.is_active:
                return
            await asyncio.sleep(every_s)

    def detect_issues(self, metrics: TrainingMetrics) -> list[Issue]:
        """Every problem that the metrics show, in the order of its steps: code, severity, message, evidence, advice."""
        from kamerton.monitor.detect import find_issues

        return [] if metrics.setting is None else find_issues(metrics.rows, metrics.setting)

    def validate_results(self, predictions: pa.Table | str | Path | EvaluationResult) -> ValidationResult:
        """Whether answers are sound at all: a score table, its file, a run directory with one, or an evaluation.

        Raises `UserError` for a file that is no score table.
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
        """Write the report of a job, also of one that still trains or failed; returns the path of its HTML page."""
        from kamerton.decide.report.cross_validation import write_cross_report
        from kamerton.decide.report.run import write_report

        path = find(self.root, job_id)
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
    """What detectors must know of the run; None before its steps are counted."""
    from kamerton.monitor.series import Setting
    from kamerton.train.schedule import warmup_length

    if not steps:
        return None
    config: dict[str, Any] = load_yaml((path / "config.yaml").read_text(encoding="utf-8"))
    schedule = config.get("scheduler") or {}
    known = (record_of(path).get("schedule") or {}).get("warmup_steps")
    warmup = (
        warmup_length(steps, schedule.get("warmup_steps"), schedule.get("warmup_ratio")) if known is None else known
    )
    return Setting(steps, config.get("clip_norm"), warmup)


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0
