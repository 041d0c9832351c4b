"""Errors in OpenAI's shape, whatever went wrong: `{"error": {"message", "type", "param", "code"}}`."""

from __future__ import annotations

import errno
import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi import HTTPException as Refusal
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

INVALID = "invalid_request_error"
_FULL = (errno.ENOSPC, errno.EDQUOT)
_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
_CODES = {400: "invalid_request", 404: "unknown_url", 405: "method_not_allowed", 413: "request_too_large"}
_SHOWN = 5  # faults of one request
_LONGEST = 64  # characters of a name that a client made up
_FAULTS = {
    "missing": ("missing_required_parameter", "is required"),
    "extra_forbidden": ("unknown_parameter", "is not known here"),
    "json_invalid": ("invalid_json", "is not JSON"),
}


log = logging.getLogger(__name__)


class ErrorDetail(BaseModel):
    """What went wrong."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(BaseModel):
    """The body of every response whose status is 400 or above."""

    error: ErrorDetail


DESCRIBED: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorBody, "description": "Refused" if status == "4XX" else "Failed"} for status in ("4XX", "5XX")
}


class ApiError(Refusal):
    """A request that cannot be answered: its HTTP status, a message for people, the parameter at fault, a stable code.

    `type` follows from the status where it is not given.
    """

    def __init__(
        self, status: int, message: str, param: str | None = None, code: str | None = None, type: str | None = None
    ) -> None:
        super().__init__(status, message)
        self.message, self.param, self.code = message, param, code
        self.type = type or _TYPES.get(status) or (INVALID if status < 500 else "server_error")


def response_to(error: ApiError, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """An error as a response."""
    message = error.message.encode(errors="replace").decode()  # half of a character pair may be repeated in it
    body = {"message": message, "type": error.type, "param": error.param, "code": error.code}
    return JSONResponse({"error": body}, error.status_code, headers)


def handle_errors(app: FastAPI) -> None:
    """Give every error of the application that shape; of one of our own it says nothing but that it happened."""

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> JSONResponse:
        return response_to(error if isinstance(error, ApiError) else _named(request, error), error.headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        del request
        return response_to(_first(error.errors()))

    @app.exception_handler(OSError)
    async def full(request: Request, error: OSError) -> JSONResponse:
        if error.errno not in _FULL:
            raise error
        log.error("%s %s: %s", request.method, request.url.path[:_LONGEST], error.strerror)
        return response_to(disk_full())

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> JSONResponse:
        del request, error  # the server's log has it
        return response_to(ApiError(500, "The server had an error while processing the request.", code="internal"))


def disk_full() -> ApiError:
    """The error where there is no space left for what a request would keep."""
    return ApiError(507, "The server's disk is nearly full.", code="insufficient_storage")


def _named(request: Request, error: HTTPException) -> ApiError:
    """An error of the framework: no such route, another method, a body that cannot be read."""
    status, message = error.status_code, error.detail or HTTPStatus(error.status_code).phrase
    if status in (404, 405):
        message = f"There is no {request.method} {request.url.path}"
    return ApiError(status, message, code=_CODES.get(status, HTTPStatus(status).phrase.lower().replace(" ", "_")))


def _first(faults: Any) -> ApiError:
    """The first faults of a request in one message, the first one as parameter and code. Values are not repeated."""
    said = [_fault(fault) for fault in faults[:_SHOWN]]
    more = [f"and {len(faults) - _SHOWN:,} more"] if len(faults) > _SHOWN else []
    return ApiError(400, "; ".join([*dict.fromkeys(text for text, _, _ in said), *more]), said[0][1], said[0][2])


def _fault(fault: Mapping[str, Any]) -> tuple[str, str | None, str]:
    place, *path = fault["loc"]
    kind = fault["type"]
    parts = (str(part) for part in path if isinstance(part, str) or place != "body" or len(path) > 1)
    param = ".".join(f"{part[:_LONGEST]}…" if len(part) > _LONGEST else part for part in parts) or None
    if kind == "json_invalid":
        return f"the body is not JSON: {fault['ctx']['error']}", None, "invalid_json"
    code, words = _FAULTS.get(kind, ("invalid_type" if kind.endswith("_type") else "invalid_value", None))
    name = param or f"the {place}"
    return f"{name} {words}" if words else f"{name}: {_lower(fault['msg'])}", param, code


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]
