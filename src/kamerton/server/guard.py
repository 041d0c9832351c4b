"""What happens to a request before anything reads it: who asks, from where, how much it sends and how slowly."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import Counter
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kamerton.server.auth import authenticate
from kamerton.server.connections import most_connections
from kamerton.server.errors import ApiError, response_to
from kamerton.server.settings import MIB, Settings

OPEN = ("/health", "/openapi.json")  # for everyone
UPLOADS = "/v1/files"
CHATS = ("/v1/chat/completions", "/v1/completions")
MAX_BODY = MIB  # of a chat, in bytes
SMALL_BODY = MIB // 8  # of any other request but an upload
FRAME = MIB // 8  # of an upload, beside the file itself
IDLE_S = 30.0  # the longest pause within a body
BODY_S = 60.0  # for the whole body of any request but an upload
READS = 8  # GET and DELETE requests of a tenant at work at once: each takes a thread, and there are 40
_DRAIN_S = 5.0  # for what a refused client is still sending
_UNREAD = 8 * MIB  # of a refused body is read all the same: closing at once would take the answer from the client
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Guard:
    """ASGI middleware. A refused request gets its answer before its body is read.

    Without tokens it answers nothing but programs of this machine: a web page in a browser, which may send requests
    to the loopback interface as well, is told apart by its `Origin`, and by a `Host` that is not this machine.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app, self.settings = app, settings
        self._under_way: Counter[str] = Counter()
        self._reads: dict[str, asyncio.Semaphore] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        headers = Headers(scope=scope)
        marked = _marking(send, secrets.token_hex(16))
        try:
            limit = self._check(scope, headers)
            tenant = self._tenant(scope, headers)
        except ApiError as error:
            await _drain(receive)
            return await response_to(error, {"Connection": "close", **(error.headers or {})})(scope, receive, marked)
        limited = _limited(receive, limit, None if scope["path"] == UPLOADS else BODY_S)
        if tenant is None:
            return await self.app(scope, limited, marked)
        scope.setdefault("state", {})["tenant"] = tenant  # `protocol` tells by it whose connections stay
        self._under_way[tenant] += 1
        try:
            if scope["method"] in ("GET", "DELETE"):
                await self._in_turn(tenant, scope, limited, marked)
            else:
                await self.app(scope, limited, marked)
        finally:
            self._under_way[tenant] -= 1

    async def _in_turn(self, tenant: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request when fewer than `READS` of the tenant's are at work; a file that is sent is not work."""
        turn = self._reads.setdefault(tenant, asyncio.Semaphore(READS))
        await turn.acquire()
        working = True

        async def sent(message: Message) -> None:
            nonlocal working
            if working:
                working = False
                turn.release()
            await send(message)

        try:
            await self.app(scope, receive, sent)
        finally:
            if working:
                turn.release()

    def _check(self, scope: Scope, headers: Headers) -> int:
        """Raises `ApiError` for a request that is refused; returns the largest size of its body."""
        if not self.settings.tokens:
            _from_here(headers)
        limit = MAX_BODY if scope["path"] in CHATS else SMALL_BODY
        limit = self.settings.max_upload + FRAME if scope["path"] == UPLOADS else limit
        length = headers.get("content-length", "")
        if length.isdecimal() and int(length[:20]) > limit:
            raise too_large(limit)
        return limit

    def _tenant(self, scope: Scope, headers: Headers) -> str | None:
        """Who asks; None for what everyone may. Raises `ApiError` for a wrong token, and for too many requests."""
        if scope["path"] in OPEN:
            return None
        tenant = authenticate(self.settings, headers.get("authorization"))
        most = most_connections() // 4
        if self._under_way[tenant] >= most:
            raise ApiError(429, f"{most} of your requests are under way already.", code="too_many_requests")
        return tenant


def too_large(limit: int) -> ApiError:
    """The error of a body that is larger than so many bytes."""
    return ApiError(413, f"The request is larger than {limit / MIB:,.1f} MiB.", code="request_too_large")


def _from_here(headers: Headers) -> None:
    """Raises `ApiError` unless host and origin are this machine, and the origin, if there is one, is this server."""
    host, origin = (_place(f"//{headers.get('host', '')}"), _place(headers.get("origin")))
    for name, place in (("Host", host), ("Origin", origin)):
        if place is not None and place[0] not in _LOOPBACK:
            message = f"{name} is not this machine; a server without tokens answers programs of this machine alone."
            raise ApiError(403, message, code="not_local")
    if origin is not None and host is not None and origin[1] != host[1]:
        message = "Origin is another port; a server without tokens answers no web page of another server."
        raise ApiError(403, message, code="not_local")


def _place(url: str | None) -> tuple[str | None, int] | None:
    """Host and port of an address; None where there is no address."""
    if url is None:
        return None
    try:
        parts = urlsplit(url)
        return parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        return None, 0


def _limited(receive: Receive, limit: int, seconds: float | None) -> Receive:
    """The body, no longer than `limit` bytes and `seconds` (None: any), and none that stops coming."""
    size, whole = 0, False
    end = None if seconds is None else time.monotonic() + seconds

    async def part() -> Message:
        nonlocal size, whole
        if whole:  # what comes now is the end of the connection, and may take long
            return await receive()
        try:
            message = await asyncio.wait_for(receive(), IDLE_S if end is None else min(IDLE_S, end - time.monotonic()))
        except TimeoutError:
            raise ApiError(408, "The rest of the request did not come in time.", code="timeout") from None
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
    try:
        async with asyncio.timeout(_DRAIN_S):
            while not whole and size <= _UNREAD:
                message = await receive()
                size += len(message.get("body", b""))
                whole = not message.get("more_body", False)
    except TimeoutError:
        return


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
