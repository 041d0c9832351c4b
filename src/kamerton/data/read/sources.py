"""From the paths in the options to a list of files, each with the split and the source it belongs to."""

from __future__ import annotations

import difflib
import glob
import os
import shlex
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from kamerton.assets import fetch, is_address
from kamerton.data.options import FORMATS, DataFile, DataOptions, Source
from kamerton.data.read.commands import name_as, parquet_of, renamed
from kamerton.data.read.sniff import HEAD, foreign
from kamerton.data.read.trec import is_trec
from kamerton.errors import Fault
from kamerton.shell import setting

ENDINGS = {
    "jsonl": (".jsonl", ".ndjson", ".json"),
    "csv": (".csv", ".tsv"),
    "parquet": (".parquet", ".pq"),
    "trec": (".txt", ".label"),
}
PACKED = (".gz", ".zst")
SPLITS = ("train", "validation", "test")


def find_files(options: DataOptions) -> tuple[list[DataFile], list[Fault]]:
    """Return every file the options name, in a stable order, and a fault for each that cannot be read."""
    files: list[DataFile] = []
    faults: list[Fault] = []
    for key, split, source, name in _given(options):
        for pattern in [source.path] if isinstance(source.path, str) else source.path:
            paths, missing = _expand(pattern, key, source.format)
            faults += missing
            for path in paths:
                files.append(DataFile(path, split, name, source.format, source.encoding, source.columns))
                faults += _check_file(files[-1])
    return files, faults + _twice(files)


def has_formats(options: DataOptions) -> bool:
    """Return whether every format is one that can be read, so that files can be looked for."""
    return all(format in FORMATS for format in (options.format, *(one.format for one in options.sources.values())))


def _given(options: DataOptions) -> Iterator[tuple[str, str | None, Source, str]]:
    """Yield each setting that names files: its key, its split, how to read it, and the name of its source."""
    for name, source in options.sources.items():
        yield f"data.sources.{name}.path", None, source, name
    for key in ("path", *SPLITS):
        path = getattr(options, key)
        if path:
            source = Source(path, options.format, options.columns, options.encoding)
            yield f"data.{key}", None if key == "path" else key, source, options.name


def _expand(pattern: str, key: str, format: str) -> tuple[list[Path], list[Fault]]:
    """Return the files that a path, directory or pattern stands for."""
    try:
        path = Path(pattern).expanduser()
        is_dir = path.is_dir()
    except (OSError, RuntimeError) as error:  # a name that is too long, a home that nobody has
        reason = error.strerror if isinstance(error, OSError) else str(error)
        return [], [
            Fault("missing-file", f"this path cannot be: {reason}", f"correct {key}", pattern[:200], column=key)
        ]
    if is_dir:
        return _in_directory(path, key, format)
    if path.exists():
        return [path], []
    if glob.has_magic(pattern):
        found = sorted(Path(p) for p in glob.glob(str(path), recursive=True) if os.path.isfile(p))
        missing = [Fault("missing-file", "no file matches this pattern", f"correct {key}", pattern, column=key)]
        return found, [] if found else missing
    return [], [_missing(path, key)]


def _in_directory(path: Path, key: str, format: str) -> tuple[list[Path], list[Fault]]:
    """Return the directory's files of this format, but hidden ones; and a warning of others that hold data."""
    here = sorted(p for p in path.iterdir() if not p.name.startswith("."))
    saved = (path / "dataset_dict.json").exists() or (path / "state.json").exists()
    found = [p for p in here if p.is_file() and _has_ending(p, format) and not saved]
    if not found:
        message = f"the directory holds no {format} file ({', '.join(ENDINGS[format])})"
        return [], [Fault("missing-file", *_other_files(path, key, message), str(path), column=key)]
    formats = [name for name in ENDINGS if name != format]
    others = [p.name + "/" * p.is_dir() for p in here if p.is_dir() or any(_has_ending(p, name) for name in formats)]
    if not others:
        return found, []
    shown = ", ".join(others[:5]) + (f" and {len(others) - 5} more" if len(others) > 5 else "")
    fix = f"nothing, if that is meant; else give them to {key} as well, or make them data.sources"
    return found, [Fault("not-read", f"of this directory {shown} is not read", fix, str(path), severity="warning")]


