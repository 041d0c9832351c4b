"""The files that match a pattern of paths, such as `data/**/*.jsonl`."""

from __future__ import annotations

import glob
import os
import re
from pathlib import Path


def matching_files(pattern: str) -> list[Path]:
    """Return the files that match a pattern, sorted; `**` stands for any directories, each of which is read once.

    Links to directories are followed. `glob.glob` reads a directory again by each of the paths that lead to it, whose
    number grows exponentially if two links lead to a directory above them.
    """
    before, any_depth, after = _split(pattern)
    if not any_depth:
        return sorted(Path(path) for path in glob.glob(pattern) if os.path.isfile(path))
    files = set()
    for folder in _folders(glob.glob(before) if before else [""]):
        files.update(matching_files(os.path.join(glob.escape(folder), after or "*")))
    return sorted(files)


def _split(pattern: str) -> tuple[str, str, str]:
    """Return the parts of a pattern before, at and behind its first `**`."""
    parts = re.split(r"(?:^|(?<=/))(\*\*)(?:/+|$)", pattern, maxsplit=1)
    return (parts[0], parts[1], parts[2]) if len(parts) == 3 else (pattern, "", "")


def _folders(starts: list[str]) -> list[str]:
    """Return the directories and those in them, at any depth, without hidden ones; each by one path."""
    folders, seen = [], set()
    pending = list(starts)
    for folder in pending:  # nearest first
        try:
            entry = os.stat(folder or ".")
            if (entry.st_dev, entry.st_ino) in seen:
                continue
            seen.add((entry.st_dev, entry.st_ino))
            with os.scandir(folder or ".") as entries:
                inside = sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))
        except OSError:  # unreadable, as for `glob`
            continue
        folders.append(folder)
        pending += [os.path.join(folder, name) for name in inside]
    return folders
