"""Find the score tables to compare by path or glob, and group them by configuration.

Run directories and evaluations have `scores/<split>.parquet`, cross-validations one table of all folds; a score table
can be given directly, and a sweep means its best trial. Runs that differ only in their seed are one configuration.
Everything that is left out is reported.
"""

from __future__ import annotations

import glob
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import yaml

from kamerton.decide.compare.comparison import Notice
from kamerton.decide.compare.configuration_names import configuration_names
from kamerton.errors import Fault, UserError
from kamerton.files import load_yaml
from kamerton.run.changes import flatten, is_free
from kamerton.run.directory import record_at
from kamerton.run.record import Record
from kamerton.score.table import read_scores

BASE = "base"
OUT_OF_FOLD = "out_of_fold"  # the score table of a cross-validation
_IGNORED = ("seed", "name", "threads")  # like the keys that a resumed run may change, they distinguish nothing


@dataclass(frozen=True, slots=True)
class ScoredRun:
    """One model's score table with the configuration and record of its run, if there is one.

    `fingerprint` is that of the data it was trained with. `trained` is False for models without a seed, e.g. a base
    model. `out_of_fold` is True for a cross-validation: every example was scored by a model trained without it.
    """

    path: Path
    table: pa.Table
    config: dict[str, Any] = field(default_factory=dict)
    fingerprint: str | None = None
    trained: bool = True
    out_of_fold: bool = False

    @property
    def seed(self) -> int | None:
        seed = self.config.get("seed")
        return seed if isinstance(seed, int) and self.trained else None


@dataclass(frozen=True, slots=True)
class Group:
    """The scored runs of one configuration, ordered by seed."""

    name: str
    runs: tuple[ScoredRun, ...]

    @property
    def first(self) -> pa.Table:
        """The table whose single examples are shown."""
        return self.runs[0].table

    @property
    def trained(self) -> bool:
        return all(run.trained for run in self.runs)


def find_scores(entries: Sequence[str], split: str) -> tuple[list[ScoredRun], list[Notice]]:
    """Return the scored runs that the entries name, each once; raises `UserError` with every entry that names none.

    A run without scores that only a glob or a parent folder matches is left out and reported as a notice.
    """
    if not entries:
        fix = "name what to compare: runs=[outputs/trec/*]"
        raise UserError([Fault("runs.none", "runs is empty", fix, column="runs")])
    scored: dict[Path, ScoredRun] = {}
    faults: list[Fault] = []
    notices: list[Notice] = []
    for entry in entries:
        paths, is_explicit = _paths(entry)
        for path in paths:
            if path.resolve() in scored:
                continue
            run = _load(path, split)
            if isinstance(run, ScoredRun):
                scored[path.resolve()] = run
            elif is_explicit:
                faults.append(replace(run, file=str(path), column="runs"))
            elif (path / "run.json").exists():
                notices.append(Notice("runs.left-out", f"{path} is left out: {run.message}", run.fix))
        if not is_explicit and not any(path.resolve() in scored for path in paths):
            message = f"{entry!r} matches no run with scores of the {split} split"
            fix = f"give run directories, evaluations or score tables; finished runs have scores (split={split})"
            faults.append(Fault("runs.none", message, fix, column="runs"))
    if faults:
        raise UserError(faults)
    return list(scored.values()), notices


def _paths(entry: str) -> tuple[list[Path], bool]:
    """Return the paths that an entry means, and whether it is itself the path of something scored."""
    if glob.has_magic(entry) and not Path(entry).exists():
        matched = [Path(path) for path in sorted(glob.glob(entry, recursive=True))]
        return [run for path in matched for run in (_winners(path) if is_sweep(path) else [path])], False
    path = Path(entry)
    if is_sweep(path):
        return _winners(path), False
    if path.is_dir() and not (path / "scores").is_dir() and not (path / "run.json").exists():
        inside = sorted({scores.parent for scores in path.glob("*/scores") if scores.is_dir()})
        inside += sorted(path.glob("*.parquet"))
        if inside:
            return inside, False
    return ([path] if path.exists() else []), path.exists()


def is_sweep(path: Path) -> bool:
    """Return whether a path is the directory of a sweep."""
    return (path / "sweep.json").is_file()


