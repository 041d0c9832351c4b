"""Client of the generation worker: sends every request to one child process and streams the pieces of its answers.

Nothing here blocks the event loop. The process is started by the first request, and restarted after it died; after
repeated deaths no process is started for a while.
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
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from kamerton.cores import usable_cores
from kamerton.server.errors import ApiError
from kamerton.server.generation.chat_limits import CHARACTERS, CONTEXT, prompt_characters

ANSWERS = 8  # generated at once
MODELS = 4  # kept in memory
_WAITING = 56  # queued requests per tenant, in addition to `ANSWERS`
_DEATHS, _PAUSE_S = 3, 30.0  # after this many deaths without an answer in between, no process is started for so long
_GRACE_S = 5.0
_LINE = 2**24

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """A prompt, its model and its sampling options. `source` is a run directory, or an option of the group `model`.

    The prompt is either `turns` (`Message.to_list`), with the JSON of the functions in `tools`, or a `text` to
    continue. `max_tokens` None allows the rest of the context. At `temperature` 0 decoding is greedy; otherwise
    sampling is seeded by `seed`. With `call_names` the answer is calls of these functions; with `single_call` it ends
    with its first call. The content of the answer is JSON that fits `schema`; None leaves it free. `logprobs` is the
    number of most likely tokens that are reported with each token; None reports no log-probabilities.
    """

    source: Path | str
    turns: tuple[Sequence[Any], ...] | None = None
    text: str | None = None
    tools: str = ""
    call_names: tuple[str, ...] = ()
    single_call: bool = False
    max_tokens: int | None = None
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ()
    logprobs: int | None = None
    schema: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of an answer: new text, the number of tokens so far, and in the last piece `finish_reason`.

    `finish_reason` is "stop" or "length". The first piece of an answer has no text; it confirms the prompt. `thinking`:
    the prompt ends with an open `<think>`. `logprobs` has those of the tokens since the last piece.
    """

    text: str
    tokens: int
    finish_reason: str | None
    prompt_tokens: int
    fingerprint: str
    thinking: bool = False
    logprobs: tuple[dict[str, Any], ...] = ()


@dataclass(slots=True)
class _Child:
    """A worker process, and a queue of its messages for each request."""

    process: Process
    inbox: dict[str, asyncio.Queue[dict[str, Any]]]
    reader: asyncio.Task[None]


