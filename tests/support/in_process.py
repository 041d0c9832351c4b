"""A generator whose engine runs in the test's process, and a server with it."""

from __future__ import annotations

import socket
import threading
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from itertools import count
from pathlib import Path
from typing import Any

import openai
import uvicorn
from fastapi import FastAPI

from kamerton.server.app import create_app
from kamerton.server.errors import ApiError
from kamerton.server.generation.client import GenerationRequest, Generator, Piece, piece_of
from kamerton.server.generation.engine import Engine
from kamerton.server.generation.model_cache import Models
from kamerton.server.settings import Settings


class InProcess(Generator):
    """Answers by an engine of its own for each request; the models are shared."""

    def __init__(self) -> None:
        super().__init__()
        self.models = Models(most=1, context=2048)
        self.keys = map(str, count())

    async def stream(self, request: GenerationRequest, tenant: str = "") -> AsyncGenerator[Piece, None]:
        """Yield the answer in pieces."""
        emitted: list[dict[str, Any]] = []
        engine, key = Engine(self.models, emitted.append, 8), next(self.keys)
        engine.add({"id": key, "tenant": tenant, **asdict(request), "source": str(request.source)})
        first: dict[str, Any] = {}
        while not engine.idle:
            engine.step()
            for message in emitted:
                if "error" in message:
                    raise ApiError(**message["error"])
                first = first or message
                yield piece_of(first, message)
            emitted.clear()


@contextmanager
def listening(app: FastAPI) -> Iterator[str]:
    """The address of a server of this app, which runs in a thread until the end of the block."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()  # a client may connect before the thread has begun
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
        thread = threading.Thread(target=server.run, args=([taken],))
        thread.start()
        try:
            yield f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        finally:
            server.should_exit = True
            thread.join()


@contextmanager
def client_of(generator: Generator, root: Path) -> Iterator[openai.OpenAI]:
    """A client of a server with this generator, which runs until the end of the block."""
    with listening(create_app(Settings(root, models=("tiny",)), generator)) as url:
        yield openai.OpenAI(base_url=url, api_key="none", max_retries=0)