def _winners(sweep: Path) -> list[Path]:
    """Return the scored runs of a sweep's best trial (with several objectives: of the Pareto front).

    There is one run per seed or fold, preferably the final training with the trial's settings.
    """
    runs: list[Path] = []
    for best in _mapping(sweep / "sweep.json").get("best", []):
        for kind in ("final", "trials"):
            folder = sweep / kind / str(best["directory"])
            scores = [path for path in (folder / "scores", *folder.glob("*/scores")) if path.is_dir()]
            if scores:
                runs += sorted(path.parent for path in scores)
                break
    return runs


def _load(path: Path, split: str) -> ScoredRun | Fault:
    """Return the run, evaluation or score table at `path` with its scores, or the fault that prevents it."""
    if path.suffix == ".parquet":
        untrained = path.stem in (BASE, f"task_{BASE}") or path.parent.name == "baselines"
        return read_table(path, ScoredRun(path, pa.table({}), trained=not untrained))
    names = [split, OUT_OF_FOLD] if split == "test" else [split]
    tables = {file.stem: file for file in sorted((path / "scores").glob("*.parquet"))}
    file = next((tables[name] for name in names if name in tables), None)
    if file is None:
        available = ", ".join(tables)
        state = _record(path).state or "no run"
        message = f"no scores of the {split} split{f'; it has {available}' if available else ''} (state: {state})"
        others = ", ".join(name for name in tables if not name.endswith(BASE))
        fix = f"set split to one of: {others}" if others else "let the run finish, or evaluate it"
        return Fault("runs.no-scores", message, fix)
    evaluation = _mapping(path / "evaluation.json")
    config = _mapping(path / "config.yaml")
    requested = evaluation.get("asked") or {}
    if config and requested:  # a run scored in another way is another configuration
        config |= {"score": requested.get("score") or config.get("score")}
        if requested.get("checkpoint"):
            config["checkpoint"] = Path(requested["checkpoint"]).name
    run = Path(evaluation.get("run") or path)
    trained = not split.endswith(BASE) and bool(not evaluation or evaluation.get("run"))
    scored = ScoredRun(path, pa.table({}), config, _record(run).data.fingerprint, trained, file.stem == OUT_OF_FOLD)
    return read_table(file, scored)


def read_table(file: Path, run: ScoredRun) -> ScoredRun | Fault:
    """Return `run` with the score table of `file`, or the fault that prevents reading it."""
    try:
        return replace(run, table=read_scores(file))
    except UserError as error:
        return error.faults[0]


def _record(run: Path) -> Record:
    """The record of a run; an empty one if it cannot be read."""
    try:
        return record_at(run)
    except UserError:
        return Record()


def _mapping(file: Path) -> dict[str, Any]:
    """Return the mapping of a JSON or YAML file; empty if it is missing or unreadable."""
    try:
        content = (json.loads if file.suffix == ".json" else load_yaml)(file.read_text("utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return content if isinstance(content, dict) else {}


def group_runs(runs: Sequence[ScoredRun]) -> tuple[list[Group], list[Notice]]:
    """Group runs by configuration and name the groups by their differences; a repeated seed is left out."""
    groups: dict[str, list[ScoredRun]] = {}
    notices = []
    for run in runs:
        key = str(run.path.resolve())
        if run.config and run.trained:
            key = json.dumps(_settings(run.config), sort_keys=True, default=str)
        members = groups.setdefault(key, [])
        same = next((member for member in members if run.seed is not None and run.seed == member.seed), None)
        if same is not None:
            message = f"{run.path} is left out: {same.path} has this configuration and seed already"
            notices.append(Notice("runs.repeated", message, "a run repeated with the same seed adds no information"))
        else:
            members.append(run)
    ordered = [sorted(members, key=lambda run: (run.seed is None, run.seed or 0)) for members in groups.values()]
    return [Group(name, tuple(members)) for name, members in zip(_names(ordered), ordered, strict=True)], notices


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that distinguish configurations: all but the seed and those that change no result."""
    return {key: value for key, value in flatten(config).items() if not is_free(key) and key not in _IGNORED}


def _names(groups: Sequence[Sequence[ScoredRun]]) -> list[str]:
    paths = [[run.path for run in runs] for runs in groups]
    return configuration_names(paths, [_settings(runs[0].config) for runs in groups])


def with_distinct_names(groups: Sequence[Group]) -> list[Group]:
    """Return the groups with unique names; the baseline may have been named apart from the candidates."""
    names = [group.name for group in groups]
    repeated = [index for index, group in enumerate(groups) if names.count(group.name) > 1 and group.trained]
    renamed = list(groups)
    for index, name in zip(repeated, _names([groups[index].runs for index in repeated]), strict=True):
        renamed[index] = replace(groups[index], name=name)
    return renamed