def _other_files(path: Path, key: str, message: str) -> tuple[str, str]:
    """Return what a directory without files of the format holds instead, and what to do."""
    arrow: dict[str, list[Path]] = {}
    for file in sorted([*path.glob("*.arrow"), *path.glob("*/*.arrow")]):
        arrow.setdefault("rows" if file.parent == path else file.parent.name, []).append(file)
    if arrow:
        what = "it is one of datasets' save_to_disk, with Arrow files"
        return f"{message}; {what}", parquet_of(arrow)
    for folder in (path, *sorted(p for p in path.iterdir() if p.is_dir())):
        for format in FORMATS[:3]:
            if any(_has_ending(p, format) for p in folder.iterdir() if p.is_file()):
                return message, f"for the {format} files: data={format} {setting(key, str(folder))}"
    return message, f"point {key} at the files"


def _missing(path: Path, key: str) -> Fault:
    parent = path.parent
    if not parent.is_dir():
        return Fault("missing-file", f"there is no directory {parent}", f"correct {key}", str(path), column=key)
    near = difflib.get_close_matches(path.name, [p.name for p in parent.iterdir()], n=1, cutoff=0.5)
    fix = f"did you mean {parent / near[0]}?" if near else f"correct {key}, or put the file there"
    return Fault("missing-file", "there is no such file", fix, str(path), column=key)


def _has_ending(path: Path, format: str) -> bool:
    name = path.name.lower()
    if format in ("jsonl", "csv") and path.suffix.lower() in PACKED:
        name = name.removesuffix(path.suffix.lower())
    return name.endswith(ENDINGS[format])


def _check_file(file: DataFile) -> list[Fault]:
    path = file.path
    if not path.is_file():
        return [Fault("unreadable-file", "this is not a regular file", "point to a file", str(path))]
    if not os.access(path, os.R_OK):
        fix = f"allow it: chmod u+r {shlex.quote(str(path))}"
        return [Fault("no-permission", "the file cannot be read", fix, str(path))]
    if path.stat().st_size == 0:
        return [Fault("empty-file", "the file is empty", "point to a file with rows", str(path))]
    return [] if _has_ending(path, file.format) else [_wrong_ending(file)]


def _wrong_ending(file: DataFile) -> Fault:
    """Return what a file is whose ending is not one of its format's."""
    path = file.path
    with open(path, "rb") as stream:
        head = stream.read(HEAD)
    others = [name for name in ENDINGS if name not in (file.format, "trec") and _has_ending(path, name)]
    fault = foreign(head, replace(file, format=others[0]) if others else file)
    if fault is not None:
        return fault
    message = f"a {file.format} file ends in {' or '.join(ENDINGS[file.format])}"
    if others:
        fix = f"set data={others[0]}"
    elif is_trec(head.decode("latin-1").partition("\n")[0]):
        fix = "set data=trec"
    elif head.lstrip().startswith((b"{", b"[")):
        fix = f"if each line is a JSON object: {renamed(path, name_as(path, '.jsonl'), file.split)}"
    else:
        fix = 'write its texts as CSV with a header, or as JSON Lines: {"text": ...} on each line'
    return Fault("wrong-extension", message, fix, str(path))


def _twice(files: list[DataFile]) -> list[Fault]:
    """Return a file that is named twice would be read twice."""
    seen: dict[Path, DataFile] = {}
    faults = []
    for file in files:
        first = seen.setdefault(file.path.resolve(), file)
        if first is not file:
            message = f"the file is given twice ({first.split or first.source} and {file.split or file.source})"
            faults.append(Fault("bad-value", message, "name each file once", str(file.path)))
    return faults


def local_data(options: DataOptions) -> DataOptions:
    """Return the same options with every wheel address replaced by its local file."""
    return replace(
        options,
        path=_local(options.path),
        train=_local(options.train),
        validation=_local(options.validation),
        test=_local(options.test),
        sources={name: replace(one, path=_local(one.path)) for name, one in options.sources.items()},
    )


def _local(path: Any) -> Any:
    if isinstance(path, list):
        return [str(fetch(one)) if is_address(one) else one for one in path]
    return str(fetch(path)) if path is not None and is_address(path) else path
