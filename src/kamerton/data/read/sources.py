"""Finding the files of the configured paths, each with its split and source."""

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
from kamerton.data.read.commands import parquet_of, rename_command, with_ending
from kamerton.data.read.sniff import HEAD, wrong_kind_fault
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
    """Return the files of the options in a stable order, and a fault for each path that cannot be read."""
    files: list[DataFile] = []
    faults: list[Fault] = []
    for key, split, source, name in _path_settings(options):
        for pattern in [source.path] if isinstance(source.path, str) else source.path:
            paths, missing = _expand(pattern, key, source.format)
            faults += missing
            for path in paths:
                files.append(_data_file(path, split, name, source))
                faults += _check_file(files[-1])
    seen: dict[Path, DataFile] = {}
    for file in files:
        first = seen.setdefault(file.path.resolve(), file)
        if first is not file:
            message = f"the file is given twice ({first.split or first.source} and {file.split or file.source})"
            faults.append(Fault("bad-value", message, "name each file once", str(file.path)))
    return files, faults


def has_formats(options: DataOptions) -> bool:
    """Return whether all configured formats are supported, so that `find_files` can be called."""
    formats = (options.format, *(source.format for source in options.sources.values()))
    return all(format in FORMATS for format in formats)


def _path_settings(options: DataOptions) -> Iterator[tuple[str, str | None, Source, str]]:
    """Yield key, split, reading options and source name of each setting that names files."""
    for name, source in options.sources.items():
        yield f"data.sources.{name}.path", None, source, name
    for key in ("path", *SPLITS):
        path = getattr(options, key)
        if path:
            source = Source(
                path,
                options.format,
                options.columns,
                options.encoding,
                delimiter=options.delimiter,
                header=options.header,
            )
            yield f"data.{key}", None if key == "path" else key, source, options.name


def _data_file(path: Path, split: str | None, name: str, source: Source) -> DataFile:
    return DataFile(path, split, name, source.format, source.encoding, source.columns, source.delimiter, source.header)


def _expand(pattern: str, key: str, format: str) -> tuple[list[Path], list[Fault]]:
    """Return the files of a path, directory or pattern."""
    try:
        path = Path(pattern).expanduser()
        is_dir = path.is_dir()
    except (OSError, RuntimeError) as error:  # a name that is too long, an unknown home directory
        reason = error.strerror if isinstance(error, OSError) else str(error)
        fault = Fault("missing-file", f"this path is invalid: {reason}", f"correct {key}", pattern[:200], column=key)
        return [], [fault]
    if is_dir:
        return _list_directory(path, key, format)
    if path.exists():
        return [path], []
    if glob.has_magic(pattern):
        matches = sorted(Path(p) for p in glob.glob(str(path), recursive=True) if os.path.isfile(p))
        missing = [Fault("missing-file", "no file matches this pattern", f"correct {key}", pattern, column=key)]
        return matches, [] if matches else missing
    parent = path.parent
    if not parent.is_dir():
        return [], [Fault("missing-file", f"there is no directory {parent}", f"correct {key}", str(path), column=key)]
    near = difflib.get_close_matches(path.name, [p.name for p in parent.iterdir()], n=1, cutoff=0.5)
    fix = f"did you mean {parent / near[0]}?" if near else f"correct {key}, or put the file there"
    return [], [Fault("missing-file", "there is no such file", fix, str(path), column=key)]


def _list_directory(path: Path, key: str, format: str) -> tuple[list[Path], list[Fault]]:
    """Return the directory's files of this format without hidden ones, and a warning if it contains other data."""
    entries = sorted(p for p in path.iterdir() if not p.name.startswith("."))
    is_dataset = (path / "dataset_dict.json").exists() or (path / "state.json").exists()  # of datasets' save_to_disk
    files = [p for p in entries if p.is_file() and _has_ending(p, format) and not is_dataset]
    if not files:
        message = f"the directory contains no {format} file ({', '.join(ENDINGS[format])})"
        return [], [Fault("missing-file", *_wrong_directory(path, key, message), str(path), column=key)]
    formats = [name for name in ENDINGS if name != format]
    others = [p.name + "/" * p.is_dir() for p in entries if p.is_dir() or any(_has_ending(p, name) for name in formats)]
    if not others:
        return files, []
    names = ", ".join(others[:5]) + (f" and {len(others) - 5} more" if len(others) > 5 else "")
    fix = f"nothing, if that is intended; else add them to {key}, or make them data.sources"
    return files, [Fault("not-read", f"not read in this directory: {names}", fix, str(path), severity="warning")]


def _wrong_directory(path: Path, key: str, message: str) -> tuple[str, str]:
    """Return message and fix for a directory without files of the format, by the files that it contains."""
    arrow: dict[str, list[Path]] = {}
    for file in sorted([*path.glob("*.arrow"), *path.glob("*/*.arrow")]):
        arrow.setdefault("rows" if file.parent == path else file.parent.name, []).append(file)
    if arrow:
        return f"{message}; it was written by datasets' save_to_disk, with Arrow files", parquet_of(arrow)
    for folder in (path, *sorted(p for p in path.iterdir() if p.is_dir())):
        for format in FORMATS[:3]:
            if any(_has_ending(p, format) for p in folder.iterdir() if p.is_file()):
                return message, f"for the {format} files: data={format} {setting(key, str(folder))}"
    return message, f"point {key} at the files"


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
    """Return the fault of a file whose ending does not fit its format, with a fix by its content."""
    path = file.path
    with open(path, "rb") as stream:
        head = stream.read(HEAD)
    others = [name for name in ENDINGS if name not in (file.format, "trec") and _has_ending(path, name)]
    fault = wrong_kind_fault(head, replace(file, format=others[0]) if others else file)
    if fault is not None:
        return fault
    message = f"a {file.format} file ends in {' or '.join(ENDINGS[file.format])}"
    if others:
        fix = f"set data={others[0]}"
    elif is_trec(head.decode("latin-1").partition("\n")[0]):
        fix = "set data=trec"
    elif head.lstrip().startswith((b"{", b"[")):
        fix = f"if each line is a JSON object: {rename_command(path, with_ending(path, '.jsonl'), file.split)}"
    else:
        fix = 'write its texts as CSV with a header, or as JSON Lines: {"text": ...} on each line'
    return Fault("wrong-extension", message, fix, str(path))


def local_data(options: DataOptions) -> DataOptions:
    """Return the options with every wheel address replaced by its local file."""
    return replace(
        options,
        path=_local(options.path),
        train=_local(options.train),
        validation=_local(options.validation),
        test=_local(options.test),
        sources={name: replace(source, path=_local(source.path)) for name, source in options.sources.items()},
    )


def _local(path: Any) -> Any:
    if isinstance(path, list):
        return [_local(item) for item in path]
    return str(fetch(path)) if path is not None and is_address(path) else path
