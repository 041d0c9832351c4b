"""A proxy that hands requests on to a server, and once for each kind of request lets one go wrong on its way."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Literal

import httpx

from support.local_server import LocalServer, Request, Response

Trouble = int | Literal["drop"]  # a status instead of the server's answer, or its answer is lost


class Proxy(LocalServer):
    """`troubles` are by the method and the path's end: the first such request has it."""

    def __init__(self, server: str, troubles: dict[tuple[str, str], Trouble]) -> None:
        super().__init__()
        self.counts: Counter[tuple[str, str]] = Counter()
        self._to, self._troubles = server, troubles
        self._lock, self._client = threading.Lock(), httpx.Client(timeout=60)

    def respond(self, request: Request) -> Response | None:
        kinds = (key for key in self._troubles if key[0] == request.method and request.path.endswith(key[1]))
        kind = next(kinds, None)
        with self._lock:
            first = kind is not None and not self.counts[kind]
            self.counts[kind or (request.method, "")] += 1
        trouble = self._troubles[kind] if kind and first else None
        if isinstance(trouble, int):
            return trouble, {}, {"error": {"message": "not now", "code": None}}
        headers = {name: value for name, value in request.headers.items() if name.lower() != "host"}
        url = f"{self._to}{request.path}"
        response = self._client.request(request.method, url, content=request.body, headers=headers)
        return None if trouble == "drop" else (response.status_code, {}, response.content)
