"""`/v1/chat/completions` and `/v1/completions`: answers of base models and of a tenant's fine-tuned models.

An answer is returned at once or, with `stream`, as server-sent events that end with `[DONE]`. Generation is cancelled
if the client disconnects. A failure before the first token is an error response; later, an event that holds the error.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, Response, StreamingResponse

from kamerton.server.auth import tenant_of
from kamerton.server.errors import ApiError, response_to
from kamerton.server.generation.client import Generator, Piece
from kamerton.server.json_body import JsonRoute
from kamerton.server.routes.chat_request import ChatRequest, CompletionRequest
from kamerton.server.routes.chat_shape import ChoiceChunks, Shape
from kamerton.server.routes.models import resolve
from kamerton.server.settings import Settings

T = TypeVar("T")
Tenant = Annotated[str, Depends(tenant_of)]


def chat_router(settings: Settings, generator: Generator) -> APIRouter:
    """Return the routes `/v1/chat/completions` and `/v1/completions`."""
    router = APIRouter(prefix="/v1", tags=["chat"], route_class=JsonRoute)

    async def answer(body: ChatRequest | CompletionRequest, tenant: str, request: Request) -> Response:
        with_usage, shape = body.with_usage, Shape(body.model, body.reading())
        generation = body.generation(await run_in_threadpool(resolve, settings, tenant, body.model))
        # Each choice has its own seed; the first one's answer is that to a request of one choice.
        seeds = [(generation.seed + i + 2**63) % 2**64 - 2**63 for i in range(body.n or 1)]
        streams = [generator.stream(replace(generation, seed=seed), tenant) for seed in seeds]
        if not body.stream:
            return JSONResponse(shape.complete(await _unless_disconnected(request, _all(map(_collect, streams)))))
        try:
            first = await _unless_disconnected(request, _all(map(anext, streams)))
        except BaseException:
            for stream in streams:
                await stream.aclose()
            raise
        choices = [ChoiceChunks(shape, index, piece) for index, piece in enumerate(first)]
        return StreamingResponse(_events(shape, choices, streams, with_usage), media_type="text/event-stream")

    @router.post("/chat/completions")
    async def create_chat_completion(body: ChatRequest, tenant: Tenant, request: Request) -> Response:
        return await answer(body, tenant, request)

    @router.post("/completions")
    async def create_completion(body: CompletionRequest, tenant: Tenant, request: Request) -> Response:
        return await answer(body, tenant, request)

    return router


async def _all(work: Iterable[Awaitable[T]]) -> list[T]:
    """Return the results; if one fails or this is cancelled, the others are cancelled."""
    tasks = [asyncio.ensure_future(each) for each in work]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def _collect(answer: AsyncGenerator[Piece, None]) -> Piece:
    """Return the whole answer as one piece."""
    text = ""
    logprobs: tuple[dict[str, Any], ...] = ()
    async with aclosing(answer) as pieces:
        async for piece in pieces:
            text += piece.text
            logprobs += piece.logprobs
    return replace(piece, text=text, logprobs=logprobs)


async def _merged(streams: Sequence[AsyncGenerator[Piece, None]]) -> AsyncGenerator[tuple[int, Piece], None]:
    """Yield the pieces of all streams as they come, each with the index of its stream; close the streams at the end."""
    tasks = {asyncio.ensure_future(anext(stream, None)): i for i, stream in enumerate(streams)}
    try:
        while tasks:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in sorted(done, key=tasks.__getitem__):
                index = tasks.pop(task)
                if (piece := task.result()) is not None:
                    tasks[asyncio.ensure_future(anext(streams[index], None))] = index
                    yield index, piece
    finally:
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for stream in streams:
            await stream.aclose()


async def _unless_disconnected(request: Request, work: Awaitable[T]) -> T:
    """Return the result of `work`, or cancel it when the client disconnects."""

    async def disconnected() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    working, watching = asyncio.ensure_future(work), asyncio.ensure_future(disconnected())
    try:
        await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ApiError(499, "The client closed the connection.", code="client_closed_request")  # only for logs
    finally:
        working.cancel()
        watching.cancel()
        await asyncio.wait({working, watching})


async def _events(
    shape: Shape, choices: Sequence[ChoiceChunks], streams: Sequence[AsyncGenerator[Piece, None]], with_usage: bool
) -> AsyncIterator[bytes]:
    """Yield the server-sent events of answers, whose first pieces have been received."""
    more: dict[str, Any] = {"usage": None} if with_usage else {}
    async with aclosing(_merged(streams)) as pieces:
        for choice in choices:
            for chunk in choice.opening():
                yield _event(chunk | more)
        try:
            async for index, piece in pieces:
                for chunk in choices[index].add(piece):
                    yield _event(chunk | more)
        except ApiError as error:
            yield b"data: " + response_to(error).body + b"\n\n"
            return
    if with_usage:
        yield _event(shape.usage([choice.last for choice in choices]))
    yield b"data: [DONE]\n\n"


def _event(value: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"
