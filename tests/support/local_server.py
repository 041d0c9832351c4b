"""An HTTP server on this machine, for as long as a test enters it."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

Response = tuple[int, Mapping[str, str], Any]  # status, headers, and a body: bytes as they are, else as JSON


@dataclass(frozen=True, slots=True)
class Request:
    """A request; `path` has its query."""

    method: str
    path: str
    headers: Message
    body: bytes


class LocalServer:
    """Each request is passed to `respond` in its own thread; None closes the connection without a response."""

    def __init__(self) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.handle_error = lambda request, address: None  # type: ignore[method-assign]  # clients are killed
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)

    def respond(self, request: Request) -> Response | None:
        raise NotImplementedError

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def _handler(server: LocalServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # headers and body in one packet: no waiting for an acknowledgement

        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            response = server.respond(Request(self.command, self.path, self.headers, body))
            if response is None:
                self.close_connection = True
                return
            status, headers, value = response
            data = value if isinstance(value, bytes) else json.dumps(value).encode()
            self.send_response(status)
            for name, text in {"Content-Type": "application/json", **headers}.items():
                self.send_header(name, text)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(b"" if self.command == "HEAD" else data)

        do_GET = do_POST = do_HEAD = _serve  # noqa: N815

        def log_message(self, format: str, *arguments: Any) -> None:
            del format, arguments

    return Handler
