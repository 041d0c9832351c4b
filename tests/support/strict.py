"""A strict client: every response must match `openai`'s types completely."""

from __future__ import annotations

from typing import Any

import httpx
import openai
from openai.types import Completion, FileDeleted, FileObject, Model, ModelDeleted
from openai.types.chat import ChatCompletion
from openai.types.fine_tuning import FineTuningJob, FineTuningJobEvent
from openai.types.fine_tuning.jobs import FineTuningJobCheckpoint

TYPES: dict[str, Any] = {
    "file": FileObject,
    "model": Model,
    "fine_tuning.job": FineTuningJob,
    "fine_tuning.job.event": FineTuningJobEvent,
    "fine_tuning.job.checkpoint": FineTuningJobCheckpoint,
    "chat.completion": ChatCompletion,
    "text_completion": Completion,
}
GONE: dict[str, Any] = {"file": FileDeleted, "model": ModelDeleted}
MAY_LACK = {"service_tier", "moderation", "metadata"}  # of completions: nothing here has them


def strict_client(url: str, token: str) -> openai.OpenAI:
    """The `openai` package, which would let a wrong answer pass."""
    http = openai.DefaultHttpxClient(event_hooks={"response": [check]})
    return openai.OpenAI(base_url=url, api_key=token, http_client=http, max_retries=0)


def check(response: httpx.Response) -> None:
    """Fails for an answer that is not of its type."""
    if response.headers["content-type"] != "application/json":  # a stream, a file's content
        return
    response.read()
    body = response.json()
    if response.is_error:
        assert set(body) == {"error"}, body
        assert set(body["error"]) == {"message", "type", "param", "code"}, body
    elif body["object"] == "list":
        for item in body["data"]:
            check_one(item)
        if "has_more" in body:
            assert (body["first_id"], body["last_id"]) == tuple(
                body["data"][number]["id"] if body["data"] else None for number in (0, -1)
            )
    else:
        check_one(body)


def check_one(value: dict[str, Any]) -> None:
    """Fail if a value lacks a field, has an unknown one, or one of another type."""
    kind = (GONE if value.get("deleted") else TYPES)[value["object"]]
    if value.get("status") == "paused":  # the one status that the types do not know
        value = {**value, "status": "running"}
    kind.model_validate(value, strict=True)
    lacking, unknown = set(kind.model_fields) - set(value), set(value) - set(kind.model_fields)
    assert lacking <= (MAY_LACK if "completion" in value["object"] else set()), (kind.__name__, lacking)
    assert not unknown, (kind.__name__, unknown)
