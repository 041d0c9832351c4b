"""Folders of texts that are named by their label: `pos/1.txt`, or `train/pos/1.txt` with a split above it."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby
from pathlib import Path

from kamerton.data.read.files.detect import is_text_name
from kamerton.data.read.files.text_files import FOLDER
from kamerton.data.read.locations.archives import split_of
from kamerton.errors import Fault
from kamerton.output import printable_name
from kamerton.shell import setting
from kamerton.words import listed

SETTING = f"data.columns.label={FOLDER}"


def label_fault(folder: Path, key: str, texts: Mapping[Path, list[Path]]) -> Fault | None:
    """Return a fault with the setting for labels if several of the subfolders have texts alone; else None.

    `texts` are the files of each subfolder.
    """
    places = sorted(place for place in texts if place != folder)
    labels = sorted({place.name for place in places})
    is_text = all(is_text_name(path.name) for paths in texts.values() for path in paths)
    if len(labels) < 2 or not is_text:
        return None
    message = f"the texts are in several folders: {listed([printable_name(label) for label in labels])}"
    fix = f"add {SETTING} if these are the labels of the texts, or choose a folder: {setting(key, str(places[0]))}"
    return Fault("unclear-columns", message, fix, str(folder), column=key)


def labelled_files(folder: Path, key: str) -> tuple[list[tuple[Path, str | None]], list[Fault]]:
    """Return the texts in the subfolders that are labels, each with its split, and a warning about other files."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not _is_hidden(path, folder))
    parts: list[tuple[Path, str | None]] = []
    others: list[str] = []
    for place, paths in groupby(files, key=lambda path: path.parent):
        is_label = place != folder and not split_of(place.name)
        split = split_of(str(place.relative_to(folder) / "text"))
        for path in paths:
            if is_label and is_text_name(path.name):
                parts.append((path, split))
            else:
                others.append(str(path.relative_to(folder)))
    if not parts:
        message = "no subfolder contains texts, so no folder names their label"
        fix = f"leave out {SETTING}, or point {key} at the folder above the folders of the labels"
        return [], [Fault("missing-file", message, fix, str(folder), column=key)]
    if not others:
        return parts, []
    names = listed([printable_name(name) for name in others])
    fix = "nothing, if that is intended; else move them into the folder of their label"
    return parts, [Fault("not-read", f"not read in this directory: {names}", fix, str(folder), severity="warning")]


def _is_hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)
