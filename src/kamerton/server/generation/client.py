"""The server's side of generation: requests go to one process that answers them all (`child`), pieces come back.

Nothing here computes or waits for longer than the event loop bears. The process is started by the first request and
again after it died; a process that dies again and again is left alone for a while.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from kamerton.server.errors import ApiError
from kamerton.server.generation.chat_limits import CHARACTERS, CONTEXT

ANSWERS = 8  # given at a time
MODELS = 4  # kept loaded
_WAITING = 56  # requests of a tenant beyond those
_DEATHS, _PAUSE_S = 3, 30.0  # after so many deaths without an answer between them, and for so long, none is started
_GRACE_S = 5.0
_LINE = 2**24

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """What is asked of which model. `source` is a run directory, or an option of the group `model`.

    Either `turns` (role, content) or a `text` that is continued. `max_tokens` None is all that the context has left. At
    `temperature` 0 each token is the most likely one; otherwise `seed` decides.
    """

    source: Path | str
    turns: tuple[tuple[str, str], ...] | None = None
    text: str | None = None
    max_tokens: int | None = None
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Piece:
    """More of an answer: text, the tokens made so far, and at the end why it ended ("stop" or "length").

    The first piece of an answer has no text: it says that the prompt is accepted.
    """

    text: str
    tokens: int
    finish_reason: str | None
    prompt_tokens: int
    fingerprint: str


@dataclass(slots=True)
class _Child:
    """A process that generates, and what waits for its words."""

    process: Process
    inbox: dict[str, asyncio.Queue[dict[str, Any]]]
    reader: asyncio.Task[None]


class Generator:
    """Answers requests through one child process; `most` of a tenant may be under way, waiting ones included.

    `threads` are those the child computes with (None: half of the processors); with `yields` it runs at the lowest
    priority, so that training beside it is not slowed.
    """

    def __init__(
        self,
        *,
        most: int = ANSWERS + _WAITING,
        answers: int = ANSWERS,
        context: int = CONTEXT,
        threads: int | None = None,
        yields: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._most = most
        self._options = {
            "threads": threads or max(1, (os.cpu_count() or 2) // 2),
            "answers": answers,
            "context": context,
            "models": MODELS,
            "yields": yields,
        }
        self._clock = clock
        self._child: _Child | None = None
        self._starting = asyncio.Lock()
        self._under_way: Counter[str] = Counter()
        self._deaths: list[float] = []

    @property
    def under_way(self) -> int:
        """How many requests are answered or wait."""
        return self._under_way.total()

    @property
    def pid(self) -> int | None:
        """The child's process id; None where none runs."""
        return None if self._child is None else self._child.process.pid

    async def stream(self, request: GenerationRequest, tenant: str = "") -> AsyncGenerator[Piece, None]:
        """The answer to a tenant piece by piece; closing the iterator ends the work on it.

        Raises `ApiError`: 400 for what cannot be answered, 429 where too many wait, 500 and 503 for trouble here.
        """
        _check_length(request, CHARACTERS * self._options["context"])
        if self._under_way[tenant] >= self._most:
            raise _later(ApiError(429, "Too many requests wait for an answer. Try again later.", None, "queue_full"), 1)
        key = uuid4().hex
        self._under_way[tenant] += 1
        child: _Child | None = None
        finished = False
        try:
            child = await self._running()
            inbox = child.inbox[key] = asyncio.Queue()
            await _send(child, _job(key, request, tenant))
            accepted: dict[str, Any] = {}
            while not finished:
                said = await inbox.get()
                finished = "error" in said or said.get("finish") is not None
                if "error" in said:
                    raise _error(said["error"])
                accepted = accepted or said
                yield _piece(said, accepted)
            self._deaths.clear()
        finally:
            self._under_way[tenant] -= 1
            if child is not None:
                child.inbox.pop(key, None)
                if not finished:
                    _write(child, {"cancel": key})

    async def close(self) -> None:
        """End the child."""
        child, self._child = self._child, None
        if child is None:
            return
        if child.process.stdin is not None:
            child.process.stdin.close()
        try:
            await asyncio.wait_for(child.process.wait(), _GRACE_S)
        except TimeoutError:
            child.process.kill()
        await child.reader

    async def _running(self) -> _Child:
        """The child; started where there is none."""
        async with self._starting:
            if self._child is None:
                self._deaths = [at for at in self._deaths if self._clock() - at < _PAUSE_S]
                if len(self._deaths) >= _DEATHS:
                    message = "The process that generates keeps ending. The server's log says more; try again later."
                    raise _later(ApiError(503, message, None, "engine_failed"), _PAUSE_S)
                await self._start()
            assert self._child is not None
            return self._child

    async def _start(self) -> None:
        """A session of its own: what interrupts the server is not for the child, and its priority is its own."""
        environment = {**os.environ, "OMP_NUM_THREADS": str(self._options["threads"])}
        command = (sys.executable, "-P", "-m", "kamerton.server.generation.worker")
        process = await asyncio.create_subprocess_exec(
            *command, stdin=PIPE, stdout=PIPE, limit=_LINE, start_new_session=True, env=environment
        )
        inbox: dict[str, asyncio.Queue[dict[str, Any]]] = {}
        self._child = _Child(process, inbox, asyncio.create_task(self._read(process, inbox)))
        _write(self._child, self._options)

    async def _read(self, process: Process, inbox: dict[str, asyncio.Queue[dict[str, Any]]]) -> None:
        """Hand on what the child says; when it has ended, an error to all who still wait."""
        assert process.stdout is not None
        async for line in process.stdout:
            said = json.loads(line)
            if said["id"] in inbox:  # not one that was cancelled in between
                inbox[said["id"]].put_nowait(said)
        code = await process.wait()
        if self._child is not None and self._child.process is process:  # it was not asked to end
            self._child = None
            self._deaths.append(self._clock())
            log.error("the process that generates ended with %s; the next request starts another", code)
        message = "The process that generates has ended. Send the request again."
        for waiting in inbox.values():
            waiting.put_nowait({"error": {"status": 503, "message": message, "param": None, "code": "engine_ended"}})


