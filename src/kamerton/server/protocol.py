"""uvicorn's HTTP/1.1 with connection limits and timeouts; malformed requests get an OpenAI-style error."""

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

REQUEST_S = 10.0  # from the start of a connection, or from the last response, to a complete request head
STALL_S = 60.0  # longest time in which a client reads nothing of its response
_BACKLOG = 4096  # connections queued by the system until they are accepted
_LENIENT = re.compile(rb"(?<!\r)\n|\n[ \t]")  # a line ending in a bare LF; a header folded over several lines
_HEAD_ENDS = re.compile(rb"\r?\n\r?\n")
_log = logging.getLogger("uvicorn.error.connections")
_log.setLevel(logging.ERROR)  # otherwise anyone could fill the log with malformed requests
_numbers = itertools.count()


class StrictConnection(h11.Connection):
    """An HTTP connection that refuses bare line feeds and folded headers, which proxies interpret differently."""

    def next_event(self) -> Any:
        """Return the next event. Raises `h11.RemoteProtocolError` for input that is not valid HTTP/1.1."""
        if self.their_state is h11.IDLE:
            received = bytes(self.trailing_data[0])
            end = _HEAD_ENDS.search(received)
            if _LENIENT.search(received if end is None else received[: end.end()]):
                raise h11.RemoteProtocolError("bare line feed or folded header")
        return super().next_event()


class Protocol(H11Protocol):
    """The protocol of every connection (`uvicorn.Config(http=Protocol)`).

    A connection that does not send a complete request in time, or does not read its response, is closed. If there are
    too many connections, `make_room` chooses which to close.
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
        """Whether an authenticated request is being received or answered."""
        if self.cycle is None or self.cycle.response_complete:
            return False
        return "tenant" in self.cycle.scope.get("state", {})

    @property
    def address(self) -> str:
        """The address of the client or of the proxy in front of it."""
        return self.client[0] if self.client else ""

    def abort(self) -> None:
        """Close the connection at once."""
        self.transport.abort()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Accept a connection, and close connections if there are too many."""
        super().connection_made(transport)
        self._await_request()
        make_room(self, self.connections)  # type: ignore[arg-type]  # all are of this class

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the timers of a closed connection."""
        for timer in (self._request_timer, self._stall_timer):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        """Start the timer of the next request."""
        super().on_response_complete()
        self._await_request()

    def pause_writing(self) -> None:
        """Start the stall timer: the client reads its response too slowly."""
        super().pause_writing()
        self._stall_timer = self.loop.call_later(STALL_S, self.abort)

    def resume_writing(self) -> None:
        """Cancel the stall timer: the client reads again."""
        if self._stall_timer is not None:
            self._stall_timer.cancel()
        super().resume_writing()

    def _await_request(self) -> None:
        if self._request_timer is not None:
            self._request_timer.cancel()
        self._request_timer = self.loop.call_later(REQUEST_S, self._on_request_timeout)

    def _on_request_timeout(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            return  # the request arrived in time and is being answered
        if self.transport.get_write_buffer_size():  # the client is still reading a long response
            self._request_timer = self.loop.call_later(STALL_S, self.abort)
        else:
            self.abort()

    def send_400_response(self, msg: str) -> None:
        """Answer an unreadable request, unless a response has started, and close the connection."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            response = response_to(ApiError(400, msg, code="invalid_http"), {"Connection": "close"})
            head = h11.Response(status_code=400, headers=response.raw_headers, reason=b"Bad Request")
            for event in (head, h11.Data(data=bytes(response.body)), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        if self.cycle is not None:  # stop working on an unfinished response
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.transport.close()


class Server(uvicorn.Server):
    """A server that accepts few connections at once (`uvicorn.Config(backlog=…)`) with a long system queue."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, then lengthen the system's queue: asyncio uses one number for the queue and for accepts at once."""
        await super().startup(sockets)
        for server in self.servers:
            for shared in server.sockets:
                with socket.socket(fileno=os.dup(shared.fileno())) as listening:
                    listening.listen(_BACKLOG)