class Generator:
    """Generate answers in one child process; at most `most` requests per tenant may be running or queued.

    The child uses `threads` threads (None: half of the processors). With `yields` it runs at the lowest priority, so
    that it does not slow down training. `quantize` int8: models generate with weights of 8 bits.
    """

    def __init__(
        self,
        *,
        most: int = ANSWERS + _WAITING,
        answers: int = ANSWERS,
        context: int = CONTEXT,
        threads: int | None = None,
        yields: bool = True,
        quantize: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._most = most
        self._options: dict[str, Any] = {
            "threads": threads or max(1, usable_cores() // 2),
            "answers": answers,
            "context": context,
            "models": MODELS,
            "yields": yields,
            "quantize": quantize,
        }
        self._clock = clock
        self._child: _Child | None = None
        self._starting = asyncio.Lock()
        self._under_way: Counter[str] = Counter()
        self._deaths: list[float] = []

    @property
    def under_way(self) -> int:
        """The number of running and queued requests."""
        return self._under_way.total()

    @property
    def pid(self) -> int | None:
        """The child's process id; None if none is running."""
        return None if self._child is None else self._child.process.pid

    async def stream(self, request: GenerationRequest, tenant: str = "") -> AsyncGenerator[Piece, None]:
        """Yield the answer in pieces; closing the iterator cancels generation.

        Raises `ApiError`: 400 for an invalid request, 429 if too many requests are queued, 500 and 503 for failures of
        the server.
        """
        # A prompt that no model could read is refused before the worker tokenizes it, which would delay other answers.
        length = prompt_characters(request.turns, request.text, request.tools)
        limit = CHARACTERS * self._options["context"]
        if length > limit:
            param = "prompt" if request.turns is None else "messages"
            message = f"The prompt has {length:,} characters, and models here read at most {limit:,}."
            raise ApiError(400, message, param, "context_length_exceeded")
        if self._under_way[tenant] >= self._most:
            error = ApiError(429, "Too many requests wait for an answer. Try again later.", None, "queue_full")
            raise _retry_after(error, 1)
        key = uuid4().hex
        self._under_way[tenant] += 1
        child: _Child | None = None
        finished = False
        try:
            child = await self._ensure_child()
            inbox = child.inbox[key] = asyncio.Queue()
            _write(child, {"id": key, "tenant": tenant, **asdict(request), "source": str(request.source)})
            with contextlib.suppress(ConnectionError):  # if the child has ended, its reader reports it
                assert child.process.stdin is not None
                await child.process.stdin.drain()
            first: dict[str, Any] = {}
            while not finished:
                answer = await inbox.get()
                finished = "error" in answer or answer.get("finish") is not None
                if "error" in answer:
                    error = ApiError(**answer["error"])
                    raise _retry_after(error, 1) if error.status_code == 503 else error
                first = first or answer
                yield piece_of(first, answer)
            self._deaths.clear()
        finally:
            self._under_way[tenant] -= 1
            if child is not None:
                child.inbox.pop(key, None)
                if not finished:
                    _write(child, {"cancel": key})

    async def close(self) -> None:
        """Stop the child."""
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

    async def _ensure_child(self) -> _Child:
        """Return the child, starting it if none is running."""
        async with self._starting:
            if self._child is None:
                self._deaths = [at for at in self._deaths if self._clock() - at < _PAUSE_S]
                if len(self._deaths) >= _DEATHS:
                    message = "The process that generates keeps ending. See the server's log; try again later."
                    raise _retry_after(ApiError(503, message, None, "engine_failed"), _PAUSE_S)
                await self._start()
            assert self._child is not None
            return self._child

    async def _start(self) -> None:
        """Start the child in a new session, so that neither the server's signals nor its priority apply to it."""
        environment = {**os.environ, "OMP_NUM_THREADS": str(self._options["threads"])}
        command = (sys.executable, "-P", "-m", "kamerton.server.generation.worker")
        process = await asyncio.create_subprocess_exec(
            *command, stdin=PIPE, stdout=PIPE, limit=_LINE, start_new_session=True, env=environment
        )
        inbox: dict[str, asyncio.Queue[dict[str, Any]]] = {}
        self._child = _Child(process, inbox, asyncio.create_task(self._read(process, inbox)))
        _write(self._child, self._options)

    async def _read(self, process: Process, inbox: dict[str, asyncio.Queue[dict[str, Any]]]) -> None:
        """Dispatch the child's messages; when it has ended, send an error to every open request."""
        assert process.stdout is not None
        async for line in process.stdout:
            answer = json.loads(line)
            if answer["id"] in inbox:  # otherwise it was cancelled
                inbox[answer["id"]].put_nowait(answer)
        code = await process.wait()
        if self._child is not None and self._child.process is process:  # it was not stopped by `close`
            self._child = None
            self._deaths.append(self._clock())
            log.error("the process that generates ended with %s; the next request starts another", code)
        message = "The process that generates has ended. Send the request again."
        for waiting in inbox.values():
            waiting.put_nowait({"error": {"status": 503, "message": message, "param": None, "code": "engine_ended"}})


def piece_of(first: dict[str, Any], message: dict[str, Any]) -> Piece:
    """Return the piece of a message of the child; `first` is the answer's first message."""
    return Piece(
        message.get("text", ""),
        message.get("tokens", 0),
        message.get("finish"),
        first["prompt_tokens"],
        first["fingerprint"],
        first["thinking"],
        tuple(message.get("logprobs", ())),
    )


def _write(child: _Child, value: dict[str, Any]) -> None:
    stdin = child.process.stdin
    if stdin is not None and not stdin.is_closing():
        stdin.write(json.dumps(value).encode() + b"\n")


def _retry_after(error: ApiError, seconds: float) -> ApiError:
    """Add a `Retry-After` header to an error."""
    error.headers = {"Retry-After": str(int(seconds))}
    return error
