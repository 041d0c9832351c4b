"""The stored rows of a set of files: read once, kept in the cache, found again by their content."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kamerton.data.faults import FaultLog
from kamerton.data.options import DataFile
from kamerton.data.read.ingest import Reading, ingest
from kamerton.data.read.unused import Unused
from kamerton.data.store import Store, StoreWriter, hash64
from kamerton.errors import Fault, UserError

VERSION = "7"  # of the stored rows; change it when the same files give other rows or faults
READINGS = 3  # of files that change while they are read
Contents = list[list[Any]]  # for each file its digest and all else that shapes its rows
LOGS = ("faults.jsonl", "rejects.jsonl")


@dataclass(frozen=True)
class StoredRows:
    """The store, its folder, and what reading found: rows per file and the schemas by number, as (source, schema).

    `contents` is what was in the files when they were read.
    """

    store: Store
    folder: Path
    reading: Reading
    contents: Contents


class _Changed(Exception):  # noqa: N818 (it names what happened)
    """A file was written to while it was read."""


def stored_rows(
    files: list[DataFile],
    cache: Path,
    log: FaultLog,
    relabel: Mapping[str, str],
    keep_alive: object = None,
    contents: Contents | None = None,
) -> StoredRows:
    """Return rows of these files that can be used, from the cache or read now; what is wrong with the others is in `log`.

    Rows are kept under the digest of the content that they were read from: if a file changes meanwhile it is read
    again. Raises `UserError` if it keeps changing, or is not what `contents` says it was.
    """
    for _ in range(READINGS):
        found = [_file_key(file) for file in files]
        if contents is not None and found != contents:
            break
        try:
            return _stored(files, found, cache, log, relabel, keep_alive)
        except _Changed:
            pass
    message = "a file of the data changed while it was read"
    changed = [str(file.path) for file, old in zip(files, contents or found, strict=True) if _file_key(file) != old]
    fix = "wait until nothing writes to it, or use a copy"
    raise UserError([Fault("file-changed", message, fix, changed[0] if changed else str(files[0].path))])


def _stored(
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
        own = FaultLog(log.policy, part)
        reading = Reading()
        writer = StoreWriter(part / "rows.arrow", [str(file.path) for file in files])
        try:
            before = [_state(file) for file in files]
            for values in ingest(files, own, reading, relabel):
                writer.add(values)
            if [_state(file) for file in files] != before or [_file_key(file) for file in files] != contents:
                raise _Changed
        finally:
            writer.close()
            own.flush()
            (part / "manifest.json").write_text(json.dumps({"reading": asdict(reading), "log": own.state()}))

    written = build_once(folder, build)
    manifest = json.loads((written / "manifest.json").read_text())
    if not relabel:  # a second reading, with other labels, finds the same faults again
        log.restore(manifest["log"])
        for name in LOGS:
            if log.folder is not None and (written / name).exists():
                shutil.copyfile(written / name, log.folder / name)
    found = manifest["reading"]
    unused = {name: Unused(**seen) for name, seen in found["unused"].items()}
    reading = Reading(found["rows"], [(a, b) for a, b in found["schemas"]], unused, found["text"])
    return StoredRows(Store(written / "rows.arrow", keep_alive), written, reading, contents)


@contextmanager
def log_files(final: Path) -> Iterator[Path]:
    """Yield a folder for the lists of a `FaultLog`; they are moved to `final` when complete, whether or not that fails."""
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
    """Return `folder`, filled by `build` unless it exists; built beside its place and moved there whole: nobody sees half."""
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
                raise  # not another process that built the same first
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return folder


def digest(value: Any) -> str:
    """Return a short hash of plain values."""
    return f"{hash64(json.dumps(value, sort_keys=True, default=str).encode()):016x}"


def _file_key(file: DataFile) -> list[Any]:
    """Return everything about a file that shapes its rows, its content first."""
    with open(file.path, "rb") as stream:
        content = hashlib.file_digest(stream, "blake2b").hexdigest()
    place = [str(file.path), file.split, file.source]
    return [content, *place, file.format, file.encoding, asdict(file.columns)]


def _state(file: DataFile) -> tuple[int, int, int, int]:
    """Return what changes with a file whenever it is written to, also if it is restored afterwards."""
    found = os.stat(file.path)
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
