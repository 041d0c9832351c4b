"""Tokens and tenants, without a server."""

from __future__ import annotations

from pathlib import Path

import pytest

from kamerton.errors import UserError
from kamerton.server.auth import LOCAL, authenticate, parse_tokens
from kamerton.server.errors import ApiError
from kamerton.server.settings import Settings

TOKENS = (("ann", "first"), ("ann", "second"), ("ben", "third"))


def settings(*tokens: tuple[str, str]) -> Settings:
    return Settings(Path("nowhere"), tokens)


@pytest.mark.parametrize(
    ("header", "tenant"),
    [("Bearer first", "ann"), ("bearer second", "ann"), ("Bearer  third ", "ben")],
)
def test_a_token_names_its_tenant(header: str, tenant: str) -> None:
    assert authenticate(settings(*TOKENS), header) == tenant


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer ", "Basic first", "first", "Bearer firs", "Bearer first!", "Bearer fürst"]
)
def test_anything_else_is_refused_and_not_repeated(header: str | None) -> None:
    with pytest.raises(ApiError) as refused:
        authenticate(settings(*TOKENS), header)
    assert refused.value.status_code == 401
    assert "first" not in refused.value.message
    assert authenticate(settings(), header) == LOCAL  # of a server that asks for none


def test_tokens_are_lines_of_tenant_and_token() -> None:
    assert parse_tokens(["# people", "", "ann  first", "ben third "], "t") == (("ann", "first"), ("ben", "third"))


def test_invalid_token_lines_are_reported_without_their_content() -> None:
    lines = ["../up secret-1", "secret-2", "ann secret-3 more", "ann secret-4", "ben secret-4", ".files secret-5"]
    with pytest.raises(UserError) as refused:
        parse_tokens(lines, "tokens.txt")
    assert [fault.row for fault in refused.value.faults] == [1, 2, 3, 5, 6]
    assert "secret-" not in str(refused.value)
    with pytest.raises(UserError, match="there is no token"):
        parse_tokens(["# none"], "tokens.txt")
    assert "secret" not in repr(settings(("ann", "secret")))
