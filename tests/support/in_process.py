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
def client_of(generator: Generator, root: Path) -> Iterator[openai.OpenAI]:
    """A client of a server with this generator, which runs until the end of the block."""
    app = create_app(Settings(root, models=("tiny",)), generator)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        running = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
        thread = threading.Thread(target=running.run, args=([listening],))
        thread.start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
        yield openai.OpenAI(base_url=url, api_key="none", max_retries=0)
        running.should_exit = True
        thread.join()
