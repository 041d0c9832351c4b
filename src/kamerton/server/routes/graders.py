"""`/v1/fine_tuning/alpha/graders`: check a grader, and grade an answer with it."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from fastapi.concurrency import run_in_threadpool
from pydantic import Field

from kamerton.objective.graders import combined, grades_of, paths_read, reads
from kamerton.objective.templates import has_path, is_json
from kamerton.score.calls import calls_text, message_calls, parse_answer
from kamerton.server.auth import tenant_of
from kamerton.server.json_body import JsonRoute
from kamerton.server.routes.job_request import StrictBody
from kamerton.server.routes.reinforcement import check_grader

PARAM = "grader"
_ERRORS = (
    *("formula_parse_error", "invalid_variable_error", "other_error", "sample_parse_error"),
    *("model_grader_parse_error", "model_grader_refusal_error", "model_grader_server_error"),
    *("python_grader_runtime_error", "python_grader_server_error"),
    *("truncated_observation_error", "unresponsive_reward_error"),
)
_DETAILS = (
    "model_grader_server_error_details",
    "python_grader_runtime_error_details",
    "python_grader_server_error_type",
)
Tenant = Annotated[str, Depends(tenant_of)]


class GraderRequest(StrictBody):
    """The body of `validate`."""

    grader: dict[str, Any]


class GraderRun(GraderRequest):
    """The body of `run`: the answer is `sample`, the row `item` in the texts of the grader."""

    model_sample: str
    item: dict[str, Any] = Field(default_factory=dict)


def graders_router() -> APIRouter:
    """Return the routes of graders."""
    router = APIRouter(prefix="/v1/fine_tuning/alpha/graders", tags=["graders"], route_class=JsonRoute)
    grading: dict[str, asyncio.Lock] = {}  # one at a time for each tenant: similarity takes a thread for seconds

    @router.post("/validate")
    def validate_grader(request: GraderRequest, tenant: Tenant) -> dict[str, Any]:
        del tenant  # only to authenticate
        check_grader(request.grader, PARAM)
        return {"grader": request.grader}

    @router.post("/run")
    async def run_grader(request: GraderRun, tenant: Tenant) -> dict[str, Any]:
        async with grading.setdefault(tenant, asyncio.Lock()):
            return await run_in_threadpool(_run, request)

    return router


def _run(request: GraderRun) -> dict[str, Any]:
    """Return the grade of an answer: 0 with an error where training would fail, or grade no answer of the row."""
    grader, item, sample = request.grader, request.item, request.model_sample
    check_grader(grader, PARAM)
    started = time.perf_counter()
    errors = dict.fromkeys(_ERRORS, False) | dict.fromkeys(_DETAILS, None)
    errors["sample_parse_error"] = reads(grader, "output_json") and not is_json(sample)
    errors["invalid_variable_error"] = not all(has_path(item, path) for path in paths_read(grader))
    grades: dict[str, float] = {}
    reward = 0.0
    if not errors["invalid_variable_error"]:
        try:
            calls = parse_answer(sample).calls if reads(grader, "output_tools") else ()
            grades = grades_of(grader, sample, item, message_calls(calls_text(calls)))
            reward = combined(grader, grades)
        except ValueError:  # an undefined formula, or too long a text
            errors["other_error"] = True
    metadata = {
        "errors": errors,
        "execution_time": time.perf_counter() - started,
        "name": grader["name"],
        "sampled_model_name": None,
        "scores": grades,
        "token_usage": None,
        "type": grader["type"],
    }
    sub_rewards = grades if grader["type"] == "multi" else {}
    return {
        "metadata": metadata,
        "model_grader_token_usage_per_model": {},
        "reward": reward,
        "sub_rewards": sub_rewards,
    }
