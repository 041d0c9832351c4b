"""How many connections there may be, and which one is closed when there are too many."""

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

_MOST = 4096  # however many files a process may open
_LOG_EVERY_S = 60.0
log = logging.getLogger(__name__)


class Connection(Protocol):
    """What has to be known of a connection to choose among several."""

    number: int
    transport: asyncio.Transport

    @property
    def is_answering(self) -> bool: ...
    @property
    def address(self) -> str: ...
    def abort(self) -> None: ...


def most_connections() -> int:
    """Half of the files that this process may open: the other half is for files, jobs, and connections to be closed."""
    limit = _MOST if resource is None else resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return max(8, min(_MOST, limit // 2 if limit > 0 else _MOST))  # negative: unlimited


def make_room(new: Connection, connections: Collection[Connection]) -> None:
    """Close some connections if there are more than `most_connections()`: a sixteenth, because choosing takes time.

    They are the oldest of those without a request of a tenant's, at the address that has most of these. Where every
    other connection is answering a tenant, it is the new one.
    """
    most = most_connections()
    if len(connections) <= most:
        return
    there = [one for one in connections if not one.transport.is_closing()]
    if len(there) <= most:
        return
    idle = [one for one in there if one is not new and not one.is_answering]
    idle.sort(key=lambda one: one.number)
    held = Counter(one.address for one in idle).most_common(1)
    closed = [one for one in idle if one.address == held[0][0]][: -(-most // 16)] if held else [new]
    for one in closed:
        one.abort()


def quiet_accept(clock: Callable[[], float] = time.monotonic) -> Callable[[asyncio.AbstractEventLoop, Any], None]:
    """A handler of an event loop's errors that reports "too many open files" once a minute, not for every attempt."""
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
