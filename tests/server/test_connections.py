"""Idle connections are closed, the oldest first if there are too many."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from kamerton.server import connections, protocol
from kamerton.server.connections import make_room, max_connections, quiet_accept
from support.serving import Served, serving

TOKEN = "Authorization: Bearer token-of-ann\r\n"


def connect(served: Served, sent: str = "") -> socket.socket:
    url = httpx.URL(served.url)
    connection = socket.create_connection((url.host, url.port or 0), timeout=300)
    connection.sendall(sent.encode())
    return connection


def is_open(connection: socket.socket) -> bool:
    """Whether the server has not closed it yet."""
    connection.setblocking(False)
    try:
        return connection.recv(1) != b""
    except BlockingIOError:
        return True
    except ConnectionError:
        return False


def at_work(served: Served) -> socket.socket:
    """Return a connection whose request waits for its body; retry if its head was sent too late."""
    head = f"POST /v1/fine_tuning/jobs HTTP/1.1\r\nHost: x\r\n{TOKEN}Content-Type: application/json\r\n"
    while True:
        with suppress(ConnectionError):
            connection = connect(served, f"{head}Expect: 100-continue\r\nContent-Length: 2\r\n\r\n")
            if connection.recv(4096).startswith(b"HTTP/1.1 100 "):
                return connection
            connection.close()


@pytest.mark.parametrize(
    "sent",
    [
        "",
        "GET /v1/models HTT",
        f"GET /v1/models HTTP/1.1\r\nHost: x\r\n{TOKEN}X-a: ",
        "GET /health HTTP/1.1\r\nHost: x\r\n\r\nGET /health HTT",  # the second request on a connection
        f"POST /v1/nothing HTTP/1.1\r\nHost: x\r\n{TOKEN}Content-Length: 9\r\n\r\nx",  # answered before its body came
    ],
)
def test_an_incomplete_request_times_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sent: str) -> None:
    monkeypatch.setattr(protocol, "REQUEST_S", 0.3)
    with serving(tmp_path) as served, connect(served, sent) as connection, suppress(ConnectionError):
        while connection.recv(4096):
            pass


def test_a_request_may_take_longer_than_its_head_may(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "REQUEST_S", 0.1)
    with at_work(served) as slow, connect(served) as idle:
        assert idle.recv(1) == b""  # the time is over
        slow.sendall(b"{}")
        assert slow.recv(4096).startswith(b"HTTP/1.1 400 ")


def test_the_oldest_idle_connection_makes_room_and_requests_of_tenants_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "max_connections", lambda: 6)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n{TOKEN}Content-Type: application/json\r\n"
    with serving(tmp_path) as served:
        asking = connect(served, f"{head}Expect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        assert asking.recv(4096).startswith(b"HTTP/1.1 100 ")  # it is at work
        idle = [connect(served, "GET /") for _ in range(20)]
        with served.http(None) as client:
            assert client.get("/health").json() == {"status": "ok"}
        left = [number for number, connection in enumerate(idle) if is_open(connection)]
        assert left == list(range(20 - len(left), 20))
        assert 3 <= len(left) <= 5
        asking.sendall(b"{}")
        assert asking.recv(4096).startswith(b"HTTP/1.1 400 ")
        for connection in (asking, *idle):
            connection.close()


@dataclass(eq=False)
class Fake:
    """A connection that is only looked at."""

    number: int
    address: str
    is_answering: bool = False
    closed: list[int] = field(default_factory=list)

    @property
    def transport(self) -> Any:
        return SimpleNamespace(is_closing=lambda: self.number in self.closed)

    def abort(self) -> None:
        self.closed.append(self.number)


def test_the_address_with_most_idle_connections_loses_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "max_connections", lambda: 6)
    closed: list[int] = []
    there = [Fake(0, "good", closed=closed)] + [Fake(n, "bad", n == 1, closed) for n in range(1, 6)]
    make_room(there[-1], there)
    assert closed == []  # there is room
    for number in (6, 7):
        there.append(Fake(number, "good", closed=closed))
        make_room(there[-1], there)
    assert closed == [2, 3]
    for connection in there:
        connection.is_answering = True
    there.append(Fake(8, "good", closed=closed))
    make_room(there[-1], there)
    assert closed == [2, 3, 8]


def test_half_of_the_files_a_process_may_open_are_for_connections() -> None:
    limit = connections.resource.getrlimit(connections.resource.RLIMIT_NOFILE)[0]
    assert 8 <= max_connections() <= max(8, limit // 2)


def test_too_many_open_files_are_reported_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    handle, loop = quiet_accept(lambda: now[0]), asyncio.new_event_loop()
    context = {"message": "socket.accept() out of system resource", "exception": OSError(errno.EMFILE, "too many")}
    with caplog.at_level(logging.ERROR):
        for second in range(100):
            now[0] = second
            handle(loop, context)
        assert len(caplog.records) == 2
        handle(loop, {"message": "another error"})
    assert "another error" in caplog.text
    loop.close()


@pytest.mark.parametrize(
    "sent",
    [
        "GET /health HTTP/1.1\nHost: x\n\n",
        "GET /health HTTP/1.1\r\nHost: x\n\r\n",
        "GET /health HTTP/1.1\r\nHost: x\r\nX: a\r\n b\r\n\r\n",
        "GET /health HTTP/1.1\r\nHost: x\r\nX: a\r\n\tb: c\r\n\r\n",
    ],
)
def test_what_a_proxy_may_read_differently_is_refused(served: Served, sent: str) -> None:
    with connect(served, sent) as connection:
        assert connection.recv(4096).startswith(b"HTTP/1.1 400 ")
    body = "GET /\n x"  # in a body, everything is allowed
    head = f"POST /v1/nothing HTTP/1.1\r\nHost: x\r\n{TOKEN}Content-Length: {len(body)}\r\n\r\n"
    with connect(served, f"{head}{body}{sent}") as connection:
        answer = b""
        while part := connection.recv(4096):
            answer += part
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert answer.count(b"HTTP/1.1 400 ") == 1
