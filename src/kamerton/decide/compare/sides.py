"""What is compared: score tables found by path or glob, grouped into sides by configuration.

A run directory or an evaluation has `scores/<split>.parquet`, a cross-validation one of all folds; a score table
stands for itself; a sweep for its best trial. Runs whose configurations differ in the seed alone are one side. Nothing
is left out silently.
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
from kamerton.decide.compare.side_names import side_names
from kamerton.errors import Fault, UserError
from kamerton.files import load_yaml
from kamerton.run.changes import flatten, is_free
from kamerton.score.table import read_scores

BASE = "base"
OUT_OF_FOLD = "out_of_fold"  # the score table of a cross-validation
# Beside what a resumed run may change: none of it makes a side.
_IGNORED = ("seed", "name", "threads")


@dataclass(frozen=True, slots=True)
class Scored:
    """One model's score table, and what is known of where it came from.

    `trained` is False for what has no seed, such as a base model. `out_of_fold` is a cross-validation: every example
    was scored by a model that was trained without it.
    """

    path: Path
    table: pa.Table
    config: dict[str, Any] = field(default_factory=dict)
    record: dict[str, Any] = field(default_factory=dict)
    trained: bool = True
    out_of_fold: bool = False

    @property
    def seed(self) -> int | None:
        seed = self.config.get("seed")
        return seed if isinstance(seed, int) and self.trained else None


@dataclass(frozen=True, slots=True)
class Group:
    """The runs of one side, in the order of their seeds."""

    name: str
    runs: tuple[Scored, ...]

    @property
    def first(self) -> pa.Table:
        """The table whose single examples are shown."""
        return self.runs[0].table

    @property
    def trained(self) -> bool:
        return all(run.trained for run in self.runs)


def find(entries: Sequence[str], split: str) -> tuple[list[Scored], list[Notice]]:
    """The score tables that the entries name; raises `UserError` with every entry that names none.

    A folder without scores that only a glob or a parent folder matched is left out, and said.
    """
    found: dict[Path, Scored] = {}
    faults, notices = [], []
    if not entries:
        faults.append(Fault("runs.none", "runs is empty", "name what to compare: runs=[outputs/trec/*]", column="runs"))
    for entry in entries:
        paths, named = _paths(entry)
        scored = [(path, _load(path, split)) for path in paths if path.resolve() not in found]
        for path, one in scored:
            if isinstance(one, Scored):
                found[path.resolve()] = one
            elif named:
                faults.append(replace(one, file=str(path), column="runs"))
            elif (path / "run.json").exists():
                notices.append(Notice("runs.left-out", f"{path} is left out: {one.message}", one.fix))
        if not paths or (not named and not any(path.resolve() in found for path in paths)):
            message = f"{entry!r} names no run with scores of the {split} split"
            fix = f"give run directories, evaluations or score tables; a run is scored when it ends (split={split})"
            faults.append(Fault("runs.none", message, fix, column="runs"))
    if faults:
        raise UserError(faults)
    return list(found.values()), notices


def _paths(entry: str) -> tuple[list[Path], bool]:
    """The places that an entry means, and whether it names one itself."""
    if glob.has_magic(entry) and not Path(entry).exists():
        matched = [Path(path) for path in sorted(glob.glob(entry, recursive=True))]
        return [one for path in matched for one in (_winners(path) if is_sweep(path) else [path])], False
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
    """Whether it is the directory of a sweep."""
    return (path / "sweep.json").is_file()


def _winners(sweep: Path) -> list[Path]:
    """The scored runs of a sweep's best trial (of several objectives: of the Pareto front), trained anew if that was
    asked for; one for each seed or fold.
    """
    found = []
    for best in _mapping(sweep / "sweep.json").get("best", []):
        tried = [sweep / folder / str(best["directory"]) for folder in ("final", "trials")]
        found += next((runs for folder in tried if (runs := _scored_in(folder))), [])
    return found


def _scored_in(folder: Path) -> list[Path]:
    """The folder itself or those right below it, whichever have scores."""
    return sorted(scores.parent for scores in (folder / "scores", *folder.glob("*/scores")) if scores.is_dir())


def _load(path: Path, split: str) -> Scored | Fault:
    if path.suffix == ".parquet":
        untrained = path.stem == BASE or path.parent.name == "baselines"
        return read_table(path, Scored(path, pa.table({}), trained=not untrained))
    files = [path / "scores" / f"{name}.parquet" for name in (split, *([OUT_OF_FOLD] if split == "test" else []))]
    file = next((each for each in files if each.exists()), None)
    if file is None:
        return _unscored(path, split)
    evaluation = _mapping(path / "evaluation.json")
    run = Path(evaluation.get("run") or path)  # an evaluation of a run was trained as that was
    trained = split != BASE and bool(not evaluation or evaluation.get("run"))
    config = _as_asked(_mapping(path / "config.yaml"), evaluation.get("asked") or {})
    one = Scored(path, pa.table({}), config, _mapping(run / "run.json"), trained, file.stem == OUT_OF_FOLD)
    return read_table(file, one)


def _as_asked(config: dict[str, Any], asked: Mapping[str, Any]) -> dict[str, Any]:
    """A run's configuration with how an evaluation scored it: another way of scoring is another side."""
    if not config or not asked:
        return config
    checkpoint = {"checkpoint": Path(asked["checkpoint"]).name} if asked.get("checkpoint") else {}
    return {**config, "score": asked.get("score") or config.get("score"), **checkpoint}


