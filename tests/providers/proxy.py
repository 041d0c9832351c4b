"""A proxy that hands requests on to a server, and once for each kind of request lets one go wrong on its way."""

from __future__ import annotations

import json
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

import httpx

Trouble = int | Literal["drop"]  # a status instead of the server's answer, or its answer is lost


class Proxy:
    """Serves while it is entered. `troubles` are by the method and the path's end: the first such request has it."""

    def __init__(self, server: str, troubles: dict[tuple[str, str], Trouble]) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()
        lock, client, proxy = threading.Lock(), httpx.Client(timeout=60), self

        class Handler(BaseHTTPRequestHandler):
            wbufsize = -1

            def _serve(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                kind = next((one for one in troubles if one[0] == self.command and self.path.endswith(one[1])), None)
                with lock:
                    first = kind is not None and not proxy.counts[kind]
                    proxy.counts[kind or (self.command, "")] += 1
                trouble = troubles[kind] if kind and first else None
                if isinstance(trouble, int):
                    self._answer(trouble, json.dumps({"error": {"message": "not now", "code": None}}).encode())
                    return
                headers = {name: value for name, value in self.headers.items() if name.lower() not in ("host",)}
                said = client.request(self.command, f"{server}{self.path}", content=body, headers=headers)
                if trouble == "drop":
                    self.close_connection = True
                    return
                self._answer(said.status_code, said.content)

            def _answer(self, status: int, data: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = _serve  # noqa: N815

            def log_message(self, format: str, *arguments: Any) -> None:
                del format, arguments

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Proxy:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()
