"""Servers in a thread of the test's process, and clients of theirs."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import openai
import uvicorn

from kamerton.server.app import create_app
from kamerton.server.protocol import Protocol
from kamerton.server.settings import MIB, Settings

TOKENS = (("ann", "token-of-ann"), ("ben", "token-of-ben"))


@dataclass(frozen=True, slots=True)
class Served:
    """A server that runs."""

    settings: Settings
    url: str

    def client(self, tenant: str = "ann") -> openai.OpenAI:
        """The `openai` package, as anybody would use it."""
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=dict(TOKENS).get(tenant, "none"), max_retries=0)

    def http(self, tenant: str | None = "ann", **headers: str) -> httpx.Client:
        """A client for what the package would not send."""
        own = {} if tenant is None else {"Authorization": f"Bearer {dict(TOKENS)[tenant]}"}
        return httpx.Client(base_url=self.url, headers={**own, **headers}, timeout=60)


@contextmanager
def serving(root: Path, **settings: Any) -> Iterator[Served]:
    """Serve the tiny model on a separate port until the end of the block."""
    server_settings = Settings(
        root, **{"tokens": TOKENS, "models": ("tiny",), "max_upload": MIB, "max_running": 2, **settings}
    )
    own: dict[str, Any] = {"http": Protocol, "ws": "none", "log_level": "error", "server_header": False}
    server = uvicorn.Server(uvicorn.Config(create_app(server_settings), port=0, **own))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()), daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield Served(server_settings, f"http://127.0.0.1:{port}")
    finally:
        server.should_exit = True
        thread.join(30)


def chats(count: int = 30, word: str = "the") -> bytes:
    """A file of chats, two for each number."""
    answers = (("cat", "yes"), ("dog", "no"))
    rows = [(f"{word} {animal} number {number}", answer) for number in range(count) for animal, answer in answers]
    turns = [[{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}] for prompt, answer in rows]
    return "".join(json.dumps({"messages": each}) + "\n" for each in turns).encode()


def upload(client: openai.OpenAI, content: bytes, name: str = "animals.jsonl") -> str:
    """The id of a new file."""
    return client.files.create(file=(name, content), purpose="fine-tune").id


def until(client: openai.OpenAI, job_id: str, *states: str) -> Any:
    """The job when its status is one of these."""
    end = time.monotonic() + 600
    while (job := client.fine_tuning.jobs.retrieve(job_id)).status not in states:
        assert time.monotonic() < end, job
        time.sleep(0.1)
    return job


def error(response: httpx.Response) -> dict[str, str]:
    """The error of a response, which has OpenAI's shape."""
    body = response.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"message", "type", "param", "code"}
    result: dict[str, str] = body["error"]
    return result
