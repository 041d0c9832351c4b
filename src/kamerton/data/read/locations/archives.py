"""The data files in an archive, and splits that files are named after."""

from __future__ import annotations

import re
import shlex
from dataclasses import replace
from itertools import pairwise
from pathlib import PurePath
from zipfile import is_zipfile

from kamerton.data.data_file import DataFile
from kamerton.data.read.files.containers import DAMAGE, archive_members
from kamerton.data.read.files.detect import data_format, is_documentation, with_format, with_named_format
from kamerton.data.read.locations.parallel import parallel_fault
from kamerton.errors import Fault
from kamerton.output import printable_name
from kamerton.shell import new_name
from kamerton.words import listed

SPLIT_NAMES = {"train": "train", "training": "train", "validation": "validation", "valid": "validation"}
SPLIT_NAMES |= {"val": "validation", "dev": "validation", "eval": "validation", "test": "test", "testing": "test"}


def open_archive(file: DataFile) -> tuple[list[DataFile], list[Fault]]:
    """Return the data files in an archive, and a warning that lists its other files."""
    members, junk = archive_members(file.path)
    if any(member.name == "[Content_Types].xml" for member in members):
        message = "this is a document of Word or another program of Office"
        return [file], [Fault("unreadable-file", message, "save its text as .txt", file.shown)]
    candidates = [member.name for member in members if member.size and not is_documentation(member.name)]
    names = sorted(name for name in candidates if data_format(name)) or sorted(candidates)
    if file.format != "auto":
        names = [name for name in names if data_format(name) == file.format] or names
    if not names:
        return [file], [Fault("empty-file", "the archive contains no data file", "pack the files", file.shown)]
    parallel = _parallel_fault(file, names)
    if parallel is not None:
        return [file], [parallel]
    closed = next((member.name for member in members if member.is_closed and member.name in names), None)
    if closed is not None:
        message = f"{printable_name(closed)} is encrypted, or compressed in a way that is not supported"
        return [file], [Fault("unreadable-file", message, "unpack the archive and name the files", file.shown)]
    twice = next((name for name, following in pairwise(names) if name == following), None)
    if twice is not None:
        message = f"the archive has two files that are named {printable_name(twice)}"
        return [file], [Fault("unreadable-file", message, "pack each file once", file.shown)]
    files = []
    for name in names:
        member = replace(file, member=name, split=file.split or split_of(name))
        try:
            files.append(with_format(member))
        except DAMAGE:
            files.append(with_named_format(member))
    ignored = [*junk, *(member.name for member in members if member.name not in names)]
    if not ignored:
        return files, []
    message = f"not read in this archive: {listed([printable_name(name) for name in ignored])}"
    fix = "nothing, if that is intended; else unpack the archive and name the files"
    return files, [Fault("not-read", message, fix, file.shown, severity="warning")]


def _parallel_fault(file: DataFile, names: list[str]) -> Fault | None:
    """Return the fault of an archive of parallel texts, which have to be unpacked."""
    if file.format != "auto":
        return None
    folder, path = new_name(file.path, ""), shlex.quote(str(file.path))
    unpack = (
        f"python -m zipfile -e {path} {folder}" if is_zipfile(file.path) else f"python -m tarfile -e {path} {folder}"
    )
    fault = parallel_fault(names, folder, f"unpack it: {unpack}; then, ")
    return None if fault is None else replace(fault, file=file.shown)


def split_of(name: str) -> str | None:
    """Return the split that the name of a file or of its folder names: train, validation or test."""
    path = PurePath(name)
    for part in (path.name.partition(".")[0], *reversed(path.parts[:-1])):
        words = [SPLIT_NAMES[word] for word in re.split(r"[^a-z]+", part.lower()) if word in SPLIT_NAMES]
        if len(words) == 1:
            return words[0]
    return None


def consistent_splits(files: list[DataFile], *, keep: bool) -> tuple[list[DataFile], list[Fault]]:
    """Return the files without their splits, and a warning, unless all have one and more than one is among them."""
    splits = {file.split for file in files}
    named = [file.name for file in files if file.split]
    if not named or (keep and None not in splits and "train" in splits and len(splits) > 1):
        return files, []
    message = f"{named[0]} has the name of a split, but all files are split together"
    fix = "to keep the splits, name all files by data.train, data.validation and data.test"
    notice = Fault("split-names", message, fix, named[0], severity="warning")
    return [replace(file, split=None) for file in files], [notice] if splits != {"train"} else []
