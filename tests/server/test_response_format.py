"""`response_format` through OpenAI's client: the answers of a model with random weights are JSON that fits."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from enum import Enum
from typing import Any, Literal

import jsonschema_rs
import openai
import pytest
from pydantic import BaseModel, Field

from kamerton.server.generation.engine import Engine
from kamerton.server.generation.model_cache import Models
from support.in_process import InProcess, client_of


class Colour(Enum):
    """Some colours."""

    red = "red"
    green = "zielóny"


class Shape(BaseModel):
    """A shape, which may hold another."""

    kind: Literal["box"]
    colour: Colour
    inner: Shape | None = None


class Drawing(BaseModel):
    """What `chat.completions.parse` returns."""

    title: str = Field(max_length=3)
    shapes: list[Shape] = Field(max_length=1)
    scale: float = Field(gt=0, lt=9)


SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 5},
        "count": {"type": "integer", "minimum": 0, "maximum": 50},
        "tags": {"type": "array", "items": {"enum": ["é", "b"]}, "maxItems": 3},
    },
    "required": ["name", "tags"],
    "additionalProperties": False,
}


def schema_format(schema: Any = SCHEMA) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[openai.OpenAI]:
    with client_of(InProcess(), tmp_path_factory.mktemp("outputs")) as result:
        yield result


def ask(client: openai.OpenAI, **more: Any) -> Any:
    own: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": "Draw!"}], "seed": 1}
    return client.chat.completions.create(**own | {"response_format": schema_format()} | more)


def test_whole_and_streamed_answers_fit_the_schema(client: openai.OpenAI) -> None:
    answer = ask(client, n=2)
    contents = [choice.message.content for choice in answer.choices]
    assert len(set(contents)) == 2
    for choice in answer.choices:
        jsonschema_rs.validator_for(SCHEMA).validate(json.loads(choice.message.content))
        assert choice.finish_reason == "stop"
    streamed = ["", ""]
    for chunk in ask(client, n=2, stream=True):
        for choice in chunk.choices:
            streamed[choice.index] += choice.delta.content or ""
    assert streamed == contents


def test_a_pydantic_model_is_parsed(client: openai.OpenAI) -> None:
    own: Any = {"model": "tiny", "messages": [{"role": "user", "content": "Draw!"}], "response_format": Drawing}
    parsed = client.chat.completions.parse(**own, seed=3).choices[0].message.parsed
    assert isinstance(parsed, Drawing)


def test_any_object_or_text(client: openai.OpenAI) -> None:
    greedy = ask(client, response_format={"type": "json_object"}, temperature=0).choices[0]
    assert isinstance(json.loads(greedy.message.content), dict)
    free = ask(client, response_format={"type": "text"}, max_tokens=9).choices[0].message
    assert free == ask(client, response_format=openai.NOT_GIVEN, max_tokens=9).choices[0].message


def test_limits_and_stop_strings_cut_the_json(client: openai.OpenAI) -> None:
    whole = ask(client).choices[0].message.content
    cut = ask(client, max_tokens=4).choices[0]
    assert cut.finish_reason == "length"
    assert whole.startswith(cut.message.content)
    assert len(cut.message.content) == 4
    stopped = ask(client, stop="name").choices[0]
    assert (stopped.message.content, stopped.finish_reason) == (whole[: whole.index("name")], "stop")


def test_log_probabilities_are_those_of_the_model_without_the_schema(client: openai.OpenAI) -> None:
    tokens = ask(client, logprobs=True, top_logprobs=20, max_tokens=1).choices[0].logprobs.content
    free = (
        ask(client, logprobs=True, top_logprobs=20, max_tokens=1, response_format=openai.NOT_GIVEN)
        .choices[0]
        .logprobs.content
    )
    assert tokens[0].token == "{"
    assert tokens[0].logprob < math.log(0.5)
    assert tokens[0].top_logprobs == free[0].top_logprobs


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"properties": {"a": {"not": {}}}}, "schema at properties.a: unsupported keyword not"),
        ({"type": "colour"}, "schema at type: invalid JSON schema"),
        ({"enum": ["\ud83d"]}, "half of a surrogate pair"),
        ({"$ref": "#"}, "no text fits it"),
    ],
)
def test_schemas_that_cannot_be_used_are_refused(client: openai.OpenAI, schema: Any, message: str) -> None:
    for streamed in (False, True):
        body = {"model": "tiny", "messages": [{"role": "user", "content": "x"}], "stream": streamed}
        text = json.dumps(body | {"response_format": schema_format(schema)})
        with pytest.raises(openai.BadRequestError, match=message) as caught:
            client.post("/chat/completions", cast_to=object, content=text.encode())
        assert caught.value.param == "response_format.json_schema.schema"


def run(models: Models, jobs: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """The messages of an engine for these requests, by key."""
    emitted: list[dict[str, Any]] = []
    engine = Engine(models, emitted.append, 8)
    for job in jobs:
        own = {"source": "tiny", "turns": [["user", job["id"], 1.0]], "text": None, "max_tokens": 150, "stop": []}
        engine.add(own | {"temperature": 1.0, "top_p": 0.9, "seed": 5} | job)
    while not engine.idle:
        engine.step()
        assert len(engine._batches) <= 1
    return {job["id"]: [item for item in emitted if item["id"] == job["id"]] for job in jobs}


def text(messages: list[dict[str, Any]]) -> str:
    return "".join(message.get("text", "") for message in messages)


def test_a_tokenizer_that_cannot_be_used_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def unusable(*_: Any, **__: Any) -> None:
        raise ValueError("no byte of its tokens is known")

    monkeypatch.setattr("kamerton.server.generation.constraint.from_tokenizer", unusable)
    messages = run(Models(most=1, context=2048), [{"id": "a", "schema": SCHEMA}, {"id": "b", "max_tokens": 2}])
    (refused,) = messages["a"]
    assert (refused["error"]["status"], refused["error"]["param"]) == (400, "response_format")
    assert "no byte of its tokens is known" in refused["error"]["message"]
    assert messages["b"][-1]["finish"] == "length"


def test_constrained_and_free_answers_share_a_batch() -> None:
    models = Models(most=1, context=2048)
    free, constrained = [{"id": key, "max_tokens": 20} for key in "abc"], [{"id": "A", "schema": SCHEMA}]
    together = run(models, free + constrained)
    assert {key: text(messages) for key, messages in together.items()} == {
        key: text(messages) for alone in (free, constrained) for key, messages in run(models, alone).items()
    }
    jsonschema_rs.validator_for(SCHEMA).validate(json.loads(text(together["A"])))
