"""The report of one run as a single HTML file, as Markdown and as JSON.

    run directory ──▶ RunFiles ──▶ contents (plain values) ──▶ report.html, report.md, report.json

Only the run directory is read, so a report can be rewritten at any time, also for a run that stopped early.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from kamerton import words
from kamerton.decide.report import rewards, verdict
from kamerton.decide.report.metric_tables import Row, baseline_metrics, baseline_table, metric_table
from kamerton.decide.report.pairs import margin_histogram, pair_contents, reward_curves
from kamerton.decide.report.run_files import RunFiles, configuration, read_run
from kamerton.decide.report.samples import sampled
from kamerton.decide.report.scored_rows import call_table, class_table, confusion_figure, example_lists
from kamerton.report import charts
from kamerton.report.pages import moment, plain, sentence, write_pages
from kamerton.run.record import State
from kamerton.score.intervals import RESAMPLES
from kamerton.words import duration, early_ending

STATES = {
    "succeeded": "finished",
    "failed": "failed",
    "cancelled": "was cancelled",
    "paused": "is paused",
    "running": "was still running when this report was written",
    "queued": "has not begun",
    "validating_files": "has not begun",
}


def write_report(run_dir: Path, *, state: State | None = None) -> Path:
    """Write `report.html`, `report.md` and `report.json` into the run directory and return the path of the first.

    `state` replaces the recorded state, if the record is not up to date yet. The report names missing or damaged files.
    The same run directory gives the same report. Raises `UserError` if `run_dir` is not a directory.
    """
    run = read_run(run_dir, state=state)
    figures = {
        "loss": charts.loss_curves(run.curves),
        "scores": charts.score_curves(run.curves),
        "learning_rate": charts.learning_rate_curve(run.curves),
        "confusion": confusion_figure(run.tuned),
        "rewards": reward_curves(run.curves),
        "margins": margin_histogram(run.tuned),
        **rewards.reward_figures(run.curves),
        "histogram": rewards.reward_histogram(run.tuned, run.base),
    }
    return write_pages(run_dir, "kamerton.decide", "run", contents(run), figures)


def contents(run: RunFiles) -> dict[str, Any]:
    """Return everything the templates show, as plain values."""
    rows, remarks = metric_table(run)
    metrics = run.record.metrics
    return {
        **common_contents(run, rows, remarks, verdict.headline(run, rows)),
        "comparison": verdict.comparison(run, rows),
        "splits": {
            _split_title(split, metrics[split]): {
                words.title(name): value for name, value in metrics[split].items() if name != "step"
            }
            for split in ("train", "validation", "best")
            if metrics.get(split)
        },
        "train_points": len(charts.series(run.curves, "train/loss")[0]),
        "logged": charts.logged(run.curves),
        "key_facts": _key_facts(run),
        "training_rewards": rewards.training_rows(run.curves),
        **({"samples": sampled(run.path)} if rewards.learns_rewards(run.curves) else {}),
        **rewards.reward_contents(run.tuned, run.base),
        **_task_contents(run),
    }


def _split_title(split: str, metrics: Mapping[str, Any]) -> str:
    """Return the split with the step of its metrics, if that is known."""
    return f"{split}, step {metrics['step']:,}" if metrics.get("step") is not None else split


def _task_contents(run: RunFiles) -> dict[str, Any]:
    """Return the metrics of the test set `score.data` and their sentence; {} if it was not scored."""
    files = run.on_task()
    if files is None or files.tuned is None:
        return {}
    rows, _ = metric_table(files)
    text, tone = verdict.headline(files, rows)
    data = (run.config.get("score") or {}).get("data") or "score.data"
    return {"task": {"rows": rows, "headline": text, "tone": tone, "data": data, "total": files.tuned.num_rows}}


def common_contents(run: RunFiles, rows: list[Row], remarks: list[str], headline: tuple[str, str]) -> dict[str, Any]:
    """Return what the reports of runs and of cross-validations share; `headline` is a sentence and its tone."""
    baselines = baseline_table(run)
    return {
        "run": {"absent": run.absent, "events": run.events},
        "record": run.values,
        "data": _without_empty(run.values.get("data")),
        "title": title_of(run),
        "state": state_sentence(run),
        "headline": headline[0],
        "tone": headline[1],
        "cautions": [*remarks_on_training(run), *verdict.cautions(run, rows)],
        "rows": rows,
        "baselines": baselines,
        "baseline_metrics": baseline_metrics(
            baselines, ("accuracy", "f1", "loss", "ece"), ("loss", "perplexity", "token_accuracy")
        ),
        "remarks": remarks,
        "resamples": RESAMPLES,
        "classes": class_table(run),
        "examples": example_lists(run),
        **call_table(run),
        **pair_contents(run.tuned),
        **configuration(run),
        "many_labels": charts.MAX_COUNTS,
    }


def _without_empty(value: Any) -> Any:
    """Return a nested value without empty entries, and without fold settings if there are no folds."""
    if not isinstance(value, dict):
        return value
    no_folds = "folds" in value and value["folds"] is None
    dropped = {"folds", "fold", "held_out"} if no_folds else set()
    kept = {key: _without_empty(inner) for key, inner in value.items() if key not in dropped}
    return {key: inner for key, inner in kept.items() if inner not in (None, {}, [])}


def title_of(run: RunFiles) -> str:
    """Return the experiment and the run; for a fold also its cross-validation."""
    path, record = run.path.resolve(), run.record
    name = record.run_id or path.name
    name = f"{record.parent} · fold {name}" if record.parent and record.fold is not None else name
    return f"{record.experiment or path.parent.name} · {name}"


def state_sentence(run: RunFiles) -> str | None:
    """Return a sentence about the state of a run; None if it succeeded."""
    record = run.record
    state = record.state
    if state == "succeeded":
        return None
    if state is None:
        reason = run.absent.get("run.json", "the file run.json has no state")
        return f"{sentence(reason)} So it is unknown how the run ended."
    progress = record.progress
    text = f"This run {STATES.get(state, f'is in the state {state}')}"
    if progress.step is not None:
        text += f", at step {progress.step:,} of {progress.steps or '?'}"
    reason = f": {record.error.message}" if record.error and record.error.message else ""
    return f"{text}{reason}. This report covers what it wrote until then."


def remarks_on_training(run: RunFiles) -> list[str]:
    """Return remarks on a training that stopped before its last step, or did not change the model."""
    ended = None if run.record.state == "cancelled" else run.record.ended  # the state sentence reports it
    early = early_ending(ended and ended.model_dump())
    unchanged = [str(event.get("message")) for event in run.events if event.get("code") == "nothing-learnt"]
    return [sentence(text) for text in (early, *unchanged[-1:]) if text]


def _key_facts(run: RunFiles) -> list[tuple[str, str]]:
    """Return the facts under the headline: name and value."""
    record = run.record
    model, progress, times, speed = record.model, record.progress, record.times, record.throughput.tokens_per_s
    trainable, parameters = model.trainable_parameters, model.parameters
    share = f" ({trainable / parameters:.2%})" if trainable and parameters else ""
    step, steps = progress.step, progress.steps
    is_complete = step is None or steps is None or step == steps
    hosted, spent = record.hosted, record.hosted.training_dollars
    commit, changes = record.git.commit[:12], " + changes" if record.git.dirty else ""
    facts = {
        "model": model.name,
        "parameters": plain(parameters),
        "trained": f"{plain(trainable)}{share}",
        "steps": plain(step) if is_complete else f"{plain(step)} of {plain(steps)}",
        "epochs": plain(progress.epoch),
        "duration": elapsed(times.started, times.finished),
        "speed": f"{plain(speed)} tokens/s" if speed else None,
        "seed": plain(record.seed),
        "started": moment(times.started),
        "commit": f"{commit}{changes}" if commit else None,
        "tuned model": hosted.fine_tuned_model,
        "job": hosted.job_id,
        "endpoint": hosted.base_url,
        "trained tokens": plain(hosted.trained_tokens),
        "training cost": None if spent is None else f"${spent:,.4f}, by the list price",
    }
    return [(name, str(value)) for name, value in facts.items() if value not in (None, "", "–")]


def elapsed(start: Any, end: Any) -> str | None:
    """Return the time between two ISO 8601 times, e.g. `4 min 12 s`; None if one is missing or malformed."""
    try:
        difference = datetime.fromisoformat(str(end)) - datetime.fromisoformat(str(start))
    except (ValueError, TypeError):
        return None
    return duration(difference.total_seconds())
