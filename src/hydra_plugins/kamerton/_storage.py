"""Where a study is kept: SQLite, PostgreSQL, a journal file or a gRPC proxy, opened from a URL."""

from __future__ import annotations

import random
import re
import sqlite3
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
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
from kamerton.decide.mask import MASK, URL_HEAD, mask_text

_DRIVERS = {"postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg"}
_WAIT = 60.0  # seconds for another worker's transaction
_PROXY_WAIT = 20.0  # seconds for a gRPC proxy to answer
_ATTEMPTS = 6
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


def _rdb(url: str, heartbeat_interval: int | None, grace_period: int | None) -> RDBStorage:
    is_sqlite = url.startswith("sqlite")
    options: dict[str, Any] = {"connect_args": {"timeout": _WAIT}} if is_sqlite else {"pool_pre_ping": True}
    if is_sqlite and (path := make_url(url).database):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    storage = RDBStorage(url, engine_kwargs=options, heartbeat_interval=heartbeat_interval, grace_period=grace_period)
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


def _unusable(url: str, error: BaseException | None) -> SweepError:
    """Why a storage cannot be opened, and what to check."""
    text = str(error.orig) if isinstance(error, DBAPIError) and error.orig else str(error)
    return SweepError(
        f"the storage {masked(url)} cannot be opened: {masked(text.strip())}\n  fix: {_to_check(url, error)}"
    )


def _to_check(url: str, error: BaseException | None) -> str:
    scheme, _, rest = url.partition("://")
    if scheme in ("sqlite", "journal"):
        folder = Path(rest.removeprefix("/") if scheme == "sqlite" else rest).parent
        return f"check that {folder} is a folder that you may write to, or name another place in hydra.sweeper.storage"
    if scheme == "grpc":
        return "check that the proxy (run_grpc_proxy_server) runs, and hydra.sweeper.storage=grpc://host:port"
    if isinstance(error, ArgumentError):
        return "give hydra.sweeper.storage as sqlite:///file, postgresql://…, journal://file or grpc://host:port"
    return (
        "check that the server runs and can be reached from this machine, and the host, port, user, password and "
        "database in hydra.sweeper.storage"
    )
