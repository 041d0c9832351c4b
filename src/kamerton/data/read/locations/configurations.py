"""Configurations and splits of a data set of the hub, as its card describes them, or by the names of its files."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from kamerton.data.data_file import Subset
from kamerton.data.read.locations.addresses import Remote
from kamerton.data.read.locations.archives import split_of
from kamerton.data.read.locations.datasets import SPLITS, raw_name
from kamerton.data.read.locations.hub import matching
from kamerton.errors import Fault, UserError
from kamerton.files import load_yaml
from kamerton.shell import setting

CARD = "README.md"
MOST_NAMES = 8  # in a fix
Chosen = list[tuple[Remote, str | None]]
ByNames = Callable[[list[Remote]], tuple[Chosen, list[Fault]]]


def choose_subset(
    files: list[Remote], shown: str, key: str, subset: Subset, by_names: ByNames
) -> tuple[Chosen, list[Fault]]:
    """Return the files of a configuration and its splits, each with its split, and faults.

    `by_names` chooses from the files of a configuration that the card does not divide into splits.
    """
    configurations = read_card(files)
    if configurations:
        configuration = _configuration(configurations, shown, subset)
        splits = _splits_of(configuration, files, shown)
        if splits:
            return _of_splits(_wanted(splits, shown, subset), shown, key)
        folder = str(configuration.get("data_dir") or "").strip("/")
        files = [file for file in files if file.name.startswith(f"{folder}/")] if folder else files
    elif subset.config:
        folders = {part: None for file in files for part in PurePosixPath(file.name).parts[:-1]}
        _check_names([subset.config], folders, "config", shown)
        files = [file for file in files if subset.config in PurePosixPath(file.name).parts[:-1]]
    if not subset.splits:
        return by_names(files)
    names: dict[str, list[Remote]] = {}
    for file in files:
        path = Path(file.name)
        for name in {raw_name(path), path.parent.name} - {""}:
            names.setdefault(name, []).append(file)
    return _of_splits(_wanted(names, shown, subset), shown, key)


def read_card(files: list[Remote]) -> list[dict[str, Any]]:
    """Return the configurations that the card of a data set describes; none without a card."""
    card = next((file for file in files if file.name == CARD), None)
    if card is None:
        return []
    text = card.fetch().read_text(encoding="utf-8", errors="replace")
    head = re.match(r"---[ \t]*\r?\n(.*?)\n---", text, re.DOTALL)
    try:
        values = load_yaml(head[1]) if head else None
    except yaml.YAMLError as error:
        message = f"the head of the card cannot be read: {str(error).splitlines()[0]}"
        raise UserError([Fault("unreadable-file", message, "name the files in data.path", card.address)]) from None
    configurations = values.get("configs") if isinstance(values, dict) else None
    return [item for item in configurations if isinstance(item, dict)] if isinstance(configurations, list) else []


def _configuration(configurations: list[dict[str, Any]], shown: str, subset: Subset) -> dict[str, Any]:
    """Return the configuration that is chosen, or the only or default one."""
    by_name = {str(item.get("config_name", "default")): item for item in configurations}
    if subset.config:
        _check_names([subset.config], by_name, "config", shown)
        return by_name[subset.config]
    marked = [name for name, item in by_name.items() if item.get("default") is True] or [*({"default"} & {*by_name})]
    if len(by_name) == 1 or marked:
        return by_name[(marked or list(by_name))[0]]
    message = f"the data set has several configurations: {', '.join(by_name)}"
    choices = " or ".join(setting("data.config", name) for name in list(by_name)[:MOST_NAMES])
    raise UserError([Fault("missing-file", message, f"choose one of them: {choices}", shown, column="data.config")])


def _check_names(chosen: Sequence[str], names: Iterable[str], key: str, shown: str) -> None:
    """Raise `UserError` for what a data set does not have."""
    unknown = [name for name in chosen if name not in names]
    if unknown:
        message = f"the data set has no {'split' if key == 'split' else 'configuration'} {unknown[0]!r}"
        choices = " or ".join(setting(f"data.{key}", name) for name in list(names)[:MOST_NAMES])
        fix = f"choose one of them: {choices}" if choices else f"leave out data.{key}"
        raise UserError([Fault("missing-file", message, fix, shown, column=f"data.{key}")])


def _splits_of(configuration: dict[str, Any], files: list[Remote], shown: str) -> dict[str, list[Remote]]:
    """Return the files of each split that a configuration names."""
    splits: dict[str, list[Remote]] = {}
    folder = str(configuration.get("data_dir") or "").strip("/")
    for name, patterns in _patterns(configuration.get("data_files")):
        for pattern in patterns:
            matches = matching(files, f"{folder}/{pattern}" if folder else pattern)
            if not matches:
                message = f"no file matches {pattern!r}, which the card names for the split {name!r}"
                raise UserError([Fault("missing-file", message, "name the files in data.path", shown)])
            present = splits.setdefault(name, [])
            present += [file for file in matches if file not in present]
    return splits


def _patterns(data_files: Any) -> list[tuple[str, list[str]]]:
    """Return the patterns of each split: of a text or a list, those of `train`."""
    if isinstance(data_files, dict):
        return [(str(name), _texts(value)) for name, value in data_files.items()]
    if isinstance(data_files, list) and all(isinstance(item, dict) for item in data_files):
        return [(str(item.get("split", "train")), _texts(item.get("path"))) for item in data_files]
    return [("train", texts)] if (texts := _texts(data_files)) else []


def _texts(value: Any) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list) else [str(value)] if value else []


def _wanted(splits: dict[str, list[Remote]], shown: str, subset: Subset) -> dict[str, list[Remote]]:
    _check_names(subset.splits, splits, "split", shown)
    return {name: splits[name] for name in subset.splits} if subset.splits else splits


def _of_splits(splits: dict[str, list[Remote]], shown: str, key: str) -> tuple[Chosen, list[Fault]]:
    """Return the files of named splits as train, validation and test; those of a single split are to be split."""
    if len(splits) == 1:
        return [(file, None) for files in splits.values() for file in files], []
    by_split: dict[str | None, list[str]] = {}
    for name in splits:
        by_split.setdefault(split_of(name), []).append(name)
    others = by_split.pop(None, [])
    message = f"the data set has the splits {', '.join(splits)}"
    if key != "data.path":
        fix = f"{setting('data.path', shown)} keeps them; or name the files in {key}"
        return [], [Fault("missing-file", message, fix, shown, column=key)]
    if "train" not in by_split or any(len(names) > 1 for names in by_split.values()):
        first = [by_split[split][0] for split in SPLITS if split in by_split] if "train" in by_split else [*splits][:1]
        value = first[0] if len(first) == 1 else f"[{','.join(first)}]"
        fix = f"choose one, or one for each purpose: {shlex.quote(f'data.split={value}')}"
        return [], [Fault("missing-file", message, fix, shown, column="data.split")]
    chosen: Chosen = [(file, split) for split, (name,) in by_split.items() for file in splits[name]]
    if not others:
        return chosen, []
    message = f"not read in this data set: the splits {', '.join(others)}"
    fix = f"nothing, if that is intended; else read one of them: {setting('data.split', others[0])}"
    return chosen, [Fault("not-read", message, fix, shown, severity="warning")]
