"""Chat and text completions as a client sees them: OpenAI's own, on a server whose models are tiny."""

from __future__ import annotations

import asyncio
import math
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import pytest
from fastapi import FastAPI

from kamerton.server.app import create_app
from kamerton.server.generation.client import Generator
from kamerton.server.settings import Settings
from support.in_process import listening
from support.tuned import JOB, answers_of

TUNED = f"ft:tiny:local::{JOB}"
BASE: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 12}


@dataclass(frozen=True)
class Served:
    """A server with one tuned run, and clients of it."""

    app: FastAPI
    run: Path
    client: openai.OpenAI
    url: str


@pytest.fixture(scope="module")
def served(tuned_run: Path) -> Iterator[Served]:
    generator = Generator(yields=False)  # other tests are at work beside it
    settings = Settings(tuned_run.parents[1], models=("tiny",), runs=((tuned_run.name, tuned_run),))
    app = create_app(settings, generator)
    with listening(app) as url:
        yield Served(app, tuned_run, openai.OpenAI(base_url=url, api_key="none", max_retries=0), url)
    assert app.state.generator.pid is None  # nothing is left behind


def ask(served: Served, prompt: str, **more: Any) -> Any:
    own = {"model": TUNED, "max_tokens": 40, "temperature": 0}
    return served.client.chat.completions.create(**own | {"messages": [{"role": "user", "content": prompt}]} | more)


def test_whole_and_streamed_answers_are_those_of_the_evaluation(served: Served) -> None:
    for prompt, expected in list(answers_of(served.run).items())[:3]:
        complete_answer = ask(served, prompt)
        choice = complete_answer.choices[0]
        assert (choice.message.content, choice.finish_reason) == expected
        chunks = list(ask(served, prompt, stream=True, stream_options={"include_usage": True}))
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1]) == expected[0]
        assert [chunk.choices[0].finish_reason for chunk in chunks[:-1]] == [*[None] * (len(chunks) - 2), expected[1]]
        assert chunks[0].choices[0].delta.role == "assistant"
        assert (chunks[-1].choices, chunks[-1].usage) == ([], complete_answer.usage)
        assert (
            complete_answer.usage.prompt_tokens + complete_answer.usage.completion_tokens
            == complete_answer.usage.total_tokens
        )
        assert {chunk.system_fingerprint for chunk in chunks} == {complete_answer.system_fingerprint}
        assert len({chunk.id for chunk in chunks}) == 1


def test_a_run_of_the_command_line_is_a_model_that_cannot_be_deleted(served: Served) -> None:
    ((prompt, (expected, _)), *_) = answers_of(served.run).items()
    assert ask(served, prompt, model=served.run.name).choices[0].message.content == expected
    assert served.run.name in [model.id for model in served.client.models.list()]
    assert served.client.models.retrieve(served.run.name).id == served.run.name
    with pytest.raises(openai.PermissionDeniedError, match="cannot be deleted"):
        served.client.models.delete(served.run.name)
    assert (served.run / "model").is_dir()


def test_eight_streams_at_once_are_each_what_they_are_alone(served: Served) -> None:
    calls = [
        {**BASE, "model": TUNED if i % 2 else "tiny", "max_tokens": 5 + 6 * i, "temperature": i % 3 / 2, "seed": i}
        for i in range(8)
    ]

    async def all_at_once() -> list[str]:
        async with openai.AsyncOpenAI(base_url=served.url, api_key="none", max_retries=0) as client:

            async def answer(parameters: dict[str, Any]) -> str:
                stream = await client.chat.completions.create(**parameters, stream=True)
                return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

            return await asyncio.gather(*map(answer, calls))

    together = asyncio.run(all_at_once())
    alone = [served.client.chat.completions.create(**parameters).choices[0].message.content for parameters in calls]
    assert together == alone
    assert len(set(alone)) > 4


def test_text_is_continued_without_a_template(served: Served) -> None:
    own: dict[str, Any] = {"model": "tiny", "prompt": "Once", "temperature": 0, "stop": None}
    complete_answer = served.client.completions.create(**own)
    assert complete_answer.usage is not None
    assert (complete_answer.usage.prompt_tokens, complete_answer.choices[0].finish_reason) == (4, "length")  # bytes
    assert complete_answer.usage.completion_tokens == 16
    chunks = list(served.client.completions.create(**own, stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks) == complete_answer.choices[0].text
    assert chunks[-1].choices[0].finish_reason == "length"
    assert {chunk.object for chunk in chunks} == {complete_answer.object}


def test_control_tokens_in_a_text_are_text(served: Served) -> None:
    empty = ask(served, "x", max_tokens=1).usage.prompt_tokens - 1
    assert ask(served, "<|im_end|>", max_tokens=1).usage.prompt_tokens == empty + len("<|im_end|>")
    continuation = served.client.completions.create(model="tiny", prompt="<|im_end|>", max_tokens=1)
    assert continuation.usage is not None
    assert continuation.usage.prompt_tokens == len("<|im_end|>")


def test_a_stop_string_ends_an_answer_and_is_not_in_it(served: Served) -> None:
    prompt, (complete_answer, _) = next(iter(answers_of(served.run).items()))
    stop = complete_answer[2:4]
    answer = ask(served, prompt, stop=stop).choices[0]
    assert (answer.message.content, answer.finish_reason) == (complete_answer[: complete_answer.index(stop)], "stop")
    pieces = [
        chunk.choices[0].delta.content or "" for chunk in ask(served, prompt, stop=["nowhere", stop], stream=True)
    ]
    assert "".join(pieces) == answer.message.content


def test_text_parts_and_what_an_answer_holds_beside_its_text_may_come_back(served: Served) -> None:
    parts = [{"type": "text", "text": "the "}, {"type": "text", "text": "owl"}]
    assert ask(served, parts).choices[0].message == ask(served, "the owl").choices[0].message  # type: ignore[arg-type]
    before = ask(served, "the owl").choices[0].message.model_dump()
    turns = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "the owl"}, before]
    more = ask(served, "", messages=[*turns, {"role": "user", "content": "and the cat"}])
    assert more.usage.prompt_tokens > 60
    assert ask(served, "", messages=turns).choices[0].finish_reason in ("stop", "length")


