"""The report of a sweep: the best trial and how certain that is, the importance of parameters, savings of pruning.

study, run directories ──▶ contents (plain values) ──▶ report.html, report.md, report.json
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optuna import Study

from kamerton import words
from kamerton.mask import mask_text, masked
from kamerton.report.pages import plain, write_pages
from kamerton.run.directory import record_at
from kamerton.shell import command_line
from kamerton.sweep import charts
from kamerton.sweep.summary import Row, at_the_edge, distributions, importance, log_scaled, objectives, rows, saved
from kamerton.words import duration

if TYPE_CHECKING:
    from hydra_plugins.kamerton._results import Best, Finished

_TESTED = ("loss", "perplexity", "token_accuracy", "accuracy", "f1", "ece")
MOST_SLICES = 12  # of the most important parameters


def write_sweep_report(study: Study, end: Finished, commands: Sequence[str] = ()) -> Path:
    """Write report.html, report.md and report.json into the sweep's directory; return the path of the first.

    `commands` repeat the best trial.
    """
    trials, names = rows(study), objectives(study)
    titles = [_title(name) for name in names]
    shares = importance(study)
    values = contents(study, end, trials, names, list(commands), shares)
    logs = log_scaled(study)
    numeric = _slice_keys(list(distributions(study)), shares)
    has_one_objective = len(titles) == 1
    figures = {
        "history": charts.history(trials, titles[0], maximize=study.directions[0].name == "MAXIMIZE"),
        "reports": charts.reports(trials, titles[0]) if has_one_objective else None,
        "pareto": None if has_one_objective else charts.pareto(trials, titles),
        "importance": charts.bars(shares),
        **{f"slice-{i}": charts.slice_of(trials, key, titles[0], log=key in logs) for i, key in enumerate(numeric)},
        "parallel": charts.parallel(trials, numeric, titles[0], logs),
    }
    return write_pages(end.directory, "kamerton.sweep", "sweep", values, figures)


def contents(
    study: Study, end: Finished, trials: Sequence[Row], names: list[str], commands: list[str], shares: dict[str, float]
) -> dict[str, Any]:
    """Return everything that the templates show, as plain values."""
    definition, keys = study.user_attrs.get("sweep", {}), list(distributions(study))
    return {
        "title": f"{end.directory.parent.name} · {end.study_name}",
        "state": None,
        "headline": _headline(end, names),
        "tone": "good" if end.best else "open",
        "cautions": _cautions(study, end, trials),
        "key_facts": _key_facts(trials, definition, study.user_attrs.get("pruner")),
        "titles": [_title(name) for name in names],
        "keys": keys,
        "best": [_best(end, best) for best in end.best],
        "commands": commands,
        "trials": [_shown(row) for row in trials],
        "importance": shares,
        "slices": _slice_keys(keys, shares),
        "space": masked(dict(definition.get("space", {}))),
        "fixed": [mask_text(text.removeprefix("++")) for text in definition.get("fixed", [])],
        "saved": dict(zip(("done", "whole", "spared"), saved(trials), strict=True)),
        "unmeasured": sum(row.steps is None and row.outcome != "running" for row in trials),
    }


def _slice_keys(keys: Sequence[str], shares: dict[str, float]) -> list[str]:
    """Return the parameters to draw, by importance; those of unknown importance last."""
    return sorted(keys, key=lambda key: -shares.get(key, 0.0))[:MOST_SLICES]


def _title(name: str) -> str:
    more = {"seconds": "Seconds of training", "parameters": "Trained parameters"}
    return more.get(name) or words.TITLES.get(name, name)


def _headline(end: Finished, names: Sequence[str]) -> str:
    count = sum(end.outcomes.values())
    trials = f"{count} trial{'s' if count != 1 else ''}"
    if not end.best:
        return f"No trial is done: none of {trials} completed."
    if len(names) > 1:
        many = len(end.best) > 1
        what = " and ".join([", ".join(names[:-1]), names[-1]])
        front = f"{len(end.best)} of {trials} are" if many else f"One of {trials} is"
        return f"{front} best in {what}: no other trial beats {'them' if many else 'it'} in all."
    best = end.best[0]
    chosen = ", ".join(f"{key} {_value(value)}" for key, value in best.params.items())
    return f"Trial {best.number} is the best of {trials}: {names[0]} {_value(best.values[0])} with {chosen}."


def _cautions(study: Study, end: Finished, trials: Sequence[Row]) -> list[str]:
    cautions = []
    for key in sorted({key for best in end.best[:1] for key in at_the_edge(study, best.params)}):
        cautions.append(f"The best {key} is at a bound of its interval: better values may lie beyond it, so widen it.")
    failed = sum(row.outcome == "failed" for row in trials)
    if failed:
        cautions.append(f"{failed} trial{'s' if failed > 1 else ''} failed; the table has the reasons.")
    scored = {path.relative_to(end.directory).parts[1] for path in end.directory.glob("trials/**/scores/test.parquet")}
    scored |= {path.relative_to(end.directory).parts[1] for path in end.directory.glob("final/**/scores/test.parquet")}
    if len(scored) > 1:
        numbers = ", ".join(sorted(scored, key=int))
        text = (
            f"The test split was scored for trials {numbers}: do not select between these trials by their test score."
        )
        cautions.append(text)
    return cautions


def _key_facts(trials: Sequence[Row], definition: dict[str, Any], pruner: Any) -> list[tuple[str, str]]:
    done, planned, spared = saved(trials)
    counts = Counter(row.outcome for row in trials)
    facts = {
        "trials": ", ".join(f"{count} {name}" for name, count in counts.items()),
        "sampler": str(definition.get("sampler", "")).rpartition(".")[2],
        "pruner": str((pruner or {}).get("_target_", "")).rpartition(".")[2],
        "optimizer steps": f"{done:,} of {planned:,}" if spared else f"{done:,}" if done else "",
        "saved by pruning": f"{spared / planned:.0%}" if spared else "",
        "time in trials": duration(sum(row.seconds or 0 for row in trials)),
    }
    return [(name, value) for name, value in facts.items() if value]


def _best(end: Finished, best: Best) -> dict[str, Any]:
    """A best trial with its test metrics, if it was scored; of several seeds or folds those of each run."""
    tested = []
    for home in ("final", "trials"):
        folder = end.directory / home / str(best.original)
        for run in (folder, *sorted(path for path in folder.glob("*") if (path / "run.json").exists())):
            metrics = record_at(run).metrics if run.is_dir() else {}
            if "test" in metrics:
                named = [name for name in _TESTED if metrics["test"].get(name) is not None]
                values = {name: [metrics.get("base", {}).get(name), metrics["test"][name]] for name in named}
                tested.append({"run": str(run.relative_to(end.directory)), "metrics": values})
        if tested:
            break
    params = {key: _value(value) for key, value in best.params.items()}
    return {"number": best.number, "values": list(best.values), "params": params, "tested": tested}


def _shown(row: Row) -> dict[str, Any]:
    return {
        "number": row.number,
        "directory": f"trials/{row.directory}",
        "outcome": row.outcome if row.feasible else f"{row.outcome}, beyond its bounds",
        "best": row.best,
        "values": list(row.values),
        "last": None if row.values else row.last,
        "params": {key: _value(value) for key, value in row.params.items()},
        "validations": len(row.reports),
        "steps": list(row.steps) if row.steps else None,
        "seconds": None if row.seconds is None else round(row.seconds, 1),
        "error": None if row.error is None else mask_text(row.error),
    }


def _value(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else plain(value) if isinstance(value, int) else str(value)


def again(words: Sequence[str], search: Sequence[str] = ()) -> str:
    """The command that runs a trial again as an ordinary run, from the overrides of its job.

    `search` are the words that locate the user's own configuration files.
    """
    return command_line("train", *search, *(text.removeprefix("++") for text in words), "hydra.mode=RUN")
