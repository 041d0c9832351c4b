"""Who asks: a bearer token names a tenant, and a tenant sees nothing but its own."""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable, Iterator

from fastapi import Request

from kamerton.errors import Fault, UserError
from kamerton.server.errors import ApiError
from kamerton.server.settings import Settings

LOCAL = "local"  # the tenant of a server without tokens
VARIABLE = "KAMERTON_TOKENS"
_TENANT = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")  # the name of a folder, and a part of model names
MAKE = """python -c 'import secrets; print("me", secrets.token_urlsafe(32))' > tokens.txt"""


async def tenant_of(request: Request) -> str:
    """The tenant whose token a request bears; raises `ApiError` 401 for none or a wrong one."""
    settings: Settings = request.app.state.settings
    return authenticate(settings, request.headers.get("authorization"))


def authenticate(settings: Settings, header: str | None) -> str:
    """The tenant of an `Authorization` header. Takes the same time whichever token is compared."""
    if not settings.tokens:
        return LOCAL
    scheme, _, given = (header or "").partition(" ")
    if scheme.lower() != "bearer" or not given.strip():
        message = "You didn't provide an API key. Give it in an Authorization header: Authorization: Bearer YOUR_KEY"
        raise ApiError(401, message, code="missing_api_key")
    token, found = given.strip().encode(), None
    for tenant, known in settings.tokens:
        found = tenant if hmac.compare_digest(known.encode(), token) else found
    if found is None:
        raise ApiError(401, "Incorrect API key provided.", code="invalid_api_key")
    return found


def parse_tokens(lines: Iterable[str], place: str) -> tuple[tuple[str, str], ...]:
    """Pairs of tenant and token from `tenant token` lines; `place` is where they stand, for people.

    Empty lines and those that begin with # are left out. Raises `UserError` with every line that cannot be used; no
    message repeats a token.
    """
    pairs: list[tuple[str, str]] = []
    faults: list[Fault] = []
    for number, line in enumerate(lines, start=1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        wrong = [*_wrong(words), *_twice(words, pairs)]
        faults += [Fault("serve.tokens", text, f"write `tenant token`: {MAKE}", place, number) for text in wrong[:1]]
        pairs += [] if wrong else [(words[0], words[1])]
    if not (pairs or faults):
        faults.append(Fault("serve.tokens", "there is no token", MAKE, place))
    if faults:
        raise UserError(faults)
    return tuple(pairs)


def _wrong(words: list[str]) -> Iterator[str]:
    if len(words) != 2:
        yield f"{len(words)} words instead of a tenant and a token"
    if not _TENANT.fullmatch(words[0]):
        yield "a tenant's name is of small letters, digits, - and _, at most 63"


def _twice(words: list[str], pairs: list[tuple[str, str]]) -> Iterator[str]:
    if any(words[1:] == [token] and words[0] != tenant for tenant, token in pairs):
        yield "another tenant has this token"
