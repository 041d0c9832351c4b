"""`kamerton evaluate`: evaluate a run, checkpoint, model or hosted model on any data."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from kamerton.config.command import run_command
from kamerton.config.compose import compose_values
from kamerton.config.jobs import JobRequest, JobResult
from kamerton.console import plain_console
from kamerton.errors import Fault
from kamerton.score.options import ROOT, EvaluateOptions, check_given

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from kamerton.score.evaluation import Evaluation


def evaluate_command(arguments: Sequence[str]) -> int:
    """Run `kamerton evaluate` and return its exit code."""
    defaults: dict[str, Any] = {}  # composed before Hydra runs: inside a job of a sweep it cannot compose
    job, preflight = partial(_evaluate, defaults=defaults), partial(_preflight, defaults=defaults)
    return run_command(arguments, job, preflight, root=ROOT)


def _preflight(values: dict[str, Any], sections: Collection[str], *, defaults: dict[str, Any]) -> list[Fault]:
    del sections
    if values.get("model") and not defaults:
        defaults.update(compose_values(["model=tiny", "data=jsonl"]))
    faults = check_given(values)
    if (values.get("lm_eval") or {}).get("tasks"):
        from kamerton.score.harness import check_harness

        faults += check_harness()
    return faults


def _evaluate(request: JobRequest[EvaluateOptions], *, defaults: dict[str, Any]) -> JobResult:
    from kamerton.quiet import quiet_training
    from kamerton.score.evaluation import run_evaluation

    quiet_training()
    console = plain_console()
    evaluation = run_evaluation(request.options, request.values, request.unresolved, defaults, console)
    _print_evaluation(console, evaluation)
    metrics = {name: value for name, value in evaluation.metrics.items() if value is not None}
    return JobResult(None, metrics, evaluation.path)


def _print_evaluation(console: Console, result: Evaluation) -> None:
    """Print the metrics with intervals, a better scoring method, the harness's results, and the written paths."""
    from rich.markup import escape
    from rich.table import Table

    from kamerton.decide.compare.calls import unjudged
    from kamerton.decide.compare.other_scoring import better_scoring
    from kamerton.score.preferences import rows_word, shown_metrics
    from kamerton.score.table import read_scores
    from kamerton.words import bounds_text, number

    metrics = {name: value for name, value in result.metrics.items() if value is not None}
    if metrics:
        scores = read_scores(result.path / "scores" / "test.parquet")
        table = Table("metric", title=f"{escape(result.title)}: {result.rows:,} {rows_word(scores)}; 95 % intervals")
        table.add_column("value", justify="right")
        for name, shown in shown_metrics(scores, metrics).items():
            value = metrics[name]
            table.add_row(shown, number(value) + bounds_text(result.intervals.get(name)).replace("[", "\\["))
        console.print(table)
        seen = _seen_in_training(result.path) if result.is_other_data else None
        for text in filter(None, (seen, unjudged(scores))):
            console.print(text, style="yellow", highlight=False, markup=False, soft_wrap=True)
        other = better_scoring(scores)
        if other is not None:
            console.print(other.message, style="yellow", highlight=False, markup=False)
            console.print(f"    fix: {other.fix(None)}", style="yellow", highlight=False, markup=False, soft_wrap=True)
    for task, values in result.tasks.items():
        numbers = [f"{key.partition(',')[0]} {value:.4g}" for key, value in values.items() if isinstance(value, float)]
        console.print(f"lm_eval {task}: {', '.join(numbers)}", highlight=False)
    for title, name in (("scores", "scores"), ("record", "evaluation.json")):
        if (result.path / name).exists():
            console.print(f"{title:<7}{result.path / name}", highlight=False, markup=False, soft_wrap=True)


def _seen_in_training(evaluation: Path) -> str | None:
    """Return how many test examples the evaluated run was trained on, or why that is unknown; None if on none."""
    from kamerton.decide.compare.configurations import find_scores
    from kamerton.decide.compare.leakage import training_of

    (run,), _ = find_scores([str(evaluation)], "test")
    training = training_of(run)
    if training.prepared is None:
        return f"whether the run was trained on some of these examples is unchecked: {training.unknown}"
    ids = set(run.table["example_id"].to_pylist())
    if not (seen := len(ids & set(training.prepared.splits["train"].ids.to_pylist()))):
        return None
    return f"the run was trained on {seen:,} of these {len(ids):,} examples, so its numbers are too good"
