"""An endpoint that speaks OpenAI's chat completions protocol: what it was asked, and answers as a test wants them."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

from support.local_server import Asked, LocalServer
from support.local_server import Said as Answer


class Endpoint(LocalServer):
    """`answer` is given the request's number and body."""

    def __init__(self, answer: Callable[[int, dict[str, Any]], Answer]) -> None:
        super().__init__()
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.headers: list[str] = []  # of all requests, as one text each
        self.most_at_once = 0
        self._answer, self._now, self._lock = answer, 0, threading.Lock()

    def respond(self, asked: Asked) -> Answer:
        body = json.loads(asked.body)
        with self._lock:
            self.asked.append({"path": asked.path, **body})
            self.keys.append(asked.headers.get("Authorization"))
            self.headers.append(str(asked.headers))
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
            number = len(self.asked)
        said = self._answer(number, body)
        with self._lock:
            self._now -= 1
        return said


def completion(text: str, reason: str = "stop") -> Answer:
    """A whole answer as the protocol has it."""
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": reason}
    return 200, {}, {"id": "c", "object": "chat.completion", "model": "m", "choices": [choice]}
