"""Find run directories below a folder of outputs, and a run by its id, name or path."""

from __future__ import annotations

import glob
import os
from collections import Counter
from pathlib import Path

from kamerton.errors import Fault, UserError
from kamerton.words import did_you_mean


def find_run(root: Path, name: str) -> Path:
    """Return the run directory for an id, `experiment/id` or path. Raises `UserError` for no or several matches."""
    if os.path.lexists(Path(name) / "run.json"):
        return Path(name).absolute()
    runs = run_directories(root) if is_name(name) else []
    matches = [path for path in runs if name in (path.name, f"{path.parent.name}/{path.name}")]
    if len(matches) == 1:
        return matches[0]
    if matches:
        listed = ", ".join(sorted(f"{path.parent.name}/{path.name}" for path in matches))
        fault = Fault("job.several", f"several runs are called {name!r}: {listed}", "give one of these names")
    else:
        ids = Counter(path.name for path in runs)
        names = [path.name if ids[path.name] == 1 else f"{path.parent.name}/{path.name}" for path in runs]
        fix = did_you_mean(name, names)
        fault = Fault("job.unknown", f"there is no run {name!r} in {root}", fix)
    raise UserError([fault])


def is_name(text: str) -> bool:
    """Return whether a text can be an id or `experiment/id`: no hidden folder, parent folder or pattern."""
    parts = text.split("/")
    return len(parts) <= 2 and all(part and not part.startswith(".") and part == glob.escape(part) for part in parts)


def run_directories(root: Path) -> list[Path]:
    """Return every run directory below a folder of outputs, and experiment folders that cannot be read.

    Raises `UserError` if `root` itself cannot be read.
    """
    try:
        experiments = _folders(root.absolute())
    except OSError as error:
        fix = "give another folder: --outputs DIR"
        raise UserError([Fault("job.outputs", f"cannot read {root}: {error.strerror}", fix)]) from error
    runs = []
    for experiment in experiments:
        try:
            runs += [path for path in _folders(experiment) if _has_record(path)]
        except OSError:
            runs.append(experiment)
    return runs


def _folders(folder: Path) -> list[Path]:
    """Return the subfolders of `folder` that are not hidden; empty if it does not exist."""
    try:
        with os.scandir(folder) as entries:
            return [folder / entry.name for entry in entries if not entry.name.startswith(".") and entry.is_dir()]
    except (FileNotFoundError, NotADirectoryError):
        return []


def _has_record(path: Path) -> bool:
    try:
        os.lstat(path / "run.json")
    except FileNotFoundError:
        return False
    except OSError:  # not permitted: reading the record reports why
        return True
    return True
