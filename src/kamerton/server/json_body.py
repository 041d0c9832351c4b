"""JSON of a request, refused before it is parsed or validated if that would take long.

To validate a body costs most for what is wrong with it: half a million wrong items take seconds, in which nobody else
is answered. No honest request is near these limits.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

from kamerton.server.errors import ApiError

MAX_SEPARATORS = 20_000  # of a body: commas, colons and opening brackets, of which every value but the first has one
MAX_ITEMS = 512  # of a list
MAX_KEYS = 64  # of an object
MAX_DEPTH = 16
_DIGITS = 400
_SEPARATORS = (b",", b":", b"[", b"{")


class JsonRoute(APIRoute):
    """A route whose body is JSON within the limits (`APIRouter(route_class=JsonRoute)`)."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler, which reads the body through `read_json`."""
        handle = super().get_route_handler()

        async def handler(request: Request) -> Response:
            return await handle(_JsonRequest(request.scope, request.receive))

        return handler


class _JsonRequest(Request):
    async def json(self) -> Any:
        return read_json(await self.body())


def read_json(body: bytes) -> Any:
    """The value of a JSON text; raises `ApiError` where it is too large, and `ValueError` where it is no JSON."""
    if _separators(body) > MAX_SEPARATORS:
        raise ApiError(400, "The body holds too many values.", code="invalid_request")
    value = json.loads(body.decode("utf-8-sig"), parse_int=_int)
    for problem, path in _too_large(value):
        name = ".".join(path) or None
        raise ApiError(400, f"{name or 'the body'} {problem}", name, "invalid_value")
    return value


def _separators(body: bytes) -> int:
    """How many separators a JSON text has outside of its strings, found without parsing it."""
    plain = body.replace(rb"\\", b"").replace(rb"\"", b"")  # no quote is escaped any more
    if plain.count(b'"') > 4 * MAX_SEPARATORS:
        return MAX_SEPARATORS + 1
    outside = b"".join(plain.split(b'"')[::2])
    return sum(map(outside.count, _SEPARATORS))


def _int(text: str) -> int:
    if len(text) > _DIGITS:
        raise ValueError("too many digits")
    return int(text)


def _too_large(value: Any) -> Iterator[tuple[str, tuple[str, ...]]]:
    """What is too large, and the keys and indices that lead to it."""
    waiting: list[tuple[Any, tuple[str, ...]]] = [(value, ())]
    while waiting:
        current, path = waiting.pop()
        if not isinstance(current, (dict, list)):
            continue
        is_list = isinstance(current, list)
        most, what = (MAX_ITEMS, "items") if is_list else (MAX_KEYS, "keys")
        if len(current) > most:
            yield f"holds more than {most} {what}", path
        if len(path) >= MAX_DEPTH:
            yield f"is nested deeper than {MAX_DEPTH} levels", path[:1]
        pairs = enumerate(current) if isinstance(current, list) else current.items()
        waiting += [(child, (*path, str(key)[:64])) for key, child in pairs]
