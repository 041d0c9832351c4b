"""What the sides of a comparison are called: by what tells them apart."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_LONGEST_NAME = 60


def side_names(paths: Sequence[Sequence[Path]], settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """A name for each side, from where its runs are and how they are set up.

    All settings that differ, such as `adapter.kind=lora`, where they are few; else the fewest that tell every side
    apart; else where the runs are. No name twice.

    A setting that some sides do not have at all (runs of an earlier version) names none.
    """
    shared = set.intersection(*(set(one) for one in settings if one)) if any(settings) else set()
    keys = sorted(shared)
    varied = [key for key in keys if len({json.dumps(one.get(key), default=str) for one in settings if one}) > 1]
    said = _said(varied, settings)
    if any(len(text) > _LONGEST_NAME for text in said):
        said = _said(_fewest(varied, [one for one in settings if one]), settings)
    places = _places(paths)
    names = [text if text and len(text) <= _LONGEST_NAME else place for text, place in zip(said, places, strict=True)]
    return [f"{name} ({place})" if names.count(name) > 1 else name for name, place in zip(names, places, strict=True)]


def _said(keys: Sequence[str], settings: Sequence[Mapping[str, Any]]) -> list[str]:
    return [" ".join(f"{key}={one.get(key)}" for key in keys) if one else "" for one in settings]


def _fewest(keys: Sequence[str], settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Keys that tell all sides apart, one after the other the one that tells most apart, of those the shortest."""
    chosen: list[str] = []
    while len(set(_said(chosen, settings))) < len(set(_said(keys, settings))):
        chosen.append(max(keys, key=lambda key: _tells([*chosen, key], settings)))
    return chosen


def _tells(keys: Sequence[str], settings: Sequence[Mapping[str, Any]]) -> tuple[int, int]:
    said = _said(keys, settings)
    return len(set(said)), -max(map(len, said))


def _places(sides: Sequence[Sequence[Path]]) -> list[str]:
    """Where the runs of each side are, in as few parts of the path as tell the sides apart."""
    firsts = [_parts(runs[0]) for runs in sides]
    folders = [first[:-1] if len(runs) > 1 else first for runs, first in zip(sides, firsts, strict=True)]
    shared = [folders.count(folder) > 1 for folder in folders]
    chosen = [first if both else folder for first, folder, both in zip(firsts, folders, shared, strict=True)]
    found = []
    for runs, parts, both in zip(sides, chosen, shared, strict=True):
        least = 1 if len(runs) > 1 and not both else 2
        lengths = range(least, len(parts) + 1)
        enough = (n for n in lengths if sum(other[-n:] == parts[-n:] for other in chosen) == 1)
        more = f" and {len(runs) - 1} more" if len(runs) > 1 and both else ""
        found.append("/".join(parts[-next(enough, len(parts)) :]) + more)
    return found


def _parts(path: Path) -> list[str]:
    """The parts of a path, of a score table without what all of them have."""
    parts = (path.resolve().with_suffix("") if path.suffix == ".parquet" else path.resolve()).parts
    return [part for part in parts if part != "scores"]


def short(path: Path) -> str:
    """`trec/r1ec642e`; of a score table of a run directory the file's name as well."""
    return "/".join(_parts(path)[-2:])
