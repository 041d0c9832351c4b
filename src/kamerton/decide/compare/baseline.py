"""Choose the baseline: the base model, a baseline that the runs have scored, one of the runs, or a score table."""

from __future__ import annotations

import glob
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from kamerton.decide.compare.comparison import Notice
from kamerton.decide.compare.configuration_names import short_name
from kamerton.decide.compare.configurations import BASE, Group, ScoredRun, find_scores, group_runs, read_table
from kamerton.decide.compare.options import located
from kamerton.errors import Fault, UserError
from kamerton.score.baselines import NAMES, table_path

_NAME_IT = "name the baseline: baseline=RUN, or baseline=RUN/scores/base.parquet"
_BASE_TABLES = {"test": BASE, "task": f"task_{BASE}"}  # the score table of the base model by split


def choose_baseline(
    baseline: str, groups: Sequence[Group], split: str, outputs: Path = Path("outputs")
) -> tuple[Group, list[Group], list[Notice]]:
    """Return the baseline, the candidates, and notices about what was left out.

    `baseline` is `base`, `majority`, `tfidf` or `previous`, a path or glob (of several seeds), the id of a run (a
    compared one, or one below `outputs`) or the name of a configuration. Raises `UserError` if it is unknown or
    ambiguous.
    """
    if baseline == BASE and not Path(BASE).exists():
        return _base_of(groups, split), list(groups), []
    if baseline in NAMES and not Path(baseline).exists():
        return _stored_baseline(groups, baseline), list(groups), []
    path = Path(baseline)
    for group in groups:
        names = {group.name, *(run.path.name for run in group.runs), *(short_name(run.path) for run in group.runs)}
        if baseline in names or (path.exists() and any(path.samefile(run.path) for run in group.runs)):
            return group, [other for other in groups if other is not group], []
    entry = located(baseline, outputs)
    if Path(entry).exists() or glob.has_magic(entry):
        runs, notices = find_scores([entry], split)
        (group, *others), repeated = group_runs(runs)
        if others:
            listed = ", ".join(each.name for each in (group, *others))
            message = f"baseline={baseline} contains several models: {listed}"
            raise UserError([Fault("baseline.several", message, "name one of them", column="baseline")])
        same = next((each for each in groups if _paths(each) == _paths(group)), group)  # keep the name it has there
        return same, [each for each in groups if not _paths(each) <= _paths(group)], [*notices, *repeated]
    choices = ", ".join([BASE, *NAMES, *(group.name for group in groups)])
    message = f"unknown baseline {baseline!r}"
    raise UserError([Fault("baseline.unknown", message, f"give a path, or one of: {choices}", column="baseline")])


def _paths(group: Group) -> set[Path]:
    return {run.path.resolve() for run in group.runs}


def _base_of(groups: Sequence[Group], split: str) -> Group:
    """Return the base model of the runs; raises `UserError` if there is none, or more than one."""
    bases = []
    for run in (run for group in groups for run in group.runs):
        file = run.path / "scores" / f"{_BASE_TABLES.get(split, '')}.parquet"
        if file.exists():
            base = read_table(file, run)
            if isinstance(base, Fault):
                raise UserError([base])
            bases.append(base)
    models = {json.dumps([run.config.get("model", {}).get(key) for key in ("name", "revision")]) for run in bases}
    if len(models) == 1:
        return Group(BASE, (replace(bases[0], trained=False),))
    if models:
        names = ", ".join(sorted(models))
        fault = Fault("baseline.several", f"the runs have different base models: {names}", _NAME_IT)
    else:
        fault = Fault("baseline.none", f"no run has scores of its base model on the {split} split", _NAME_IT)
    raise UserError([replace(fault, column="baseline")])


def _stored_baseline(groups: Sequence[Group], name: str) -> Group:
    """Return a baseline whose score table the runs contain; raises `UserError` if none does, or their answers differ.

    Runs on the same test examples have the same majority and TF-IDF tables unless their training examples differ.
    """
    runs = [run for group in groups for run in group.runs if table_path(run.path, name).exists()]
    loaded = [read_table(table_path(run.path, name), replace(run, trained=False)) for run in runs]
    if faults := [result for result in loaded if isinstance(result, Fault)]:
        raise UserError(faults)
    tables = [result for result in loaded if isinstance(result, ScoredRun)]
    if not tables:
        message = f"no run has a score table of the baseline {name}"
        fix = f"train with baselines=true (majority and tfidf need labels), or {_NAME_IT}"
        raise UserError([Fault("baseline.none", message, fix, column="baseline")])
    sorted_tables = [run.table.sort_by("example_id") for run in tables]  # different examples are reported later
    same = [table for table in sorted_tables if table["example_id"].equals(sorted_tables[0]["example_id"])]
    if any(not table["predicted_label"].equals(same[0]["predicted_label"]) for table in same):
        message = f"the runs have different tables of the baseline {name}"
        fix = f"name one: baseline={table_path(runs[0].path, name)}"
        raise UserError([Fault("baseline.several", message, fix, column="baseline")])
    return Group(name, (replace(tables[0], path=table_path(runs[0].path, name)),))
