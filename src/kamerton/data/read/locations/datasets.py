"""Folders of the `datasets` library and snapshots of the Hugging Face hub: their files, each with its split.

`save_to_disk` writes a folder with `state.json` and Arrow files for a data set, and a folder with `dataset_dict.json`
and a data set for each split. A snapshot has files such as `data/train-00000-of-00002.parquet`, for several
configurations in a folder each.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path

from kamerton.data.read.files.detect import data_format, is_documentation, is_text_name
from kamerton.data.read.locations.archives import split_of
from kamerton.data.read.locations.label_folders import label_fault
from kamerton.data.read.locations.parallel import parallel_fault
from kamerton.errors import Fault
from kamerton.shell import setting

SPLITS = ("train", "validation", "test")
DESCRIPTIONS = ("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json")
MAX_DEPTH = 3  # of the subfolders of a snapshot
_SHARD = re.compile(r"[-_.]?\d{4,5}(-of-\d{4,5})?(-\w+)?$")

Part = tuple[Path, str | None]  # a file and its split
Found = tuple[list[Part], list[Fault]]


def dataset_files(folder: Path, key: str, format: str) -> Found | None:
    """Return the files of a folder of `datasets` or a snapshot of the hub, and faults; None for other folders.

    `key` is the setting that names the folder; `format` that of its files, or `auto`.
    """
    saved = sorted(path.parent for path in folder.glob("*/state.json"))
    if format not in ("auto", "arrow") and (saved or (folder / "state.json").is_file()):
        return None
    if (folder / "state.json").is_file():
        return _saved_files(folder)
    if saved:
        groups = {path.name: _saved_files(path) for path in saved}
        files = {name: [path for path, _ in parts] for name, (parts, _) in groups.items()}
        faults = [fault for _, missing in groups.values() for fault in missing]
        parts, more = _with_splits(folder, key, files, {name: str(folder / name) for name in files})
        return parts, faults + more
    if any(_is_data(path, "auto") for path in _files(folder, 0)):
        return None  # an ordinary folder
    return _snapshot_files(folder, key, format)


def _saved_files(folder: Path) -> Found:
    """Return the Arrow files of a data set in the order in which it lists them."""
    try:
        names = [entry["filename"] for entry in json.loads((folder / "state.json").read_bytes())["_data_files"]]
    except (ValueError, KeyError, TypeError):
        return [], [Fault("unreadable-file", "state.json does not list the data files", "write it again", str(folder))]
    files = [folder / Path(name).name for name in names]
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        message = f"files of this data set are missing: {', '.join(missing[:5])}"
        return [], [Fault("missing-file", message, "copy the whole folder", str(folder))]
    return [(file, None) for file in files], []


def _files(folder: Path, depth: int) -> list[Path]:
    """Return the visible files in a folder and its subfolders to this depth, in a stable order."""
    files: list[Path] = []
    for root, folders, names in os.walk(folder):
        level = len(Path(root).relative_to(folder).parts)
        folders[:] = sorted(name for name in folders if not name.startswith(".")) if level < depth else []
        files += [Path(root) / name for name in sorted(names) if not name.startswith(".")]
    return files


def _kind(path: Path) -> str | None:
    return "text" if is_text_name(path.name) else data_format(path.name)


def _is_data(path: Path, format: str) -> bool:
    """Return whether a file contains data of this format, or of any with `auto`, by its name."""
    kind = _kind(path)
    is_description = path.name in DESCRIPTIONS or is_documentation(path.name)
    return kind is not None and format in ("auto", kind) and not is_description


def _snapshot_files(folder: Path, key: str, format: str) -> Found | None:
    """Return the files of the only configuration in a snapshot."""
    configurations: dict[Path, list[Path]] = {}
    for path in _files(folder, MAX_DEPTH):
        if not _is_data(path, format):
            continue
        place = path.parent
        if place != folder and split_of(place.name) and place.name != "data":
            place = place.parent
        configurations.setdefault(place, []).append(path)
    if not configurations:
        return None
    found = [str(path.relative_to(folder)) for paths in configurations.values() for path in paths]
    fault = parallel_fault(found, str(folder)) if format == "auto" else None
    fault = fault or label_fault(folder, key, configurations)
    if fault is not None:
        return [], [fault]
    if len(configurations) > 1:
        names = sorted(configurations)
        message = f"the folder contains several data sets: {', '.join(str(path.relative_to(folder)) for path in names)}"
        choices = " or ".join(setting(key, str(path)) for path in names[:5])
        return [], [Fault("missing-file", message, f"choose one of them: {choices}", str(folder), column=key)]
    ((place, paths),) = configurations.items()
    formats = sorted({str(_kind(path)) for path in paths})
    if len(formats) > 1:
        message = f"the folder contains files in several formats: {', '.join(formats)}"
        choices = " or ".join(f"data.format={name}" for name in formats)
        return [], [Fault("missing-file", message, f"choose one of them: {choices}", str(folder), column=key)]
    groups: dict[str, list[Path]] = {}
    for path in paths:
        groups.setdefault(path.parent.name if path.parent != place else raw_name(path), []).append(path)
    patterns = {name: _pattern(name, files, place) for name, files in groups.items()}
    return _with_splits(folder, key, groups, patterns)


def _pattern(name: str, files: list[Path], place: Path) -> str:
    """Return a path or pattern that matches the files of a part alone."""
    if files[0].parent != place:
        return str(files[0].parent)
    shard = files[0].name[len(name) : len(name) + 1]
    return str(files[0] if len(files) == 1 else place / f"{name}{shard}[0-9]*")


def raw_name(path: Path) -> str:
    """Return the name of a file without its endings and the number of its shard: `train` of `train-00000-of-00002`."""
    return _SHARD.sub("", path.name.partition(".")[0])


def _with_splits(folder: Path, key: str, groups: Mapping[str, list[Path]], patterns: Mapping[str, str]) -> Found:
    """Return the files of each named part with its split, and a fault if a split has several parts."""
    splits = {name: split_of(name) for name in groups}
    by_split: dict[str, list[str]] = {}
    for name, split in splits.items():
        if split is not None:
            by_split.setdefault(split, []).append(name)
    others = [name for name, split in splits.items() if split is None]
    is_ambiguous = any(len(names) > 1 for names in by_split.values())
    if is_ambiguous or (len(by_split) > 1 and key != "data.path"):
        message = f"the folder contains {', '.join(groups)}"
        choice = {split: by_split[split][0] for split in SPLITS if split in by_split}
        if key != "data.path":
            fitting = [name for name in groups if key == f"data.{splits[name]}"] or [*groups]
            choices = " or ".join(setting(key, patterns[name]) for name in fitting)
            fix = f"choose one of them: {choices}; {setting('data.path', str(folder))} keeps the splits"
        else:
            fix = " ".join(setting(f"data.{split}", patterns[name]) for split, name in choice.items())
            fix = f"choose a part for each split: {fix}"
        return [], [Fault("missing-file", message, fix, str(folder), column=key)]
    if not by_split:
        return [(path, None) for files in groups.values() for path in files], []
    parts = [(path, splits[name]) for name, files in groups.items() if splits[name] for path in files]
    if not others:
        return parts, []
    fix = f"nothing, if that is intended; else name the parts to read: {setting(key, patterns[others[0]])}"
    message = f"not read in this folder: {', '.join(others)}"
    return parts, [Fault("not-read", message, fix, str(folder), severity="warning")]
