"""From the paths in the options to a list of files, each with the split it belongs to."""

from __future__ import annotations

import difflib
import glob
import os
from dataclasses import dataclass
from pathlib import Path

from kamerton.data.options import DataOptions
from kamerton.errors import Fault

ENDINGS = {
    "jsonl": (".jsonl", ".ndjson", ".json"),
    "csv": (".csv", ".tsv"),
    "parquet": (".parquet", ".pq"),
    "trec": (".txt", ".label"),
}
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, slots=True)
class Source:
    """One file to read; `split` is None when the file is yet to be split."""

    path: Path
    split: str | None


def find_sources(options: DataOptions) -> tuple[list[Source], list[Fault]]:
    """Every file the options name, in a stable order, and a fault for each that cannot be read."""
    sources: list[Source] = []
    faults: list[Fault] = []
    for key in ("path", *SPLITS):
        for pattern in _as_list(getattr(options, key)):
            paths, missing = _expand(pattern, f"data.{key}", options.format)
            faults += missing
            for path in paths:
                faults += _check_file(path, options.format)
                sources.append(Source(path, None if key == "path" else key))
    return sources, faults


def _as_list(value: str | list[str] | None) -> list[str]:
    return [value] if isinstance(value, str) else list(value or [])


def _expand(pattern: str, key: str, format: str) -> tuple[list[Path], list[Fault]]:
    path = Path(pattern).expanduser()
    if path.is_dir():
        found = sorted(p for p in path.iterdir() if p.is_file() and _has_ending(p, format))
        if found:
            return found, []
        message = f"the directory holds no {format} file ({', '.join(ENDINGS[format])})"
        return [], [Fault("missing-file", message, f"point {key} at the files", str(path), column=key)]
    if path.exists():
        return [path], []
    if glob.has_magic(pattern):
        found = sorted(Path(p) for p in glob.glob(str(path), recursive=True) if os.path.isfile(p))
        if found:
            return found, []
        return [], [
            Fault("missing-file", "no file matches this pattern", f"correct {key}", pattern, column=key)
        ]
    return [], [_missing(path, key)]


def _missing(path: Path, key: str) -> Fault:
    parent = path.parent
    if not parent.is_dir():
        return Fault(
            "missing-file", f"there is no directory {parent}", f"correct {key}", str(path), column=key
        )
    near = difflib.get_close_matches(path.name, [p.name for p in parent.iterdir()], n=1, cutoff=0.5)
    fix = f"did you mean {parent / near[0]}?" if near else f"correct {key}, or put the file there"
    return Fault("missing-file", "there is no such file", fix, str(path), column=key)


def _has_ending(path: Path, format: str) -> bool:
    name = path.name.lower()
    for packed in (".gz", ".zst") if format in ("jsonl", "csv") else ():
        name = name.removesuffix(packed)
    return name.endswith(ENDINGS[format])


def _check_file(path: Path, format: str) -> list[Fault]:
    if not _has_ending(path, format):
        message = f"a {format} file ends in {' or '.join(ENDINGS[format])}"
        others = [name for name in ENDINGS if name != format and _has_ending(path, name)]
        fix = f"set data={others[0]}" if others else "rename the file, or set data to its format"
        return [Fault("wrong-extension", message, fix, str(path))]
    if not os.access(path, os.R_OK):
        return [Fault("no-permission", "the file cannot be read", f"allow it: chmod u+r {path}", str(path))]
    if path.stat().st_size == 0:
        return [Fault("empty-file", "the file is empty", "point to a file with rows", str(path))]
    return []
