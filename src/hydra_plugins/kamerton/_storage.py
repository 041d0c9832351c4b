"""The storage of a study: SQLite, PostgreSQL, a journal file or a gRPC proxy, opened from a URL."""

from __future__ import annotations

import errno
import random
import re
import sqlite3
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import sqlalchemy
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.storages import BaseStorage, GrpcStorageProxy, JournalStorage, RDBStorage, get_storage
from optuna.storages.journal import JournalFileBackend
from sqlalchemy import event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, ProgrammingError, SQLAlchemyError

from hydra_plugins.kamerton._space import SweepError
from kamerton.mask import MASK, URL_HEAD, mask_text

_DRIVERS = {"postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg"}
_WAIT = 60.0  # seconds for another worker's transaction
_PROXY_WAIT = 20.0  # seconds for a gRPC proxy to answer
_ATTEMPTS = 6
_UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO)
_AGAIN = "then run the same command again: it resumes"
_PASSWORD = re.compile(rf"({URL_HEAD})(?:[^\s/]*|[^\s@]*)(?=@)|(?<=password=)[^\s&]+", re.IGNORECASE)


def open_storage(url: str, heartbeat_interval: int | None = None, grace_period: int | None = None) -> BaseStorage:
    """Open the storage behind `url`. In databases each trial has a heartbeat every `heartbeat_interval` seconds, and
    counts as killed after `grace_period` seconds without one. Raises `SweepError` if it cannot be opened.
    """
    scheme, _, rest = url.partition("://")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            if scheme == "journal":
                Path(rest).parent.mkdir(parents=True, exist_ok=True)
                return JournalStorage(JournalFileBackend(rest))
            if scheme == "grpc":
                host, _, port = rest.partition(":")
                if not (port or "0").isdecimal():
                    raise OSError(f"its port {port} is not a number")
                proxy = GrpcStorageProxy(host=host or "localhost", port=int(port or 13000))
                proxy.wait_server_ready(timeout=_PROXY_WAIT)
                return proxy
            name = f"{_DRIVERS.get(scheme, scheme)}://{rest}"
            return get_storage(_database(url, lambda: _rdb(name, heartbeat_interval, grace_period)))
    except OSError as error:
        raise _unusable(url, error) from None


def absolute(url: str) -> str:
    """Return `url` with an absolute file path: jobs may run in another working directory."""
    for head in ("sqlite:///", "journal://"):
        path = url.removeprefix(head)
        if url.startswith(head) and path and not path.startswith((":memory:", "file:")):
            return f"{head}{Path(path).expanduser().absolute()}"
    return url


def masked(text: str) -> str:
    """Return a URL, override or sentence with its secrets redacted."""
    return mask_text(_without_password(text))


def has_password(url: str) -> bool:
    """Return whether `url` must not be shown."""
    with suppress(ArgumentError, ValueError):  # not the URL of a database
        if make_url(url).password is not None:
            return True
    return _without_password(url) != url


def _without_password(text: str) -> str:
    return _PASSWORD.sub(lambda match: f"{match[1] or ''}{MASK}", text)


class _Database(RDBStorage):
    """Ignores a heartbeat that cannot be written: the sweep's own thread will meet the same error and report it."""

    def record_heartbeat(self, trial_id: int) -> None:
        with suppress(StorageInternalError):
            super().record_heartbeat(trial_id)


def _rdb(url: str, heartbeat_interval: int | None, grace_period: int | None) -> RDBStorage:
    is_sqlite = url.startswith("sqlite")
    options: dict[str, Any] = {"connect_args": {"timeout": _WAIT}} if is_sqlite else {"pool_pre_ping": True}
    if is_sqlite and (path := make_url(url).database):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    storage = _Database(url, engine_kwargs=options, heartbeat_interval=heartbeat_interval, grace_period=grace_period)
    if is_sqlite:
        _share(storage.engine)
    return storage


def close(storage: BaseStorage) -> None:
    """Close the connections of a database; SQLite then keeps everything in its one file."""
    backend = getattr(storage, "_backend", None)
    if isinstance(backend, RDBStorage):
        backend.remove_session()
        backend.engine.dispose()


