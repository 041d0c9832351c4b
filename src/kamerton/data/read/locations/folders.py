"""The data files of a folder, by their names."""

from __future__ import annotations

from pathlib import Path

from kamerton.data.read.files.detect import ENDINGS, data_format, is_archive_name, is_documentation
from kamerton.data.read.locations.archives import split_of
from kamerton.data.read.locations.datasets import DESCRIPTIONS, Part, dataset_files
from kamerton.data.read.locations.parallel import parallel_fault
from kamerton.errors import Fault
from kamerton.output import printable_name
from kamerton.shell import setting
from kamerton.words import listed


def list_folder(path: Path, key: str, format: str) -> tuple[list[Part], list[Fault]]:
    """Return the directory's files of this format without hidden ones, and a warning about everything else in it.

    With the format `auto` those are the files of any format, by their names; if there are none, all files.
    """
    dataset = dataset_files(path, key, format)
    if dataset is not None:
        return dataset
    entries = sorted(p for p in path.iterdir() if not p.name.startswith("."))
    files = _data_files([p for p in entries if p.is_file() and p.name not in DESCRIPTIONS], format)
    parallel = parallel_fault([p.name for p in files], str(path)) if format == "auto" else None
    if parallel is not None:
        return [], [parallel]
    parts = [(p, split_of(p.name)) for p in files]
    if not files:
        endings = f"{format} file ({', '.join(ENDINGS[format])})" if format in ENDINGS else "data file"
        for folder in sorted(p for p in entries if p.is_dir() and format == "auto"):
            inner = [p.name for p in folder.iterdir() if p.is_file() and not is_documentation(p.name)]
            if parallel := parallel_fault(sorted(inner), str(folder)):
                return [], [parallel]
        message = f"the directory contains no {endings}"
        return [], [Fault("missing-file", *_wrong_directory(path, key, message), str(path), column=key)]
    rest = [p for p in entries if p not in files and p.name not in DESCRIPTIONS and not is_documentation(p.name)]
    others = [p.name + "/" * p.is_dir() for p in rest if format == "auto" or p.is_dir() or data_format(p.name)]
    if not others:
        return parts, []
    names = listed([printable_name(name) for name in others])
    fix = f"nothing, if that is intended; else add them to {key}, or make them data.sources"
    return parts, [Fault("not-read", f"not read in this directory: {names}", fix, str(path), severity="warning")]


def _data_files(files: list[Path], format: str) -> list[Path]:
    """Return the files of this format by their names."""
    if format != "auto":
        return [p for p in files if has_ending(p, format)]
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


def has_ending(path: Path, format: str) -> bool:
    """Return whether the name of a file is that of a file of this format."""
    name = data_format(path.name)
    return name == format or (format == "trec" and path.suffix.lower() == ".txt")
