"""`/v1/fine_tuning/alpha/graders`, held against the types of the `openai` package."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest
from openai.types.fine_tuning.alpha import GraderRunResponse

from support.serving import Served, error

EXACT: Any = {"type": "string_check", "name": "exact", "operation": "eq"}
EXACT |= {"input": "{{sample.output_text}}", "reference": "{{item.answer}}"}
CLOSE: Any = {"type": "text_similarity", "name": "close", "evaluation_metric": "fuzzy_match"}
CLOSE |= {"input": "{{sample.output_json.value}}", "reference": "{{item.answer}}"}
CALLED: Any = {**EXACT, "input": "{{sample.output_tools[0].function.name}}"}
BOTH: Any = {"type": "multi", "name": "both", "graders": {"exact": EXACT, "close": CLOSE}}
BOTH |= {"calculate_output": "1 / (exact + close)"}
FLAGS = ("formula_parse_error", "invalid_variable_error", "other_error", "sample_parse_error")


def run(served: Served, grader: Any, sample: str, item: Any) -> Any:
    body = {"grader": grader, "model_sample": sample, "item": item}
    with served.http() as client:
        answer = client.post("/v1/fine_tuning/alpha/graders/run", json=body).json()
    GraderRunResponse.model_validate(answer, strict=True)
    names = {field.alias or name for name, field in GraderRunResponse.model_fields.items()}
    assert set(answer) == names
    return answer


def test_a_grader_is_validated(served: Served) -> None:
    graders = served.client().fine_tuning.alpha.graders
    answer = graders.validate(grader=EXACT).grader
    assert answer is not None
    assert answer.to_dict() == EXACT
    with pytest.raises(openai.BadRequestError, match="it needs another model as a judge") as refused:
        graders.validate(grader={"type": "score_model", "name": "judge", "model": "x", "input": []})
    assert (refused.value.param, refused.value.code) == ("grader.type", "invalid_grader")


@pytest.mark.parametrize("route", ["validate", "run"])
def test_a_formula_that_is_never_defined_is_refused_with_its_place(served: Served, route: str) -> None:
    body = {"grader": {**BOTH, "calculate_output": "1/0"}}
    body |= {"model_sample": "7", "item": {"answer": "7"}} if route == "run" else {}
    with served.http() as client:
        answer = client.post(f"/v1/fine_tuning/alpha/graders/{route}", json=body)
    assert answer.status_code == 400
    told = error(answer)
    assert (told["param"], told["code"]) == ("grader.calculate_output", "invalid_grader")
    assert "1 / 0 is never defined" in told["message"]


@pytest.mark.parametrize(
    ("grader", "sample", "item", "reward", "flags"),
    [
        (EXACT, "7", {"answer": 7}, 1.0, []),
        (EXACT, "8", {"answer": "7"}, 0.0, []),
        (EXACT, "7", {"other": "7"}, 0.0, ["invalid_variable_error"]),
        (CLOSE, '{"value": "seven"}', {"answer": "seven"}, 1.0, []),
        (CLOSE, "seven", {"answer": "seven"}, 0.0, ["sample_parse_error"]),
        (CALLED, '<tool_call>{"name": "sum", "arguments": {"a": 1}}</tool_call>', {"answer": "sum"}, 1.0, []),
        (CALLED, "sum", {"answer": "sum"}, 0.0, []),
        (BOTH, '{"value": "7"}', {"answer": "7"}, 1.0, []),
        (BOTH, '{"value": "8"}', {"answer": "7"}, 0.0, ["other_error"]),  # 1 / 0
        ({**EXACT, "input": "{{sample.output_text}}" * 99}, "x" * 999, {"answer": ""}, 0.0, ["other_error"]),
    ],
)
def test_an_answer_is_graded_and_errors_are_flags(
    served: Served, grader: Any, sample: str, item: Any, reward: float, flags: list[str]
) -> None:
    answer = run(served, grader, sample, item)
    errors = answer["metadata"]["errors"]
    assert (answer["reward"], [name for name in FLAGS if errors[name]]) == (reward, flags)
    assert (answer["metadata"]["name"], answer["metadata"]["type"]) == (grader["name"], grader["type"])


def test_a_multi_has_the_grades_of_its_parts(served: Served) -> None:
    answer = run(served, BOTH, '{"value": "7"}', {"answer": "7"})
    assert answer["sub_rewards"] == {"exact": 0.0, "close": 1.0}
    assert run(served, EXACT, "7", {"answer": "7"})["sub_rewards"] == {}


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({"grader": EXACT}, 400, "model_sample"),
        ({"grader": EXACT, "model_sample": "7", "other": 1}, 400, "other"),
        ({"grader": {**EXACT, "operation": "is"}, "model_sample": "7"}, 400, "grader.operation"),
        ({"grader": EXACT, "model_sample": "\ud800", "item": {}}, 400, None),
    ],
)
def test_what_cannot_be_graded_names_its_parameter(served: Served, body: Any, status: int, param: str | None) -> None:
    with served.http() as client:
        headers = {"Content-Type": "application/json"}
        answer = client.post("/v1/fine_tuning/alpha/graders/run", content=json.dumps(body), headers=headers)
        assert client.post("/v1/fine_tuning/alpha/graders/run", headers={"Authorization": "x"}).status_code == 401
    assert answer.status_code == status
    assert error(answer)["param"] == param
