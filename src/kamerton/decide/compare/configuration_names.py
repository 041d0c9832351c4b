"""Display names of the compared configurations, made of the settings or folders in which they differ."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_MAX_NAME = 60


def configuration_names(paths: Sequence[Sequence[Path]], settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a unique name for each configuration, from the paths of its runs and its settings by key.

    The name consists of all settings that differ, such as `adapter.kind=lora`, if that is short enough; otherwise of
    the fewest that distinguish every configuration; otherwise of the folder of its runs. A setting that some
    configurations lack (runs of an earlier version) is not used.
    """
    configured = [values for values in settings if values]
    shared = set.intersection(*map(set, configured)) if configured else set()
    varied = [
        key for key in sorted(shared) if len({json.dumps(values.get(key), default=str) for values in configured}) > 1
    ]
    texts = _setting_texts(varied, settings)
    if any(len(text) > _MAX_NAME for text in texts):
        texts = _setting_texts(_fewest(varied, configured), settings)
    folders = _folder_names(paths)
    names = [text if text and len(text) <= _MAX_NAME else folder for text, folder in zip(texts, folders, strict=True)]
    return [
        f"{name} ({folder})" if names.count(name) > 1 else name for name, folder in zip(names, folders, strict=True)
    ]


def _setting_texts(keys: Sequence[str], settings: Sequence[Mapping[str, Any]]) -> list[str]:
    return [" ".join(f"{key}={values.get(key)}" for key in keys) if values else "" for values in settings]


def _fewest(keys: Sequence[str], settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return few keys that distinguish all configurations, chosen greedily; ties go to the shortest names."""

    def quality(chosen: Sequence[str]) -> tuple[int, int]:
        texts = _setting_texts(chosen, settings)
        return len(set(texts)), -max(map(len, texts))

    chosen: list[str] = []
    while len(set(_setting_texts(chosen, settings))) < len(set(_setting_texts(keys, settings))):
        chosen.append(max(keys, key=lambda key: quality([*chosen, key])))
    return chosen


def _folder_names(configurations: Sequence[Sequence[Path]]) -> list[str]:
    """Return the folder of each configuration's runs, with as few path parts as distinguish them."""
    firsts = [_parts(runs[0]) for runs in configurations]
    folders = [first[:-1] if len(runs) > 1 else first for runs, first in zip(configurations, firsts, strict=True)]
    is_shared = [folders.count(folder) > 1 for folder in folders]
    paths = [first if shared else folder for first, folder, shared in zip(firsts, folders, is_shared, strict=True)]
    names = []
    for runs, path, shared in zip(configurations, paths, is_shared, strict=True):
        shortest = 1 if len(runs) > 1 and not shared else 2
        unique = (n for n in range(shortest, len(path) + 1) if sum(other[-n:] == path[-n:] for other in paths) == 1)
        more = f" and {len(runs) - 1} more" if len(runs) > 1 and shared else ""
        names.append("/".join(path[-next(unique, len(path)) :]) + more)
    return names


def _parts(path: Path) -> list[str]:
    """Return the parts of a path; score tables without the suffix and the folder `scores`."""
    parts = (path.resolve().with_suffix("") if path.suffix == ".parquet" else path.resolve()).parts
    return [part for part in parts if part != "scores"]


def short_name(path: Path) -> str:
    """Return a short display name, e.g. `trec/r1ec642e`; score tables add their file name."""
    return "/".join(_parts(path)[-2:])
