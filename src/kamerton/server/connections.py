"""Connection limit: how many connections are allowed, and which are closed beyond that."""

from __future__ import annotations

import asyncio
import errno
import logging
import time
from collections import Counter
from collections.abc import Callable, Collection
from typing import Any, Protocol

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

_MAX_CONNECTIONS = 4096  # even if a process may open more files
_LOG_EVERY_S = 60.0
log = logging.getLogger(__name__)


class Connection(Protocol):
    """The properties of a connection that decide which ones are closed."""

    number: int
    transport: asyncio.Transport

    @property
    def is_answering(self) -> bool: ...
    @property
    def address(self) -> str: ...
    def abort(self) -> None: ...


def max_connections() -> int:
    """Return half of this process's open-file limit; the rest is for files, jobs, and connections being closed."""
    limit = _MAX_CONNECTIONS if resource is None else resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return max(8, min(_MAX_CONNECTIONS, limit // 2 if limit > 0 else _MAX_CONNECTIONS))  # negative: unlimited


def make_room(new: Connection, connections: Collection[Connection]) -> None:
    """Close some connections if there are more than `max_connections()`: a sixteenth at once, as selection takes time.

    The oldest connections without an authenticated request are closed, at the address with the most of them. If every
    other connection is answering a tenant, the new one is closed.
    """
    limit = max_connections()
    if len(connections) <= limit:
        return
    connected = [connection for connection in connections if not connection.transport.is_closing()]
    if len(connected) <= limit:
        return
    idle = [connection for connection in connected if connection is not new and not connection.is_answering]
    idle.sort(key=lambda connection: connection.number)
    busiest = Counter(connection.address for connection in idle).most_common(1)
    to_close = [new]
    if busiest:
        to_close = [connection for connection in idle if connection.address == busiest[0][0]][: -(-limit // 16)]
    for connection in to_close:
        connection.abort()


def quiet_accept(clock: Callable[[], float] = time.monotonic) -> Callable[[asyncio.AbstractEventLoop, Any], None]:
    """Return an error handler of an event loop that reports "too many open files" at most once a minute."""
    reported = -_LOG_EVERY_S

    def handle(loop: asyncio.AbstractEventLoop, context: Any) -> None:
        nonlocal reported
        error = context.get("exception")
        if not (isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE)):
            loop.default_exception_handler(context)
        elif clock() - reported >= _LOG_EVERY_S:
            reported = clock()
            log.error("too many open files: new connections wait (raise `ulimit -n`)")

    return handle
