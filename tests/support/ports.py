"""Ports for servers that tests start in separate processes, and waiting for them."""

from __future__ import annotations

import contextlib
import http.client
import random
import socket
import subprocess
import time
from pathlib import Path

from support.warm import Warm


def free_port() -> int:
    """Return a port below the range of outgoing connections, which may take a port at any moment."""
    for port in random.SystemRandom().sample(range(20_000, 30_000), 100):
        with socket.socket() as tried, contextlib.suppress(OSError):
            tried.bind(("127.0.0.1", port))
            return port
    raise OSError("no free port")


def await_server(process: subprocess.Popen[bytes] | Warm, port: int, log: Path) -> None:
    """Return when the server is ready; fail with its log if it has exited."""
    end = time.monotonic() + 300
    while not _lives(port):
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.1)


def _lives(port: int) -> bool:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
