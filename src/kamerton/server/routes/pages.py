"""Lists in OpenAI's format, one page at a time."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Annotated, Any, TypeVar

from fastapi import Query, Request

from kamerton.server.errors import ApiError

After = Annotated[str | None, Query(description="the last id of the page before")]
Limit = Annotated[int, Query(ge=1, le=10_000)]
Item = TypeVar("Item")


def page(
    items: Sequence[Item],
    show: Callable[[Item], dict[str, Any]],
    id_of: Callable[[Item], str],
    after: str | None,
    limit: int,
) -> dict[str, Any]:
    """Return the page of at most `limit` items after the one with the id `after`; `show` formats each of them.

    Raises `ApiError` for an unknown id.
    """
    start = 0
    if after is not None:
        start = next((number for number, item in enumerate(items, start=1) if id_of(item) == after), -1)
        if start < 0:
            raise unknown(after)
    formatted = [show(item) for item in items[start : start + limit]]
    return to_list(formatted, has_more=start + limit < len(items))


def to_list(formatted: list[dict[str, Any]], *, has_more: bool) -> dict[str, Any]:
    """Return a page of formatted items."""
    ids = [item["id"] for item in formatted]
    ends = {"first_id": ids[0] if ids else None, "last_id": ids[-1] if ids else None}
    return {"object": "list", "data": formatted, "has_more": has_more, **ends}


def unknown(after: str) -> ApiError:
    """Return the error of a page after an unknown id."""
    return ApiError(400, f"after: nothing here has the id {after}", "after", "invalid_value")


def only(request: Request, allowed: Collection[str]) -> None:
    """Raise `ApiError` for a query parameter that is not allowed, and would otherwise be ignored."""
    for name in request.query_params:
        if name not in allowed:
            raise ApiError(400, f"{name} is not known here", name, "unknown_parameter")
