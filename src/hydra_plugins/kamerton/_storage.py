"""Where a study is kept: SQLite, PostgreSQL, a journal file or a gRPC proxy, opened from a URL."""

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
_AGAIN = "then type the same command again: it goes on where it stopped"
_PASSWORD = re.compile(rf"({URL_HEAD})(?:[^\s/]*|[^\s@]*)(?=@)|(?<=password=)[^\s&]+", re.IGNORECASE)


def open_storage(url: str, heartbeat_interval: int | None = None, grace_period: int | None = None) -> BaseStorage:
    """The storage behind `url`; databases with a heartbeat every `heartbeat_interval` seconds, after `grace_period`
    seconds without which a trial counts as killed. Raises `SweepError` where it cannot be opened.
    """
    scheme, _, rest = url.partition("://")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            if scheme == "journal":
                Path(rest).parent.mkdir(parents=True, exist_ok=True)
                return JournalStorage(JournalFileBackend(rest))
            if scheme == "grpc":
                return _proxy(rest)
            name = f"{_DRIVERS.get(scheme, scheme)}://{rest}"
            return get_storage(_database(url, lambda: _rdb(name, heartbeat_interval, grace_period)))
    except OSError as error:
        raise _unusable(url, error) from None


def _proxy(place: str) -> GrpcStorageProxy:
    host, _, port = place.partition(":")
    if not (port or "0").isdecimal():
        raise OSError(f"its port is {port}, no number")
    proxy = GrpcStorageProxy(host=host or "localhost", port=int(port or 13000))
    proxy.wait_server_ready(timeout=_PROXY_WAIT)
    return proxy


def absolute(url: str) -> str:
    """`url` with the path of a file made absolute: jobs may run in another working directory."""
    for head in ("sqlite:///", "journal://"):
        path = url.removeprefix(head)
        if url.startswith(head) and path and not path.startswith((":memory:", "file:")):
            return f"{head}{Path(path).expanduser().absolute()}"
    return url


def masked(text: str) -> str:
    """A URL, override or sentence without the secrets in it."""
    return mask_text(_without_password(text))


def has_password(url: str) -> bool:
    """Whether `url` must not be seen."""
    with suppress(ArgumentError, ValueError):  # no URL of a database
        if make_url(url).password is not None:
            return True
    return _without_password(url) != url


def _without_password(text: str) -> str:
    return _PASSWORD.sub(lambda found: f"{found[1] or ''}{MASK}", text)


class _Database(RDBStorage):
    """Leaves out a beat that cannot be written: its thread has nobody to tell, and the sweep's own finds out too."""

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
    """Give back the connections of a database; SQLite then has all in its one file."""
    backend = getattr(storage, "_backend", None)
    if isinstance(backend, RDBStorage):
        backend.remove_session()
        backend.engine.dispose()


def _share(engine: sqlalchemy.Engine) -> None:
    """SQLite takes its write lock when a transaction begins: otherwise two workers that have both read that a trial
    waits would both start it. With a write-ahead log a commit need not wait for the disk.
    """

    def connect(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # the driver begins no transaction of its own
        with suppress(sqlite3.OperationalError):  # another worker is setting it, for the file keeps it
            connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")

    engine.dispose()
    event.listen(engine, "connect", connect)
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))


def _database(url: str, connect: Callable[[], RDBStorage]) -> RDBStorage:
    """Workers that start together create the same tables; all but one of them fail, and find the tables there."""
    for attempt in range(_ATTEMPTS):
        try:
            return connect()
        except ImportError as error:
            fix = "pip install 'psycopg[binary]'" if "postgres" in url else "install the database's driver"
            raise SweepError(f"the storage {masked(url)} cannot be opened: {error}\n  fix: {fix}") from None
        except (SQLAlchemyError, StorageInternalError) as error:
            cause = error.__cause__ if isinstance(error, StorageInternalError) else error
            together = isinstance(cause, IntegrityError | ProgrammingError) or "already exists" in str(cause)
            if not together or attempt == _ATTEMPTS - 1:
                raise _unusable(url, cause) from None
            time.sleep(random.random() * 0.2 * (attempt + 1))
    raise AssertionError


class StorageLost(BaseException):
    """The storage stopped answering while a trial ran: neither the trial nor Optuna may take that for a result."""


def lost(error: BaseException | None) -> bool:
    """Whether `error`, or what it came of, is that a storage did not answer."""
    return any(isinstance(one, StorageInternalError | DBAPIError) for one in _chain(error))


@contextmanager
def answering(url: str) -> Iterator[None]:
    """Inside, a storage that stops answering (locked, disk full, server gone) raises `SweepError` with its name, and a
    file that cannot be written one with the file's.
    """
    try:
        yield
    except SweepError:
        raise
    except (StorageLost, Exception) as error:
        root = _root(error)
        if lost(error) or (isinstance(root, OSError) and url == f"journal://{root.filename}"):
            raise _unusable(url, root, "stopped answering") from error
        if not isinstance(error, OSError) or error.errno not in _UNWRITABLE:
            raise
        message = f"{error.filename or 'a file of the sweep'} cannot be written: {error.strerror}"
        raise SweepError(f"{message}\n  fix: free space, or give back the right to write there, {_AGAIN}") from error


def _root(error: BaseException) -> BaseException:
    """What an error began with: the words of the database or of the operating system."""
    chain = _chain(error)
    return next((one for one in reversed(chain) if isinstance(one, DBAPIError | OSError)), chain[-1])


def _chain(error: BaseException | None) -> list[BaseException]:
    """An error and what it came of, each once: an error that is raised again may come of itself."""
    chain: list[BaseException] = []
    while error is not None and not any(error is one for one in chain):
        chain.append(error)
        error = error.__cause__ or error.__context__
    return chain


def _unusable(url: str, error: BaseException | None, how: str = "cannot be opened") -> SweepError:
    """Why a storage is of no use, and what to do."""
    text = str(error.orig) if isinstance(error, DBAPIError) and error.orig else str(error)
    return SweepError(f"the storage {masked(url)} {how}: {masked(text.strip())}\n  fix: {_to_do(url, error, text)}")


def _to_do(url: str, error: BaseException | None, text: str) -> str:
    scheme, _, rest = url.partition("://")
    if scheme in ("sqlite", "journal"):
        path = Path(rest.removeprefix("/") if scheme == "sqlite" else rest)
        folder = path.parent
        if "locked" in text:
            return f"end the program that has held the lock for over {_WAIT:g} s (fuser {path} shows it), {_AGAIN}"
        if "full" in text or getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
            return f"free space on the disk of {folder} (df {folder}), {_AGAIN}"
        if "malformed" in text or "not a database" in text:
            return f"put back a copy of {path}, or begin anew with another hydra.sweeper.storage: it cannot be read"
        return f"check that {folder} is a folder that you may write to, or name another place in hydra.sweeper.storage"
    if scheme == "grpc":
        return "check that the proxy (run_grpc_proxy_server) runs, and hydra.sweeper.storage=grpc://host:port"
    if isinstance(error, ArgumentError):
        return "give hydra.sweeper.storage as sqlite:///file, postgresql://…, journal://file or grpc://host:port"
    return (
        "check that the server runs and can be reached from this machine, and the host, port, user, password and "
        "database in hydra.sweeper.storage"
    )
