"""The report of one run: everything a reader needs to judge it, in one HTML file and one Markdown file.

    run directory ──▶ RunFiles ──▶ contents (plain values) ──▶ report.html, report.md

Only the run directory is read, so a report can be written again at any time, and of a run that stopped early.
report.html loads nothing: plotly.js, figures and styles are inside; a content security policy forbids the
rest.
"""

from __future__ import annotations

import math
import re
import shlex
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import yaml
from markupsafe import Markup

from kamerton.decide import charts, verdict
from kamerton.decide.examples import SHOWN, changed, is_right, worst
from kamerton.decide.run_files import RunFiles, read_run
from kamerton.decide.statistics import RESAMPLES, joined
from kamerton.errors import UserError
from kamerton.files import write_text
from kamerton.score.metrics import confusion, is_labelled, per_class

STATES = {
    "succeeded": "finished",
    "failed": "failed",
    "cancelled": "was cancelled",
    "paused": "is paused",
    "running": "was still running when this report was written",
    "queued": "has not begun",
    "validating_files": "has not begun",
}
_MARKDOWN_MARKUP = re.compile(r"[\\`*|~]|(?<!\w)_|_(?!\w)|(?<=\])\(")


def write_report(run_dir: Path, *, state: str | None = None) -> Path:
    """Write `report.html` and `report.md` into the run directory and return the path of the first.

    `state` is the run's state where its record does not say so yet. A missing or damaged part of the run directory
    becomes a sentence in the report. The same run directory gives the same report. Raises `UserError` when `run_dir`
    is not a directory.
    """
    from plotly.offline import get_plotlyjs

    run = read_run(run_dir)
    run.record.update({} if state is None else {"state": state})
    values = contents(run)
    page = _environment(autoescape=True).get_template("run.html.j2")
    text = _environment(autoescape=False, finalize=_markdown).get_template("run.md.j2")
    write_text(run_dir / "report.md", text.render(values))
    html = page.render(values, figures=_figures(run), plotly_js=get_plotlyjs())
    write_text(run_dir / "report.html", html)
    return run_dir / "report.html"


def contents(run: RunFiles) -> dict[str, Any]:
    """Everything the templates show, as plain values."""
    rows, remarks = verdict.metric_table(run)
    sentence, tone = verdict.headline(run, rows)
    return {
        "run": run,
        "record": run.record,
        "title": _title(run),
        "state": _state(run),
        "headline": sentence,
        "tone": tone,
        "comparison": verdict.comparison(run, rows),
        "cautions": verdict.cautions(run, rows),
        "rows": rows,
        "remarks": remarks,
        "resamples": RESAMPLES,
        "splits": _splits(run),
        "train_points": sum("train/loss" in row for row in run.curves),
        "logged": {name for row in run.curves for name in row},
        "key_facts": _key_facts(run),
        "classes": _classes(run),
        "examples": _examples(run),
        "command": None if "overrides.yaml" in run.absent else shlex.join(["kamerton", "train", *run.overrides]),
        "many_labels": charts.MOST_COUNTS,
        "config": yaml.safe_dump(run.config, sort_keys=False, allow_unicode=True) if run.config else None,
    }


def _title(run: RunFiles) -> str:
    path = run.path.resolve()
    return f"{run.record.get('experiment') or path.parent.name} · {run.record.get('run_id') or path.name}"


def _state(run: RunFiles) -> str | None:
    """A sentence about a run that did not simply succeed."""
    record = run.record
    state = record.get("state")
    if state == "succeeded":
        return None
    if state is None:
        reason = run.absent.get("run.json", "the file run.json names no state")
        return f"{_sentence(reason)} So it is unknown how the run ended."
    progress, error = record.get("progress") or {}, record.get("error") or {}
    sentence = f"This run {STATES.get(state, f'is in the state {state}')}"
    if progress.get("step") is not None:
        sentence += f", at step {progress['step']:,} of {progress.get('steps') or '?'}"
    reason = f": {error['message']}" if error.get("message") else ""
    return f"{sentence}{reason}. What follows is what it wrote until then."


def _key_facts(run: RunFiles) -> list[tuple[str, str]]:
    """The facts under the headline."""
    record = run.record
    model, progress, git = (record.get(name) or {} for name in ("model", "progress", "git"))
    speed, times = record.get("throughput") or {}, record.get("times") or {}
    trained, whole = model.get("trainable_parameters"), model.get("parameters")
    commit, changes = str(git.get("commit") or "")[:12], " + changes" if git.get("dirty") else ""
    facts = {
        "model": model.get("name"),
        "parameters": plain(whole),
        "trained": f"{plain(trained)} ({trained / whole:.2%})" if trained and whole else plain(trained),
        "steps": plain(progress.get("step")),
        "epochs": plain(progress.get("epoch")),
        "duration": _duration(times.get("started"), times.get("finished")),
        "speed": f"{plain(speed['tokens_per_s'])} tokens/s" if speed.get("tokens_per_s") else None,
        "seed": plain(record.get("seed")),
        "started": moment(times.get("started")),
        "commit": f"{commit}{changes}" if commit else None,
    }
    return [(name, str(value)) for name, value in facts.items() if value not in (None, "", "–")]