def _share(engine: sqlalchemy.Engine) -> None:
    """Let SQLite take its write lock when a transaction begins: otherwise two workers that have both read a waiting
    trial would both start it. With a write-ahead log a commit need not wait for the disk.
    """

    def connect(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # the driver starts no transactions itself
        with suppress(sqlite3.OperationalError):  # another worker is setting it; the file keeps it
            connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")

    engine.dispose()
    event.listen(engine, "connect", connect)
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))


def _database(url: str, connect: Callable[[], RDBStorage]) -> RDBStorage:
    """Connect with retries: of workers that start together, all but one fail to create the tables, then find them."""
    for attempt in range(_ATTEMPTS):
        try:
            return connect()
        except ImportError as error:
            fix = "pip install 'psycopg[binary]'" if "postgres" in url else "install the database's driver"
            raise SweepError(f"the storage {masked(url)} cannot be opened: {error}\n  fix: {fix}") from None
        except (SQLAlchemyError, StorageInternalError) as error:
            cause = error.__cause__ if isinstance(error, StorageInternalError) else error
            is_race = isinstance(cause, IntegrityError | ProgrammingError) or "already exists" in str(cause)
            if not is_race or attempt == _ATTEMPTS - 1:
                raise _unusable(url, cause) from None
            time.sleep(random.random() * 0.2 * (attempt + 1))
    raise AssertionError


class StorageLost(BaseException):
    """The storage stopped answering while a trial ran, which is not a result of the trial."""


def lost(error: BaseException | None) -> bool:
    """Return whether `error`, or one of its causes, is a storage that did not answer."""
    return any(isinstance(cause, StorageInternalError | DBAPIError) for cause in _chain(error))


@contextmanager
def answering(url: str) -> Iterator[None]:
    """Inside, raise `SweepError` that names the storage if it stops answering (locked, disk full, server gone), or the
    file that cannot be written.
    """
    try:
        yield
    except SweepError:
        raise
    except (StorageLost, Exception) as error:
        chain = _chain(error)  # its root has the words of the database or the operating system
        root = next((cause for cause in reversed(chain) if isinstance(cause, DBAPIError | OSError)), chain[-1])
        if lost(error) or (isinstance(root, OSError) and url == f"journal://{root.filename}"):
            raise _unusable(url, root, "stopped answering") from error
        if not isinstance(error, OSError) or error.errno not in _UNWRITABLE:
            raise
        message = f"{error.filename or 'a file of the sweep'} cannot be written: {error.strerror}"
        raise SweepError(f"{message}\n  fix: free space, or restore the permission to write there, {_AGAIN}") from error


def _chain(error: BaseException | None) -> list[BaseException]:
    """Return an error and its causes, each once: an error that is raised again may be its own cause."""
    chain: list[BaseException] = []
    while error is not None and not any(error is cause for cause in chain):
        chain.append(error)
        error = error.__cause__ or error.__context__
    return chain


def _unusable(url: str, error: BaseException | None, how: str = "cannot be opened") -> SweepError:
    """Return the fault of a storage, with its fix."""
    text = str(error.orig) if isinstance(error, DBAPIError) and error.orig else str(error)
    return SweepError(f"the storage {masked(url)} {how}: {masked(text.strip())}\n  fix: {_fix(url, error, text)}")


def _fix(url: str, error: BaseException | None, text: str) -> str:
    scheme, _, rest = url.partition("://")
    if scheme in ("sqlite", "journal"):
        path = Path(rest.removeprefix("/") if scheme == "sqlite" else rest)
        folder = path.parent
        if "locked" in text:
            return f"stop the program that has held the lock for over {_WAIT:g} s (fuser {path} shows it), {_AGAIN}"
        if "full" in text or getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
            return f"free space on the disk of {folder} (df {folder}), {_AGAIN}"
        if "malformed" in text or "not a database" in text:
            return f"restore a copy of {path}, which cannot be read, or set another hydra.sweeper.storage"
        return f"check that {folder} is a folder that you may write to, or set another hydra.sweeper.storage"
    if scheme == "grpc":
        return "check that the proxy (run_grpc_proxy_server) runs, and hydra.sweeper.storage=grpc://host:port"
    if isinstance(error, ArgumentError):
        return "give hydra.sweeper.storage as sqlite:///file, postgresql://…, journal://file or grpc://host:port"
    return (
        "check that the server runs and can be reached from this machine, and the host, port, user, password and "
        "database in hydra.sweeper.storage"
    )
