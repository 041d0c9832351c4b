"""Authentication: a bearer token identifies a tenant, and a tenant only sees its own data."""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable

from fastapi import Request

from kamerton.errors import Fault, UserError
from kamerton.server.errors import ApiError
from kamerton.server.settings import Settings

LOCAL = "local"  # tenant of a server without tokens
VARIABLE = "KAMERTON_TOKENS"
_TENANT = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")  # used as folder name and in model names
MAKE = """python -c 'import secrets; print("me", secrets.token_urlsafe(32))' > tokens.txt"""


async def tenant_of(request: Request) -> str:
    """Return the tenant of a request's token. Raises `ApiError` 401 for a missing or wrong token."""
    settings: Settings = request.app.state.settings
    return authenticate(settings, request.headers.get("authorization"))


def authenticate(settings: Settings, header: str | None) -> str:
    """Return the tenant of an `Authorization` header, in constant time. Raises `ApiError` 401 if it is not valid."""
    if not settings.tokens:
        return LOCAL
    scheme, _, credentials = (header or "").partition(" ")
    if scheme.lower() != "bearer" or not credentials.strip():
        message = "You didn't provide an API key. Give it in an Authorization header: Authorization: Bearer YOUR_KEY"
        raise ApiError(401, message, code="missing_api_key")
    token, matched = credentials.strip().encode(), None
    for tenant, valid_token in settings.tokens:
        matched = tenant if hmac.compare_digest(valid_token.encode(), token) else matched
    if matched is None:
        raise ApiError(401, "Incorrect API key provided.", code="invalid_api_key")
    return matched


def parse_tokens(lines: Iterable[str], place: str) -> tuple[tuple[str, str], ...]:
    """Parse lines of `tenant token` into pairs; `place` names their source in messages.

    Empty lines and lines that begin with # are skipped. Raises `UserError` with every invalid line; messages never
    contain a token.
    """
    pairs: list[tuple[str, str]] = []
    faults: list[Fault] = []
    for number, line in enumerate(lines, start=1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) != 2:
            problem = f"{len(words)} words instead of a tenant and a token"
        elif not _TENANT.fullmatch(words[0]):
            problem = "a tenant's name consists of at most 63 lower-case letters, digits, - and _"
        elif any(words[1] == token and words[0] != tenant for tenant, token in pairs):
            problem = "another tenant has this token"
        else:
            pairs.append((words[0], words[1]))
            continue
        faults.append(Fault("serve.tokens", problem, f"write `tenant token`: {MAKE}", place, number))
    if not (pairs or faults):
        faults.append(Fault("serve.tokens", "there is no token", MAKE, place))
    if faults:
        raise UserError(faults)
    return tuple(pairs)
