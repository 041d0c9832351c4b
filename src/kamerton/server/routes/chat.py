"""`/v1/chat/completions` and `/v1/completions`: answers of base models and of a tenant's fine-tuned models.

An answer is returned at once or, with `stream`, as server-sent events that end with `[DONE]`. Generation is cancelled
if the client disconnects. A failure before the first token is an error response; later, an event that holds the error.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable
from contextlib import aclosing
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, Response, StreamingResponse

from kamerton.server.auth import tenant_of
from kamerton.server.errors import ApiError, response_to
from kamerton.server.generation.client import Generator, Piece
from kamerton.server.json_body import JsonRoute
from kamerton.server.routes.chat_request import ChatRequest, CompletionRequest
from kamerton.server.routes.chat_shape import Shape
from kamerton.server.routes.models import resolve
from kamerton.server.settings import Settings

T = TypeVar("T")
Tenant = Annotated[str, Depends(tenant_of)]


def chat_router(settings: Settings, generator: Generator) -> APIRouter:
    """Return the routes `/v1/chat/completions` and `/v1/completions`."""
    router = APIRouter(prefix="/v1", tags=["chat"], route_class=JsonRoute)

    async def answer(body: ChatRequest | CompletionRequest, tenant: str, request: Request, shape: Shape) -> Response:
        with_usage = body.with_usage
        generation = body.generation(await run_in_threadpool(resolve, settings, tenant, body.model))
        pieces = generator.stream(generation, tenant)
        if not body.stream:
            return JSONResponse(shape.complete(await _unless_disconnected(request, _collect(pieces))))
        first = await _unless_disconnected(request, anext(pieces))
        return StreamingResponse(_events(shape, first, pieces, with_usage), media_type="text/event-stream")

    @router.post("/chat/completions")
    async def create_chat_completion(body: ChatRequest, tenant: Tenant, request: Request) -> Response:
        return await answer(body, tenant, request, Shape(body.model, is_chat=True))

    @router.post("/completions")
    async def create_completion(body: CompletionRequest, tenant: Tenant, request: Request) -> Response:
        return await answer(body, tenant, request, Shape(body.model, is_chat=False))

    return router


async def _collect(answer: AsyncGenerator[Piece, None]) -> Piece:
    """Return the whole answer as one piece."""
    text = ""
    async with aclosing(answer) as pieces:
        async for piece in pieces:
            text += piece.text
    return Piece(text, piece.tokens, piece.finish_reason, piece.prompt_tokens, piece.fingerprint)


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
    shape: Shape, first: Piece, pieces: AsyncGenerator[Piece, None], with_usage: bool
) -> AsyncIterator[bytes]:
    """Yield the server-sent events of an answer, whose first piece has been received."""
    more: dict[str, Any] = {"usage": None} if with_usage else {}
    last = first
    async with aclosing(pieces):
        if shape.is_chat:
            yield _event(shape.opening(first) | more)
        try:
            async for last in pieces:
                if last.text:
                    yield _event(shape.part(last) | more)
        except ApiError as error:
            yield b"data: " + response_to(error).body + b"\n\n"
            return
    yield _event(shape.ending(last) | more)
    if with_usage:
        yield _event(shape.usage(last))
    yield b"data: [DONE]\n\n"


def _event(value: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"
