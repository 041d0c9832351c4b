"""JSON request bodies, refused before parsing or validation if either would take long.

Validation is slowest for invalid values: half a million of them take seconds, during which no other request is
answered. Valid requests are far below these limits.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

from kamerton.server.errors import ApiError

MAX_SEPARATORS = 20_000  # commas, colons and opening brackets of a body: one per value except the first
MAX_ITEMS = 512  # per list
MAX_KEYS = 64  # per object
MAX_DEPTH = 16
_DIGITS = 400
_SEPARATORS = (b",", b":", b"[", b"{")


class JsonRoute(APIRoute):
    """A route that enforces these limits on its JSON body (`APIRouter(route_class=JsonRoute)`)."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return a handler that parses the body with `read_json`."""
        handle = super().get_route_handler()

        async def handler(request: Request) -> Response:
            return await handle(_JsonRequest(request.scope, request.receive))

        return handler


class _JsonRequest(Request):
    async def json(self) -> Any:
        return read_json(await self.body())


def read_json(body: bytes) -> Any:
    """Parse a JSON text. Raises `ApiError` if it exceeds a limit, and `ValueError` if it is not JSON."""
    # Count the separators outside of strings without parsing: with escapes removed, quotes delimit the strings.
    unescaped = body.replace(rb"\\", b"").replace(rb"\"", b"")
    parts = unescaped.split(b'"') if unescaped.count(b'"') <= 4 * MAX_SEPARATORS else None
    if parts is None or sum(map(b"".join(parts[::2]).count, _SEPARATORS)) > MAX_SEPARATORS:
        raise ApiError(400, "The body has too many values.", code="invalid_request")
    value = json.loads(body.decode("utf-8-sig"), parse_int=_int)
    for problem, path in _exceeded_limits(value):
        name = ".".join(path) or None
        raise ApiError(400, f"{name or 'the body'} {problem}", name, "invalid_value")
    return value


def _int(text: str) -> int:
    if len(text) > _DIGITS:
        raise ValueError("too many digits")
    return int(text)


def _exceeded_limits(value: Any) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield each exceeded limit with the path of keys and indices to its value."""
    pending: list[tuple[Any, tuple[str, ...]]] = [(value, ())]
    while pending:
        current, path = pending.pop()
        if not isinstance(current, (dict, list)):
            continue
        is_list = isinstance(current, list)
        limit, unit = (MAX_ITEMS, "items") if is_list else (MAX_KEYS, "keys")
        if len(current) > limit:
            yield f"contains more than {limit} {unit}", path
        if len(path) >= MAX_DEPTH:
            yield f"is nested deeper than {MAX_DEPTH} levels", path[:1]
        pairs = enumerate(current) if isinstance(current, list) else current.items()
        pending += [(child, (*path, str(key)[:64])) for key, child in pairs]
