"""HTTP/1.1 as uvicorn speaks it, with limits on what a connection may hold, and refusals in OpenAI's shape."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import re
import socket
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from kamerton.server.connections import make_room
from kamerton.server.errors import ApiError, response_to

REQUEST_S = 10.0  # from the start of a connection, or from the last answer, to a whole request line with its headers
STALL_S = 60.0  # the longest time in which a client takes nothing of its answer
_BACKLOG = 4096  # connections that the system keeps until they are accepted
_LENIENT = re.compile(rb"(?<!\r)\n|\n[ \t]")  # a line that ends in a bare LF; a header that goes on in the next line
_HEAD_ENDS = re.compile(rb"\r?\n\r?\n")
_log = logging.getLogger("uvicorn.error.connections")
_log.setLevel(logging.ERROR)  # a warning for every malformed request would let anyone fill the log
_numbers = itertools.count()


class StrictConnection(h11.Connection):
    """An HTTP connection that refuses what proxies may read differently: bare line feeds and folded headers."""

    def next_event(self) -> Any:
        """The next event; raises `h11.RemoteProtocolError` for what is not HTTP/1.1."""
        if self.their_state is h11.IDLE:
            received = bytes(self.trailing_data[0])
            end = _HEAD_ENDS.search(received)
            if _LENIENT.search(received if end is None else received[: end.end()]):
                raise h11.RemoteProtocolError("bare line feed or folded header")
        return super().next_event()


class Protocol(H11Protocol):
    """The protocol of every connection (`uvicorn.Config(http=Protocol)`).

    A connection that sends no whole request in time, or takes nothing of its answer, is closed. `make_room` decides
    which one is closed where there are too many.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.logger = _log
        self.conn = StrictConnection(h11.SERVER)
        self.number = next(_numbers)  # orders connections by their age
        self._request_timer: asyncio.TimerHandle | None = None
        self._stall_timer: asyncio.TimerHandle | None = None

    @property
    def is_answering(self) -> bool:
        """Whether a request is being received or answered whose token is right."""
        if self.cycle is None or self.cycle.response_complete:
            return False
        return "tenant" in self.cycle.scope.get("state", {})

    @property
    def address(self) -> str:
        """The client's address; a proxy's where one is in front."""
        return self.client[0] if self.client else ""

    def abort(self) -> None:
        """Close the connection at once."""
        self.transport.abort()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, and close another one, or this one, if there are too many."""
        super().connection_made(transport)
        self._await_request()
        make_room(self, self.connections)  # type: ignore[arg-type]  # all are of this class

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is left of a connection."""
        for timer in (self._request_timer, self._stall_timer):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        """The next request has its own time."""
        super().on_response_complete()
        self._await_request()

    def pause_writing(self) -> None:
        """The client takes its answer too slowly."""
        super().pause_writing()
        self._stall_timer = self.loop.call_later(STALL_S, self.abort)

    def resume_writing(self) -> None:
        """The client has taken some of its answer."""
        if self._stall_timer is not None:
            self._stall_timer.cancel()
        super().resume_writing()

    def _await_request(self) -> None:
        if self._request_timer is not None:
            self._request_timer.cancel()
        self._request_timer = self.loop.call_later(REQUEST_S, self._overdue)

    def _overdue(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            return  # it came in time, and is being answered
        if self.transport.get_write_buffer_size():  # the end of a long answer is still being taken
            self._request_timer = self.loop.call_later(STALL_S, self.abort)
        else:
            self.abort()

    def send_400_response(self, msg: str) -> None:
        """Answer what cannot be read, where nothing has been answered yet, and close the connection."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            response = response_to(ApiError(400, msg, code="invalid_http"), {"Connection": "close"})
            head = h11.Response(status_code=400, headers=response.raw_headers, reason=b"Bad Request")
            for event in (head, h11.Data(data=bytes(response.body)), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        if self.cycle is not None:  # what was being answered has nobody to hear it any more
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.transport.close()


class Server(uvicorn.Server):
    """A server that accepts few connections at once, as `uvicorn.Config(backlog=…)` says, and loses none of many."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen; the system's own queue is longer than what is accepted at once, which asyncio takes for the same."""
        await super().startup(sockets)
        for server in self.servers:
            for shared in server.sockets:
                with socket.socket(fileno=os.dup(shared.fileno())) as listening:
                    listening.listen(_BACKLOG)
