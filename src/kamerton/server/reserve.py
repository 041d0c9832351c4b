"""Space on the disk for uploads that are under way: all of them together leave the reserve free."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from starlette.types import Message, Receive


class Reserve:
    """What uploads will still write. `check` raises where the disk has no room for so many bytes more.

    For one thread, the event loop's.
    """

    def __init__(self, check: Callable[[int], None]) -> None:
        self._check = check
        self._promised = 0

    @contextmanager
    def upload(self, receive: Receive, announced: int) -> Iterator[Receive]:
        """The body of an upload, counted as it comes; `announced` bytes (0: it does not say) are reserved beforehand.

        It is written twice: as it comes, and to where it is kept. Raises as `check` does, also from within the body.
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
