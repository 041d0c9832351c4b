"""What happens to a request before anything reads it: who asks, from where, how much it sends and how slowly."""

from __future__ import annotations

import asyncio
import secrets
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kamerton.server.auth import authenticate
from kamerton.server.errors import ApiError, response_to
from kamerton.server.settings import MIB, Settings

OPEN = ("/health", "/openapi.json")  # for everyone
UPLOADS = "/v1/files"
MAX_BODY = MIB  # of any request but an upload, in bytes
FRAME = MIB // 8  # of an upload, beside the file itself
IDLE_S = 30.0  # the longest pause within a body
_UNREAD = 8 * MIB  # of a refused body is read all the same: closing at once would take the answer from the client
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Guard:
    """ASGI middleware. A refused request gets its answer before its body is read.

    Without tokens it answers nothing but programs of this machine: a web page in a browser, which may send requests
    to the loopback interface as well, is told apart by its `Origin`, and by a `Host` that is not this machine.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app, self.settings = app, settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        headers = Headers(scope=scope)
        marked = _marking(send, secrets.token_hex(16))
        try:
            limit = self._check(scope, headers)
        except ApiError as error:
            await _drain(receive)
            return await response_to(error, {"Connection": "close", **(error.headers or {})})(scope, receive, marked)
        return await self.app(scope, _limited(receive, limit), marked)

    def _check(self, scope: Scope, headers: Headers) -> int:
        """Raises `ApiError` for a request that is refused; returns the largest size of its body."""
        if not self.settings.tokens:
            _from_here(headers)
        if scope["path"] not in OPEN:
            authenticate(self.settings, headers.get("authorization"))
        is_upload = scope["path"] == UPLOADS
        limit = self.settings.max_upload + FRAME if is_upload else MAX_BODY
        length = headers.get("content-length", "")
        if length.isdecimal() and int(length[:20]) > limit:
            raise too_large(limit)
        return limit


def too_large(limit: int) -> ApiError:
    """The error of a body that is larger than so many bytes."""
    return ApiError(413, f"The request is larger than {limit / MIB:,.1f} MiB.", code="request_too_large")


def _from_here(headers: Headers) -> None:
    for name, url in (("Host", f"//{headers.get('host', '')}"), ("Origin", headers.get("origin") or "//localhost")):
        try:
            host = urlsplit(url).hostname
        except ValueError:
            host = None
        if host not in _LOOPBACK:
            message = f"{name} is not this machine; a server without tokens answers programs of this machine alone."
            raise ApiError(403, message, code="not_local")


def _limited(receive: Receive, limit: int) -> Receive:
    """The body, no longer than `limit` bytes, and none that stops coming."""
    size, whole = 0, False

    async def part() -> Message:
        nonlocal size, whole
        if whole:  # what comes now is the end of the connection, and may take long
            return await receive()
        try:
            message = await asyncio.wait_for(receive(), IDLE_S)
        except TimeoutError:
            raise ApiError(408, f"No data came for {IDLE_S:.0f} s.", code="timeout") from None
        if message["type"] == "http.request":
            size += len(message.get("body", b""))
            whole = not message.get("more_body", False)
            if size > limit:
                await _drain(receive, whole)
                raise too_large(limit)
        return message

    return part


async def _drain(receive: Receive, whole: bool = False) -> None:
    """Read what a client is still sending, within reason, and forget it."""
    size = 0
    while not whole and size <= _UNREAD:
        try:
            message = await asyncio.wait_for(receive(), IDLE_S)
        except TimeoutError:
            return
        size += len(message.get("body", b""))
        whole = not message.get("more_body", False)


def _marking(send: Send, request_id: str) -> Send:
    """The response with what every one bears."""

    async def marked(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers["X-Request-ID"] = request_id
            headers["X-Content-Type-Options"] = "nosniff"
            headers.setdefault("Cache-Control", "no-store")
        await send(message)

    return marked