def _unscored(path: Path, split: str) -> Fault:
    there = sorted(one.stem for one in (path / "scores").glob("*.parquet"))
    has = f"; it has {', '.join(there)}" if there else ""
    state = _mapping(path / "run.json").get("state")
    fix = f"give split=… one of these: {', '.join(there)}" if there else "let the run finish, or evaluate it"
    return Fault("runs.no-scores", f"no scores of the {split} split{has} (state: {state or 'no run'})", fix)


def read_table(file: Path, one: Scored) -> Scored | Fault:
    """`one` with the score table of a file, or why it cannot be read."""
    try:
        return replace(one, table=read_scores(file))
    except UserError as error:
        return error.faults[0]


def _mapping(file: Path) -> dict[str, Any]:
    """A JSON or YAML file's mapping; empty where there is none."""
    try:
        found = (json.loads if file.suffix == ".json" else load_yaml)(file.read_text("utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return found if isinstance(found, dict) else {}


def group(runs: Sequence[Scored]) -> tuple[list[Group], list[Notice]]:
    """Runs of one configuration together, named by what tells them apart; a seed that comes twice counts once."""
    groups: dict[str, list[Scored]] = {}
    notices = []
    for run in runs:
        members = groups.setdefault(_key(run), [])
        same = next((other for other in members if run.seed is not None and run.seed == other.seed), None)
        if same is not None:
            message = f"{run.path} is left out: {same.path} has this configuration and seed already"
            notices.append(Notice("runs.repeated", message, "a run repeated with the same seed tells nothing new"))
        else:
            members.append(run)
    ordered = [sorted(members, key=lambda run: (run.seed is None, run.seed or 0)) for members in groups.values()]
    return [Group(name, tuple(members)) for name, members in zip(_names(ordered), ordered, strict=True)], notices


def _key(run: Scored) -> str:
    if not run.config or not run.trained:
        return str(run.path.resolve())
    return json.dumps(_settings(run.config), sort_keys=True, default=str)


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """What of a configuration makes one side: all but the seed, and what changes no result."""
    return {key: value for key, value in flatten(config).items() if not is_free(key) and key not in _IGNORED}


def _names(groups: Sequence[Sequence[Scored]]) -> list[str]:
    paths = [[run.path for run in runs] for runs in groups]
    return side_names(paths, [_settings(runs[0].config) for runs in groups])


def told_apart(groups: Sequence[Group]) -> list[Group]:
    """The same groups, no two of one name: the baseline may have got its name apart from the candidates."""
    names = [one.name for one in groups]
    twice = [at for at, one in enumerate(groups) if names.count(one.name) > 1 and one.trained]
    found = list(groups)
    for at, name in zip(twice, _names([groups[at].runs for at in twice]), strict=True):
        found[at] = replace(groups[at], name=name)
    return found
