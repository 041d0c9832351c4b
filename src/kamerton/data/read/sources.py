"""Finding the files of the configured paths, each with its format, split and source."""

from __future__ import annotations

import difflib
import glob
import os
import shlex
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from kamerton.assets import fetch, is_address
from kamerton.data.options import FORMATS, PARALLEL, DataFile, DataOptions, Source, form_of
from kamerton.data.read.archives import consistent_splits, open_archive, split_of
from kamerton.data.read.containers import DAMAGE, archive_kind, open_path
from kamerton.data.read.datasets import DESCRIPTIONS, Part, dataset_files
from kamerton.data.read.detect import (
    ENDINGS,
    data_format,
    is_archive_name,
    is_documentation,
    with_format,
    with_named_format,
)
from kamerton.errors import Fault
from kamerton.shell import setting

SPLITS = ("train", "validation", "test")


def find_files(options: DataOptions) -> tuple[list[DataFile], list[Fault]]:
    """Return the files of the options in a stable order, and a fault for each path that cannot be read.

    The files of an archive that are named train, validation or test keep these splits if all files of `data.path` do.
    """
    files: list[DataFile] = []
    faults: list[Fault] = []
    for key, split, source, name in _path_settings(options):
        opened: list[DataFile] = []
        for pattern in [source.path] if isinstance(source.path, str) else source.path:
            paths, missing = _expand(pattern, key, source.format)
            faults += missing
            for path, part in paths:
                file = _data_file(path, split or part, name, source)
                found, unreadable = _open(file)
                opened += found
                faults += unreadable
        if split is None:
            opened, pooled = consistent_splits(opened, keep=key == "data.path")
            faults += pooled
        files += opened
    if options.prompt_file and options.completion_file:
        parallel, unreadable = _parallel_file(options)
        files += parallel
        faults += unreadable
    seen: dict[tuple[Path, str], DataFile] = {}
    for file in files:
        first = seen.setdefault((file.path.resolve(), file.member), file)
        if first is not file:
            message = f"the file is given twice ({first.split or first.source} and {file.split or file.source})"
            faults.append(Fault("bad-value", message, "name each file once", file.name))
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
            shared = {item.name: getattr(options, item.name) for item in fields(Source) if hasattr(options, item.name)}
            source = Source(**(shared | {"path": path}))
            yield f"data.{key}", None if key == "path" else key, source, options.name


def _data_file(path: Path, split: str | None, name: str, source: Source) -> DataFile:
    read = (source.format, source.encoding, source.columns, source.delimiter, source.header)
    return DataFile(path, split, name, *read, form=form_of(source), records=source.records)


def _parallel_file(options: DataOptions) -> tuple[list[DataFile], list[Fault]]:
    paths: list[Path] = []
    faults: list[Fault] = []
    for key in PARALLEL:
        expanded, missing = _expand(str(getattr(options, key)), f"data.{key}", "text")
        several = Fault("bad-value", f"data.{key} is more than one file", "give one file", column=f"data.{key}")
        faults += missing or [fault for path, _ in expanded if (fault := _path_fault(path))]
        faults += [several] if len(expanded) > 1 else []
        paths += [path for path, _ in expanded[:1]]
    if faults:
        return [], faults
    source = Source(str(paths[0]), "parallel", options.columns, options.encoding)
    return [replace(_data_file(paths[0], None, options.name, source), companion=paths[1])], []


def _expand(pattern: str, key: str, format: str) -> tuple[list[Part], list[Fault]]:
    """Return the files of a path, directory or pattern, those of a directory with the splits that they name."""
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
        return [(path, None)], []
    if glob.has_magic(pattern):
        matches = sorted(Path(p) for p in glob.glob(str(path), recursive=True) if os.path.isfile(p))
        missing = [Fault("missing-file", "no file matches this pattern", f"correct {key}", pattern, column=key)]
        return [(match, None) for match in matches], [] if matches else missing
    parent = path.parent
    if not parent.is_dir():
        return [], [Fault("missing-file", f"there is no directory {parent}", f"correct {key}", str(path), column=key)]
    near = difflib.get_close_matches(path.name, [p.name for p in parent.iterdir()], n=1, cutoff=0.5)
    fix = f"did you mean {parent / near[0]}?" if near else f"correct {key}, or put the file there"
    return [], [Fault("missing-file", "there is no such file", fix, str(path), column=key)]


