"""What the candidates are compared with: the base model, a baseline that runs keep, one of the runs, or a table."""

from __future__ import annotations

import glob
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from kamerton.decide.compare.comparison import Notice
from kamerton.decide.compare.side_names import short
from kamerton.decide.compare.sides import BASE, Group, Scored, find, group, read_table
from kamerton.errors import Fault, UserError
from kamerton.score.baselines import NAMES, table_path


def choose_baseline(baseline: str, groups: Sequence[Group], split: str) -> tuple[Group, list[Group], list[Notice]]:
    """The baseline and the candidates.

    `baseline` is `base`, `majority`, `tfidf` or `previous`, a path or glob (of several seeds), a run's id or a side's
    name.
    """
    if baseline == BASE and not Path(BASE).exists():
        return _base_of(groups, split), list(groups), []
    if baseline in NAMES and not Path(baseline).exists():
        return _kept_by(groups, baseline), list(groups), []
    for one in groups:
        if baseline == one.name or any(_is_called(run, baseline) for run in one.runs):
            return one, [other for other in groups if other is not one], []
    if Path(baseline).exists() or glob.has_magic(baseline):
        found, notices = find([baseline], split)
        (side, *more), repeated = group(found)
        if more:
            names = ", ".join(one.name for one in (side, *more))
            fault = Fault("baseline.several", f"baseline={baseline} holds several models: {names}", "name one of them")
            raise UserError([replace(fault, column="baseline")])
        same = next((one for one in groups if _paths(one) == _paths(side)), side)  # by the name that it has among them
        return same, [one for one in groups if not _paths(one) <= _paths(side)], [*notices, *repeated]
    known = ", ".join([BASE, *NAMES, *(one.name for one in groups)])
    message = f"there is no baseline {baseline!r}"
    raise UserError([Fault("baseline.unknown", message, f"give a path, or one of: {known}", column="baseline")])


def _paths(side: Group) -> set[Path]:
    return {run.path.resolve() for run in side.runs}


def _is_called(run: Scored, name: str) -> bool:
    return name in (run.path.name, short(run.path)) or (Path(name).exists() and Path(name).samefile(run.path))


def _base_of(groups: Sequence[Group], split: str) -> Group:
    """The untouched model that the runs began with; raises `UserError` where there is none, or more than one."""
    bases = list(_bases(groups, split))
    models = {json.dumps([run.config.get("model", {}).get(key) for key in ("name", "revision")]) for run in bases}
    if len(models) == 1:
        return Group(BASE, (replace(bases[0], trained=False),))
    if models:
        names = ", ".join(sorted(models))
        fault = Fault("baseline.several", f"the runs began with different base models: {names}", _NAME_IT)
    else:
        fault = Fault("baseline.none", f"no run has scores of its base model on the {split} split", _NAME_IT)
    raise UserError([replace(fault, column="baseline")])


def _kept_by(groups: Sequence[Group], name: str) -> Group:
    """A baseline that the runs keep a score table of; raises `UserError` where none does, or they keep different ones.

    All runs on the same examples have the same majority and TF-IDF tables, unless they learnt from other examples.
    """
    runs = [run for one in groups for run in one.runs if table_path(run.path, name).exists()]
    loaded = [read_table(table_path(run.path, name), replace(run, trained=False)) for run in runs]
    if faults := [one for one in loaded if isinstance(one, Fault)]:
        raise UserError(faults)
    tables = [one for one in loaded if isinstance(one, Scored)]
    if not tables:
        message = f"no run has a score table of the baseline {name}"
        fix = f"train with baselines=true (majority and tfidf need labels), or {_NAME_IT}"
        raise UserError([Fault("baseline.none", message, fix, column="baseline")])
    sorted_tables = [one.table.sort_by("example_id") for one in tables]  # of other examples, more is said later
    same = [table for table in sorted_tables if table["example_id"].equals(sorted_tables[0]["example_id"])]
    if any(not table["predicted_label"].equals(same[0]["predicted_label"]) for table in same):
        message = f"the runs keep different tables of the baseline {name}"
        fix = f"name one: baseline={table_path(runs[0].path, name)}"
        raise UserError([Fault("baseline.several", message, fix, column="baseline")])
    return Group(name, (replace(tables[0], path=table_path(runs[0].path, name)),))


_NAME_IT = "name the baseline: baseline=RUN, or baseline=RUN/scores/base.parquet"


def _bases(groups: Sequence[Group], split: str) -> Iterator[Scored]:
    for run in (run for one in groups for run in one.runs):
        file = run.path / "scores" / f"{BASE}.parquet"
        if split == "test" and file.exists():
            loaded = read_table(file, run)
            if isinstance(loaded, Fault):
                raise UserError([loaded])
            yield loaded
