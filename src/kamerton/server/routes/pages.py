"""Lists in OpenAI's shape, a page at a time."""

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
    """The items that come after the one with the id `after`; only those of the page are shown.

    Raises `ApiError` where there is no such item.
    """
    start = 0
    if after is not None:
        start = next((number for number, item in enumerate(items, start=1) if id_of(item) == after), -1)
        if start < 0:
            raise unknown(after)
    shown = [show(item) for item in items[start : start + limit]]
    return listed(shown, has_more=start + limit < len(items))


def listed(shown: list[dict[str, Any]], *, has_more: bool) -> dict[str, Any]:
    """A page of what is shown already."""
    ids = [one["id"] for one in shown]
    ends = {"first_id": ids[0] if ids else None, "last_id": ids[-1] if ids else None}
    return {"object": "list", "data": shown, "has_more": has_more, **ends}


def unknown(after: str) -> ApiError:
    """The error of a page that would come after what is not there."""
    return ApiError(400, f"after: nothing here has the id {after}", "after", "invalid_value")


def only(request: Request, known: Collection[str]) -> None:
    """Raises `ApiError` for a parameter of the query that would not be honoured."""
    for name in request.query_params:
        if name not in known:
            raise ApiError(400, f"{name} is not known here", name, "unknown_parameter")
