"""ASGI middleware that checks each request first: origin, token, number of requests, and size and speed of the body."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import Counter
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kamerton.server.auth import authenticate
from kamerton.server.connections import max_connections
from kamerton.server.errors import ApiError, response_to
from kamerton.server.settings import MIB, Settings

OPEN = ("/health", "/openapi.json")  # no token needed
UPLOADS = "/v1/files"
CHATS = ("/v1/chat/completions", "/v1/completions")
MAX_BODY = MIB  # bytes of a chat request
SMALL_BODY = MIB // 8  # bytes of any other request except an upload
FRAME = MIB // 8  # bytes of an upload in addition to the file
IDLE_S = 30.0  # longest pause within a body
BODY_S = 60.0  # time limit of a body, except for uploads
READS = 8  # concurrent GET and DELETE requests per tenant: each uses one of 40 threads
_DRAIN_S = 5.0  # time for reading the rest of a refused body
_DRAIN_BYTES = 8 * MIB  # read of a refused body: if the connection closed at once, the client would not get the answer
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Guard:
    """ASGI middleware that refuses a request before its body is read.

    Without tokens only programs of this machine are answered. A web page in a browser can send requests to the loopback
    interface too; it is recognised by its `Origin`, or by a `Host` other than this machine.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app, self.settings = app, settings
        self._under_way: Counter[str] = Counter()
        self._reads: dict[str, asyncio.Semaphore] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        headers = Headers(scope=scope)
        request_id = secrets.token_hex(16)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                response = MutableHeaders(scope=message)
                response["X-Request-ID"] = request_id
                response["X-Content-Type-Options"] = "nosniff"
                response.setdefault("Cache-Control", "no-store")
            await send(message)

        try:
            limit = self._check(scope, headers)
            tenant = self._tenant(scope, headers)
        except ApiError as error:
            await _drain(receive)
            response = response_to(error, {"Connection": "close", **(error.headers or {})})
            return await response(scope, receive, send_with_headers)
        limited = _limited(receive, limit, None if scope["path"] == UPLOADS else BODY_S)
        if tenant is None:
            return await self.app(scope, limited, send_with_headers)
        scope.setdefault("state", {})["tenant"] = tenant  # `Protocol.is_answering` reads it
        self._under_way[tenant] += 1
        try:
            if scope["method"] in ("GET", "DELETE"):
                await self._run_read(tenant, scope, limited, send_with_headers)
            else:
                await self.app(scope, limited, send_with_headers)
        finally:
            self._under_way[tenant] -= 1

    async def _run_read(self, tenant: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request once fewer than `READS` of the tenant are running; sending a response does not count."""
        slots = self._reads.setdefault(tenant, asyncio.Semaphore(READS))
        await slots.acquire()
        holds_slot = True

        async def release_and_send(message: Message) -> None:
            nonlocal holds_slot
            if holds_slot:
                holds_slot = False
                slots.release()
            await send(message)

        try:
            await self.app(scope, receive, release_and_send)
        finally:
            if holds_slot:
                slots.release()

    def _check(self, scope: Scope, headers: Headers) -> int:
        """Check a request's origin and announced size; return the limit of its body. Raises `ApiError`."""
        if not self.settings.tokens:
            _check_local(headers)
        limit = MAX_BODY if scope["path"] in CHATS else SMALL_BODY
        limit = self.settings.max_upload + FRAME if scope["path"] == UPLOADS else limit
        length = headers.get("content-length", "")
        if length.isdecimal() and int(length[:20]) > limit:
            raise too_large(limit)
        return limit

    def _tenant(self, scope: Scope, headers: Headers) -> str | None:
        """Return the tenant, or None for open paths. Raises `ApiError` for a wrong token or too many requests."""
        if scope["path"] in OPEN:
            return None
        tenant = authenticate(self.settings, headers.get("authorization"))
        limit = max_connections() // 4
        if self._under_way[tenant] >= limit:
            raise ApiError(429, f"{limit} of your requests are under way already.", code="too_many_requests")
        return tenant


def too_large(limit: int) -> ApiError:
    """Return the error of a body of more than `limit` bytes."""
    return ApiError(413, f"The request is larger than {limit / MIB:,.1f} MiB.", code="request_too_large")


def _check_local(headers: Headers) -> None:
    """Raise `ApiError` unless host and origin are this machine, and the origin, if given, has the port of the host."""
    host, origin = (_host_and_port(f"//{headers.get('host', '')}"), _host_and_port(headers.get("origin")))
    for name, address in (("Host", host), ("Origin", origin)):
        if address is not None and address[0] not in _LOOPBACK:
            message = f"{name} is not this machine; a server without tokens only answers programs on this machine."
            raise ApiError(403, message, code="not_local")
    if origin is not None and host is not None and origin[1] != host[1]:
        message = "Origin is another port; a server without tokens answers no web page of another server."
        raise ApiError(403, message, code="not_local")


def _host_and_port(url: str | None) -> tuple[str | None, int] | None:
    """Return host and port of a URL; None without a URL."""
    if url is None:
        return None
    try:
        parts = urlsplit(url)
        return parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        return None, 0


def _limited(receive: Receive, limit: int, seconds: float | None) -> Receive:
    """Wrap `receive` with a limit in bytes, in `seconds` for the whole body (None: unlimited), and in idle time."""
    size, complete = 0, False
    deadline = None if seconds is None else time.monotonic() + seconds

    async def part() -> Message:
        nonlocal size, complete
        if complete:  # the next message is the end of the connection, at any time
            return await receive()
        timeout = IDLE_S if deadline is None else min(IDLE_S, deadline - time.monotonic())
        try:
            message = await asyncio.wait_for(receive(), timeout)
        except TimeoutError:
            raise ApiError(408, "The rest of the request did not arrive in time.", code="timeout") from None
        if message["type"] == "http.request":
            size += len(message.get("body", b""))
            complete = not message.get("more_body", False)
            if size > limit:
                await _drain(receive, complete)
                raise too_large(limit)
        return message

    return part


async def _drain(receive: Receive, complete: bool = False) -> None:
    """Read and discard the rest of a body, up to `_DRAIN_BYTES` and `_DRAIN_S`."""
    size = 0
    try:
        async with asyncio.timeout(_DRAIN_S):
            while not complete and size <= _DRAIN_BYTES:
                message = await receive()
                size += len(message.get("body", b""))
                complete = not message.get("more_body", False)
    except TimeoutError:
        return