def _list_directory(path: Path, key: str, format: str) -> tuple[list[Part], list[Fault]]:
    """Return the directory's files of this format without hidden ones, and a warning about everything else in it.

    With the format `auto` those are the files of any format, by their names; if there are none, all files.
    """
    dataset = dataset_files(path, key, format)
    if dataset is not None:
        return dataset
    entries = sorted(p for p in path.iterdir() if not p.name.startswith("."))
    files = _data_files([p for p in entries if p.is_file() and p.name not in DESCRIPTIONS], format)
    parts = [(p, split_of(p.name)) for p in files]
    if not files:
        endings = f"{format} file ({', '.join(ENDINGS[format])})" if format in ENDINGS else "data file"
        message = f"the directory contains no {endings}"
        return [], [Fault("missing-file", *_wrong_directory(path, key, message), str(path), column=key)]
    rest = [p for p in entries if p not in files and p.name not in DESCRIPTIONS and not is_documentation(p.name)]
    others = [p.name + "/" * p.is_dir() for p in rest if format == "auto" or p.is_dir() or data_format(p.name)]
    if not others:
        return parts, []
    names = ", ".join(others[:5]) + (f" and {len(others) - 5} more" if len(others) > 5 else "")
    fix = f"nothing, if that is intended; else add them to {key}, or make them data.sources"
    return parts, [Fault("not-read", f"not read in this directory: {names}", fix, str(path), severity="warning")]


def _data_files(files: list[Path], format: str) -> list[Path]:
    """Return the files of this format by their names."""
    if format != "auto":
        return [p for p in files if _has_ending(p, format)]
    candidates = [p for p in files if not is_documentation(p.name)]
    return [p for p in candidates if data_format(p.name) or is_archive_name(p.name)] or candidates


def _wrong_directory(path: Path, key: str, message: str) -> tuple[str, str]:
    """Return message and fix for a directory without files of the format, by the files that it contains."""
    if any(path.glob("state.json")) or any(path.glob("*/state.json")):
        fix = f"data=auto {setting(key, str(path))}"
        return f"{message}; it was written by datasets' save_to_disk, with Arrow files", fix
    for folder in (path, *sorted(p for p in path.iterdir() if p.is_dir())):
        formats = {data_format(p.name) for p in folder.iterdir() if p.is_file()} - {None}
        if formats:
            return (
                message,
                f"for the {' and '.join(sorted(map(str, formats)))} files: data=auto {setting(key, str(folder))}",
            )
    return message, f"point {key} at the files"


def _has_ending(path: Path, format: str) -> bool:
    name = data_format(path.name)
    return name == format or (format == "trec" and path.suffix.lower() == ".txt")


def _open(file: DataFile) -> tuple[list[DataFile], list[Fault]]:
    """Return the file with its format, or the files of an archive; and its faults."""
    fault = _path_fault(file.path)
    if fault is not None:
        return [file], [fault]
    kind = None
    try:
        with open_path(file.path) as stream:
            kind = archive_kind(stream.peek(512))
        opened = with_format(file)
        if kind is not None and with_format(replace(file, format="auto")).format != "xlsx":
            return open_archive(file)
    except DAMAGE as error:
        if kind is not None:
            message = f"this is a {kind} archive that cannot be opened: {error}"
            return [file], [Fault("unreadable-file", message, "write or download it again", str(file.path))]
        opened = with_named_format(file)  # reading reports the damage
    other = data_format(file.path.name)
    if file.format != "auto" and not _has_ending(file.path, file.format) and other is not None:
        named = f"{'an' if other == 'arrow' else 'a'} {other} file"
        message = f"the name of the file is that of {named}, and data.format is {file.format}"
        fix = "data=auto finds the format of each file by its content"
        return [file], [Fault("wrong-extension", message, fix, str(file.path))]
    return [opened], []


def _path_fault(path: Path) -> Fault | None:
    if not path.is_file():
        return Fault("unreadable-file", "this is not a regular file", "point to a file", str(path))
    if not os.access(path, os.R_OK):
        fix = f"allow it: chmod u+r {shlex.quote(str(path))}"
        return Fault("no-permission", "the file cannot be read", fix, str(path))
    if path.stat().st_size == 0:
        return Fault("empty-file", "the file is empty", "point to a file with rows", str(path))
    return None


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