def _job(key: str, request: GenerationRequest, tenant: str) -> dict[str, Any]:
    return {"id": key, "tenant": tenant, **asdict(request), "source": str(request.source)}


def _check_length(request: GenerationRequest, most: int) -> None:
    """Raises `ApiError` for a prompt that no model here could read, so that the others do not wait for its tokens."""
    texts = [request.text or ""] if request.turns is None else [content for _, content in request.turns]
    length = sum(map(len, texts))
    if length > most:
        param = "prompt" if request.turns is None else "messages"
        message = f"The prompt has {length:,} characters, and models here read at most {most:,}."
        raise ApiError(400, message, param, "context_length_exceeded")


async def _send(child: _Child, value: dict[str, Any]) -> None:
    """A child that has ended is told of by its reader."""
    _write(child, value)
    with contextlib.suppress(ConnectionError):
        assert child.process.stdin is not None
        await child.process.stdin.drain()


def _write(child: _Child, value: dict[str, Any]) -> None:
    stdin = child.process.stdin
    if stdin is not None and not stdin.is_closing():
        stdin.write(json.dumps(value).encode() + b"\n")


def _piece(said: dict[str, Any], accepted: dict[str, Any]) -> Piece:
    prompt, fingerprint = accepted["prompt_tokens"], accepted["fingerprint"]
    return Piece(said.get("text", ""), said.get("tokens", 0), said.get("finish"), prompt, fingerprint)


def _error(error: dict[str, Any]) -> ApiError:
    found = ApiError(error["status"], error["message"], error["param"], error["code"])
    return _later(found, 1) if found.status_code == 503 else found


def _later(error: ApiError, seconds: float) -> ApiError:
    """An error after which to try again."""
    error.headers = {"Retry-After": str(int(seconds))}
    return error
