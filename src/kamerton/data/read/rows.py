"""The stored rows of a set of files: read once and cached by the content of the files."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from kamerton.data.data_file import DataFile
from kamerton.data.faults import FaultLog
from kamerton.data.read.columns.unused import Unused
from kamerton.data.read.ingest import ingest
from kamerton.data.read.reading import Reading
from kamerton.data.store import Store, StoreWriter
from kamerton.data.stored import hash64
from kamerton.errors import Fault, UserError

VERSION = "25"  # of the stored rows; change it when the same files give other rows or faults
MAX_READINGS = 3  # of files that change while they are read
Contents = list[list[Any]]  # for each file its digest and the options that determine its rows
LOGS = ("faults.jsonl", "rejects.jsonl")


@dataclass(frozen=True)
class StoredRows:
    """The store, its folder, and the results of reading; `contents` identifies the files' contents at that time."""

    store: Store
    folder: Path
    reading: Reading
    contents: Contents


class _FileChangedError(Exception):
    """A file was written to while it was read."""


def stored_rows(
    files: list[DataFile],
    cache: Path,
    log: FaultLog,
    relabel: Mapping[str, str],
    keep_alive: object = None,
    contents: Contents | None = None,
) -> StoredRows:
    """Return the usable rows of these files, from the cache or read now; faults of the other rows go to `log`.

    The cache key is a digest of the files' contents; if a file changes while it is read, it is read again. Raises
    `UserError` if it keeps changing, or differs from `contents`.
    """
    for _ in range(MAX_READINGS):
        current = _contents(files)
        if contents is not None and current != contents:
            break
        try:
            return _load_or_read(files, current, cache, log, relabel, keep_alive)
        except _FileChangedError:
            pass
    message = "a file of the data changed while it was read"
    changed = [file.name for file, old in zip(files, contents or current, strict=True) if _contents([file]) != [old]]
    fix = "wait until nothing writes to it, or use a copy"
    raise UserError([Fault("file-changed", message, fix, changed[0] if changed else files[0].name)])


def _load_or_read(
    files: list[DataFile],
    contents: Contents,
    cache: Path,
    log: FaultLog,
    relabel: Mapping[str, str],
    keep_alive: object,
) -> StoredRows:
    key = digest([VERSION, contents, log.policy, dict(relabel)])
    folder = cache / "rows" / key

    def build(part: Path) -> None:
        file_log = FaultLog(log.policy, part)
        reading = Reading()
        writer = StoreWriter(part / "rows.arrow", [file.name for file in files])
        try:
            before = [_state(file) for file in files]
            for values in ingest(files, file_log, reading, relabel):
                writer.add(values)
            if [_state(file) for file in files] != before or _contents(files) != contents:
                raise _FileChangedError
        finally:
            writer.close()
            file_log.flush()
            manifest = {"reading": reading, "log": file_log.state()}
            (part / "manifest.json").write_text(json.dumps(manifest, default=_fields))

    build_once(folder, build)
    manifest = json.loads((folder / "manifest.json").read_text())
    if not relabel:  # a second reading, with other labels, has the same faults
        log.restore(manifest["log"])
        for name in LOGS:
            if log.folder is not None and (folder / name).exists():
                shutil.copyfile(folder / name, log.folder / name)
    values = manifest["reading"]
    unused = {name: Unused(**counts) for name, counts in values["unused"].items()}
    schemas = [(source, schema) for source, schema in values["schemas"]]
    reading = Reading(values["rows"], schemas, unused, values["text"], values["notes"], values["forms"])
    return StoredRows(Store(folder / "rows.arrow", keep_alive), folder, reading, contents)


def _fields(value: Any) -> dict[str, Any]:
    """Return the fields of a dataclass, without copying them as `asdict` does: a table may have 100,000 columns."""
    return {field.name: getattr(value, field.name) for field in fields(value)}


@contextmanager
def log_files(final: Path) -> Iterator[Path]:
    """Yield a folder for the files of a `FaultLog`; they are moved to `final` at the end, also after an exception."""
    final.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix="part-", dir=final.parent))
    try:
        yield part
    finally:
        for name in LOGS:
            (part / name).touch()
            (part / name).replace(final / name)
        shutil.rmtree(part, ignore_errors=True)


def build_once(folder: Path, build: Callable[[Path], None]) -> Path:
    """Return `folder`, filled by `build` unless it exists; it is moved into place when it is complete."""
    if folder.exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix="part-", dir=folder.parent))
    try:
        build(part)
        try:
            os.replace(part, folder)
        except OSError:
            if not folder.exists():
                raise  # otherwise another process was faster and built the same
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return folder


def digest(value: Any) -> str:
    """Return a short hash of plain values."""
    return f"{hash64(json.dumps(value, sort_keys=True, default=str).encode()):016x}"


def _contents(files: list[DataFile]) -> Contents:
    """Return everything about each file that determines its rows: a hash of its content, its name and options."""
    hashes = {path: _hash(path) for path in {path for file in files for path in _paths(file)}}
    return [
        [
            [hashes[path] for path in _paths(file)],
            asdict(file) | {"path": str(file.path), "companion": str(file.companion)},
        ]
        for file in files
    ]


def _paths(file: DataFile) -> list[Path]:
    return [file.path, *([file.companion] if file.companion else [])]


def _hash(path: Path) -> str:
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "blake2b").hexdigest()


def _state(file: DataFile) -> list[tuple[int, int, int, int]]:
    """Return values that change whenever the file is written to, even if its content is restored afterwards."""
    stats = map(os.stat, _paths(file))
    return [(stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns) for stat in stats]
