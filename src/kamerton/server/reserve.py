"""Disk space for uploads in progress: together they must leave the configured reserve free."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from starlette.types import Message, Receive


class Reserve:
    """The bytes that uploads in progress will still write; `check(size)` raises if the disk lacks `size` free bytes.

    Not thread-safe: used in the event loop only.
    """

    def __init__(self, check: Callable[[int], None]) -> None:
        self._check = check
        self._promised = 0

    @contextmanager
    def upload(self, receive: Receive, announced: int) -> Iterator[Receive]:
        """Wrap `receive` to count the body of an upload, and reserve its `announced` bytes (0: unknown) in advance.

        Twice the size is reserved, since a body is written to a temporary file and then copied. Raises as `check` does,
        also while the body is read.
        """
        received, promised = 0, 0

        def promise(size: int) -> None:
            nonlocal promised
            self._promised += size - promised
            promised = size

        async def part() -> Message:
            nonlocal received
            message = await receive()
            size = len(message.get("body", b""))
            if received + size > announced:
                self._check(self._promised + 2 * size)
            received += size
            promise(2 * max(announced, received) - received)
            return message

        self._check(self._promised + 2 * announced)
        promise(2 * announced)
        try:
            yield part
        finally:
            promise(0)
