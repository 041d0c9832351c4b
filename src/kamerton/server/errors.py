"""All errors in OpenAI's format: `{"error": {"message", "type", "param", "code"}}`."""

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
_MAX_FAULTS = 5  # reported per request
_MAX_NAME = 64  # characters of a parameter name sent by a client
_ALTERNATIVES = ("literal[", "constrained-")  # pydantic's names of the types of a parameter, no part of its name
_FAULTS = {
    "missing": ("missing_required_parameter", "is required"),
    "extra_forbidden": ("unknown_parameter", "is not known here"),
    "json_invalid": ("invalid_json", "is not JSON"),
    "unsupported_value": ("unsupported_value", ""),
}


log = logging.getLogger(__name__)


class ErrorDetail(BaseModel):
    """The error itself."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(BaseModel):
    """The body of every response with a status of 400 or above."""

    error: ErrorDetail


DESCRIBED: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorBody, "description": "Refused" if status == "4XX" else "Failed"} for status in ("4XX", "5XX")
}


class ApiError(Refusal):
    """An error response: HTTP status, message, the parameter at fault and a stable code.

    `type` is derived from the status unless it is given.
    """

    def __init__(
        self, status: int, message: str, param: str | None = None, code: str | None = None, type: str | None = None
    ) -> None:
        super().__init__(status, message)
        self.message, self.param, self.code = message, param, code
        self.type = type or _TYPES.get(status) or (INVALID if status < 500 else "server_error")


def response_to(error: ApiError, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """Return an error as a JSON response."""
    message = error.message.encode(errors="replace").decode()  # a message may repeat a lone surrogate
    body = {"message": message, "type": error.type, "param": error.param, "code": error.code}
    return JSONResponse({"error": body}, error.status_code, headers)


def handle_errors(app: FastAPI) -> None:
    """Register handlers that give every error this format; internal errors are answered without details."""

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> JSONResponse:
        if isinstance(error, ApiError):
            return response_to(error, error.headers)
        # Raised by the framework: an unknown route, a wrong method, or an unreadable body.
        status, message = error.status_code, error.detail or HTTPStatus(error.status_code).phrase
        if status in (404, 405):
            message = f"There is no {request.method} {request.url.path}"
        code = _CODES.get(status, HTTPStatus(status).phrase.lower().replace(" ", "_"))
        return response_to(ApiError(status, message, code=code), error.headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        del request
        faults = error.errors()
        described = [_describe(fault) for fault in faults[:_MAX_FAULTS]]
        more = [f"and {len(faults) - _MAX_FAULTS:,} more"] if len(faults) > _MAX_FAULTS else []
        message = "; ".join([*dict.fromkeys(text for text, _, _ in described), *more])
        return response_to(ApiError(400, message, *described[0][1:]))  # parameter and code of the first fault

    @app.exception_handler(OSError)
    async def full(request: Request, error: OSError) -> JSONResponse:
        if error.errno not in _FULL:
            raise error
        log.error("%s %s: %s", request.method, request.url.path[:_MAX_NAME], error.strerror)
        return response_to(disk_full())

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> JSONResponse:
        del request, error  # already in the server's log
        return response_to(ApiError(500, "The server had an error while processing the request.", code="internal"))


def disk_full() -> ApiError:
    """Return the error of a request that would store more than fits on the disk."""
    return ApiError(507, "The server's disk is nearly full.", code="insufficient_storage")


def _describe(fault: Mapping[str, Any]) -> tuple[str, str | None, str]:
    """Return (message, parameter, code) of a fault that pydantic reports."""
    place, *path = fault["loc"]
    path = [part for part in path if not str(part).startswith(_ALTERNATIVES)]
    kind = fault["type"]
    parts = (str(part) for part in path if isinstance(part, str) or place != "body" or len(path) > 1)
    param = ".".join(f"{part[:_MAX_NAME]}…" if len(part) > _MAX_NAME else part for part in parts) or None
    if kind == "json_invalid":
        return f"the body is not JSON: {fault['ctx']['error']}", None, "invalid_json"
    code, words = _FAULTS.get(kind, ("invalid_type" if kind.endswith("_type") else "invalid_value", ""))
    name = param or f"the {place}"
    message = fault["msg"]
    return f"{name} {words}" if words else f"{name}: {message[:1].lower()}{message[1:]}", param, code