def test_each_choice_has_a_seed_of_its_own(served: Served) -> None:
    own: dict[str, Any] = {"model": "tiny", "temperature": 1.5, "max_tokens": 12}
    alone = [ask(served, "the owl", **own, seed=seed).choices[0].message.content for seed in (5, 6, 7)]
    together = ask(served, "the owl", **own, seed=5, n=3)
    assert [choice.message.content for choice in together.choices] == alone
    assert len(set(alone)) == 3
    assert together.usage.prompt_tokens == ask(served, "the owl", max_tokens=1).usage.prompt_tokens
    texts = ["", "", ""]
    for chunk in ask(served, "the owl", **own, seed=5, n=3, stream=True):
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
    assert texts == alone


def test_log_probabilities_are_those_of_the_tokens(served: Served) -> None:
    own: dict[str, Any] = {"max_tokens": 8, "logprobs": True, "top_logprobs": 3}
    answer = ask(served, "the owl", **own)
    tokens = answer.choices[0].logprobs.content
    assert len(tokens) == answer.usage.completion_tokens
    for token in tokens:
        assert token.top_logprobs[0].logprob == token.logprob  # the answer is greedy
        assert len(token.top_logprobs) == 3
        assert token.bytes == (None if "\ufffd" in token.token else list(token.token.encode()))
    assert sum(math.exp(token.logprob) for token in tokens[0].top_logprobs) <= 1 + 1e-9
    chunks = ask(served, "the owl", **own, stream=True)
    shown = [choice.logprobs for chunk in chunks for choice in chunk.choices if choice.logprobs]
    streamed = [token for logprobs in shown for token in logprobs.content]
    assert [token.token for token in streamed] == [token.token for token in tokens]
    assert ask(served, "the owl", max_tokens=1, logprobs=True).choices[0].logprobs.content[0].top_logprobs == []
    assert ask(served, "the owl", max_tokens=1).choices[0].logprobs is None


def test_a_disconnected_client_cancels_its_request(served: Served) -> None:
    generator = served.app.state.generator
    long = {**BASE, "max_tokens": 1900, "seed": 1, "temperature": 2.0}
    with served.client.chat.completions.create(**long, stream=True) as stream:
        next(iter(stream))
        assert generator.under_way == 1
    until(lambda: generator.under_way == 0)
    with pytest.raises(openai.APITimeoutError):
        served.client.with_options(timeout=0.05).chat.completions.create(**long)
    until(lambda: generator.under_way == 0)
    assert served.client.chat.completions.create(**BASE).choices[0].finish_reason


def until(holds: Any) -> None:
    """Wait for what another thread is about to do."""
    end = time.monotonic() + 300
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"n": 9}, "n"),
        ({"temperature": 2.5}, "temperature"),
        ({"temperature": "1"}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_completion_tokens": 3}, "max_tokens"),
        ({"seed": 2**63}, "seed"),
        ({"stop": ["a"] * 5}, "stop"),
        ({"stop": ""}, "stop.0"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"logit_bias": {"5": 1}}, "logit_bias"),
        ({"presence_penalty": 0.5}, "presence_penalty"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        (
            {"response_format": {"type": "text", "json_schema": {"name": "x", "schema": {}}}},
            "response_format.json_schema",
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}},
            "response_format.json_schema.schema",
        ),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"extra_body": {"best_guess": 1}}, "best_guess"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "robot", "content": "hi"}]}, "messages.0.role"),
        ({"messages": [{"role": "user"}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "content": "x" * 5000}]}, "messages"),
        ({"max_tokens": 4000}, "messages"),
        ({"model": "gpt-4"}, "model"),
    ],
)
def test_unsupported_parameters_are_refused_by_name(served: Served, more: dict[str, Any], param: str) -> None:
    with pytest.raises((openai.BadRequestError, openai.NotFoundError)) as caught:
        served.client.chat.completions.create(**BASE | more)
    assert caught.value.param == param
    assert caught.value.type == "invalid_request_error"
    if param == "messages" and "messages" not in more:
        assert caught.value.code == "context_length_exceeded"


def test_half_a_character_is_no_text(served: Served) -> None:
    body = b'{"model": "tiny", "messages": [{"role": "user", "content": "\\ud83d"}]}'
    with pytest.raises(openai.BadRequestError) as caught:
        served.client.post("/chat/completions", cast_to=object, content=body)
    assert caught.value.param == "messages.0.content"


@pytest.mark.slow
def test_a_dead_process_fails_its_request_and_is_restarted(served: Served) -> None:
    generator = served.app.state.generator
    served.client.chat.completions.create(**BASE)
    first = generator.pid
    with served.client.chat.completions.create(**{**BASE, "max_tokens": 1900, "seed": 1}, stream=True) as stream:
        next(iter(stream))
        os.kill(first, signal.SIGKILL)
        with pytest.raises(openai.APIError, match="has ended"):
            list(stream)
    assert served.client.chat.completions.create(**BASE).choices[0].finish_reason
    assert generator.pid not in (first, None)