def _splits(run: RunFiles) -> dict[str, dict[str, float]]:
    """The metrics of training and validation as run.json has them, by split."""
    metrics = run.record.get("metrics") or {}
    return {name: metrics[name] for name in ("train", "validation", "best") if metrics.get(name)}


def _classes(run: RunFiles) -> dict[str, Any]:
    """The per-class table and the most frequent confusions, or why there are none."""
    if run.tuned is None:
        return {"absent": _no_scores(run)}
    if not is_labelled(run.tuned):
        return {"absent": "The test examples have no labels, so there are no classes to compare."}
    labels, matrix = confusion(run.tuned)
    errors = np.where(np.eye(len(labels), dtype=bool), 0, matrix)
    order = np.argsort(-errors, axis=None, kind="stable")[:SHOWN]
    pairs = [divmod(int(cell), len(labels)) for cell in order if errors.flat[cell]]
    confused = [{"true": labels[i], "predicted": labels[j], "count": int(matrix[i, j])} for i, j in pairs]
    return {"rows": per_class(run.tuned), "confused": confused}


def _examples(run: RunFiles) -> dict[str, Any]:
    """Worst examples and changes against the base model, or why there are none."""
    if run.tuned is None:
        return {"absent": _no_scores(run)}
    found: dict[str, Any] = {
        "wrong": int((~is_right(run.tuned)).sum()),
        "total": run.tuned.num_rows,
        "worst": worst(run.tuned),
        "labelled": is_labelled(run.tuned),
    }
    if run.base is None:
        return found | {"changed_absent": _sentence(run.absent["scores/base.parquet"])}
    try:
        return found | changed(*joined(run.base, run.tuned))
    except UserError:
        return found | {"changed_absent": "The two score tables do not hold the same examples."}


def _no_scores(run: RunFiles) -> str:
    return _sentence(run.absent["scores/test.parquet"])


def _figures(run: RunFiles) -> dict[str, str]:
    """The HTML of every figure that the run has data for."""
    found = {"loss": charts.loss_curves(run.curves), "learning_rate": charts.learning_rate_curve(run.curves)}
    if run.tuned is not None and is_labelled(run.tuned):
        found["confusion"] = charts.confusion_heatmap(*confusion(run.tuned))
    return {name: charts.to_html(figure, f"figure-{name}") for name, figure in found.items() if figure}


def _environment(**options: Any) -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("kamerton.decide"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        **options,
    )
    environment.tests.update(branch=is_branch, grid=is_grid)
    environment.filters.update(
        number=verdict.number,
        signed=verdict.signed,
        span=verdict.span,
        probability=verdict.probability,
        plain=plain,
        moment=moment,
        words=lambda name: str(name).replace("_", " "),
        sentence=_sentence,
        indented=_indented,
    )
    return environment


def _markdown(value: Any) -> Any:
    """Data as one line of Markdown: markup and HTML in it are escaped; text marked safe passes."""
    if isinstance(value, Markup):
        return value
    text = " ".join(str(value).split()).replace("&", "&amp;").replace("<", "&lt;")
    return _MARKDOWN_MARKUP.sub(r"\\\g<0>", text)


def _indented(text: str) -> Markup:
    """Lines of a Markdown code block."""
    return Markup("\n".join(f"    {line}" for line in text.splitlines()))


def plain(value: Any) -> str:
    """A value for a table cell: four significant digits, but whole numbers in full; – for nothing."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) or (isinstance(value, float) and (value.is_integer() or abs(value) >= 1000)):
        return f"{value:,.0f}"
    return f"{value:,.4g}" if isinstance(value, float) else str(value)


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."


def is_branch(value: Any) -> bool:
    """Whether nested facts need a heading and a table of their own: a mapping, or a list of mappings."""
    if isinstance(value, list):
        return bool(value) and all(isinstance(item, dict) for item in value)
    return isinstance(value, dict) and bool(value)


def is_grid(value: Any) -> bool:
    """Whether nested facts are best read as a table: mappings of plain values, under two names or more."""
    columns = list(value.values()) if isinstance(value, dict) else []
    return len(columns) > 1 and all(
        isinstance(column, dict) and not any(isinstance(item, dict) for item in column.values()) for column in columns
    )


def moment(time: Any) -> str | None:
    """An ISO 8601 time as `2026-11-22 08:00:05 UTC`; anything else as it is."""
    try:
        return f"{datetime.fromisoformat(str(time)).astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    except ValueError:
        return None if time is None else str(time)


def _duration(start: Any, end: Any) -> str | None:
    """Time between two ISO 8601 times, such as `4 min 12 s`."""
    try:
        passed = datetime.fromisoformat(str(end)) - datetime.fromisoformat(str(start))
    except (ValueError, TypeError):
        return None
    seconds = round(passed.total_seconds())
    hours, minutes = seconds // 3600, seconds // 60 % 60
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds % 60} s"
