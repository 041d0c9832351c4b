"""A fake endpoint of OpenAI's chat completions protocol that records requests and gives a test's responses."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

from support.local_server import LocalServer, Request
from support.local_server import Response as Answer


class Endpoint(LocalServer):
    """`answer` is given the request's number and body."""

    def __init__(self, answer: Callable[[int, dict[str, Any]], Answer]) -> None:
        super().__init__()
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.headers: list[str] = []  # of all requests, as one text each
        self.most_at_once = 0
        self._answer, self._now, self._lock = answer, 0, threading.Lock()

    def respond(self, request: Request) -> Answer:
        body = json.loads(request.body)
        with self._lock:
            self.requests.append({"path": request.path, **body})
            self.keys.append(request.headers.get("Authorization"))
            self.headers.append(str(request.headers))
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
            number = len(self.requests)
        response = self._answer(number, body)
        with self._lock:
            self._now -= 1
        return response


def completion(text: str, reason: str = "stop") -> Answer:
    """Return a complete response of the protocol."""
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": reason}
    return 200, {}, {"id": "c", "object": "chat.completion", "model": "m", "choices": [choice]}
