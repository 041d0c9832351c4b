"""A hosted model, played by a real HTTP server on this machine that speaks OpenAI's protocol."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from typing import Any

import pytest

from kamerton.data.example import DataExample, Message, ToolCall
from kamerton.errors import RunFailed, UserError
from kamerton.score.generate.hosted import hosted_answers
from kamerton.score.generate.sampling import Decoding
from kamerton.score.options import EngineOptions
from support.endpoint import Answer, Endpoint, completion

KEY = "sk-abcdefghijklmnop"
EXAMPLES = [(at, DataExample(f"question {at}", "answer")) for at in range(12)]


def echo(number: int, body: dict[str, Any]) -> Answer:
    del number
    return completion(body["messages"][-1]["content"].upper(), "length")


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that the client would have waited before it repeated a request."""
    waited: list[float] = []
    monkeypatch.setattr("openai._base_client.time.sleep", waited.append)
    return waited


def answers(endpoint: Endpoint, examples: Any = EXAMPLES, **more: Any) -> Any:
    engine = EngineOptions("hosted", endpoint.url, "MY_KEY", **{"concurrency": 3, "retries": 2, **more})
    result: dict[int, Any] = {}
    for part in hosted_answers(examples, "my-model", engine, Decoding(7, 0.5, 0.9, 3)):
        result |= part
    return result


def test_every_prompt_is_asked_with_the_options_and_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    with Endpoint(echo) as endpoint:
        result = answers(endpoint)
    assert result == {at: {"prediction": f"QUESTION {at}", "finish_reason": "length"} for at in range(12)}
    assert set(endpoint.keys) == {f"Bearer {KEY}"}
    (request,) = (body for body in endpoint.requests if body["messages"][0]["content"] == "question 5")
    assert request == {
        "path": "/v1/chat/completions",
        "model": "my-model",
        "messages": [{"role": "user", "content": "question 5"}],
        "max_tokens": 7,
        "temperature": 0.5,
        "top_p": 0.9,
        "seed": 3,
    }


def test_a_configured_address_gets_no_headers_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = {"OPENAI_ORG_ID": "org-1", "OPENAI_PROJECT_ID": "proj-1", "OPENAI_CUSTOM_HEADERS": "X-Team: team-1"}
    for name, value in {"MY_KEY": KEY, **secrets}.items():
        monkeypatch.setenv(name, value)
    with Endpoint(echo) as endpoint:
        answers(endpoint, EXAMPLES[:1])
        assert "org-1" not in "".join(endpoint.headers)
        assert "proj-1" not in "".join(endpoint.headers)
        assert "team-1" not in "".join(endpoint.headers)
        monkeypatch.setenv("OPENAI_BASE_URL", endpoint.url)  # now the user's own default
        answers(endpoint, EXAMPLES[:1])
        assert "org-1" in endpoint.headers[-1]


def test_chats_are_sent_turn_by_turn_and_no_key_is_sent_where_there_is_none() -> None:
    turns = (
        Message("system", "Be brief."),
        Message("user", "Hi"),
        Message("assistant", "Hi."),
        Message("user", "Why?"),
    )
    with Endpoint(echo) as endpoint:
        answers(endpoint, [(0, DataExample(turns, "answer"))])
    assert endpoint.requests[0]["messages"] == [{"role": turn.role, "content": turn.content} for turn in turns]
    assert endpoint.keys == [None]


def test_requests_run_at_the_same_time_but_no_more_than_asked() -> None:
    together = threading.Barrier(3, timeout=300)

    def wait(number: int, body: dict[str, Any]) -> Answer:
        together.wait()  # until three are there
        return echo(number, body)

    with Endpoint(wait) as endpoint:
        assert len(answers(endpoint)) == 12
    assert endpoint.most_at_once == 3


def test_temporary_failures_are_retried_after_a_pause(pauses: list[float]) -> None:
    def busy(number: int, body: dict[str, Any]) -> Answer:
        if number == 1:
            return 429, {"Retry-After": "7"}, {"error": {"message": "slow down"}}
        return (503, {}, "oops") if number == 2 else echo(number, body)

    with Endpoint(busy) as endpoint:
        assert answers(endpoint, EXAMPLES[:1], concurrency=1)[0]["prediction"] == "QUESTION 0"
    assert pauses[0] == 7
    assert 0 < pauses[1] < 7  # its own
    assert len(endpoint.requests) == 3


def test_the_token_limit_is_sent_under_the_name_that_the_model_accepts() -> None:
    def newer(number: int, body: dict[str, Any]) -> Answer:
        if "max_tokens" in body:
            words = "Unsupported parameter: 'max_tokens' is not supported with this model. "
            error = {"message": f"{words}Use 'max_completion_tokens' instead.", "param": "max_tokens"}
            return 400, {}, {"error": error | {"code": "unsupported_parameter", "type": "invalid_request_error"}}
        return echo(number, body)

    with Endpoint(newer) as endpoint:
        result = answers(endpoint, concurrency=1, retries=0)
    assert {at: item["prediction"] for at, item in result.items()} == {at: f"QUESTION {at}" for at in range(12)}
    assert [body.get("max_completion_tokens") for body in endpoint.requests] == [None, *[7] * 12]


def test_a_rejected_token_limit_is_not_sent_under_another_name() -> None:
    answer = (400, {}, {"error": {"message": "max_tokens is too large: 7", "param": "max_tokens"}})
    with Endpoint(lambda number, body: answer) as endpoint, pytest.raises(UserError, match="too large"):
        answers(endpoint, EXAMPLES[:1])
    assert len(endpoint.requests) == 1


def test_repeated_failures_stop_the_evaluation_without_printing_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    answer = (500, {}, {"error": {"message": f"no good, {KEY}"}})
    with (
        Endpoint(lambda number, body: answer) as endpoint,
        pytest.raises(RunFailed, match="keeps failing: 500") as error,
    ):
        answers(endpoint, EXAMPLES[:1])
    assert KEY not in str(error.value)
    assert len(endpoint.requests) == 3


@pytest.mark.parametrize(
    ("answer", "code", "words"),
    [
        ((401, {}, {"error": {"message": "bad key"}}), "engine.key", "MY_KEY is not set"),
        ((404, {}, {"error": {"message": "no model my-model"}}), "engine.refused", "no model my-model"),
        ((200, {}, b"<html>"), "engine.protocol", "not a chat completion"),
    ],
)
def test_permanent_failures_are_reported_at_once(answer: Answer, code: str, words: str) -> None:
    with Endpoint(lambda number, body: answer) as endpoint, pytest.raises(UserError, match=words) as error:
        answers(endpoint, EXAMPLES[:1])
    assert error.value.faults[0].code == code
    assert len(endpoint.requests) == 1


def test_prompts_and_the_key_follow_no_redirect(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    with Endpoint(echo) as other:
        moved = (307, {"Location": f"{other.url}/chat/completions"}, {})
        with Endpoint(lambda number, body: moved) as endpoint, pytest.raises(UserError, match="307"):
            answers(endpoint, EXAMPLES[:1])
        assert other.requests == []


def test_after_a_refusal_no_request_is_sent() -> None:
    answer = (400, {}, {"error": {"message": "no"}})
    with Endpoint(lambda number, body: answer) as endpoint, pytest.raises(UserError, match="no"):
        answers(endpoint, concurrency=1)
    assert len(endpoint.requests) == 1


def test_an_interruption_waits_for_no_answer() -> None:
    """Requests in progress are abandoned; a repeated command requests the same examples."""
    over = threading.Event()

    def hang(number: int, body: dict[str, Any]) -> Answer:
        if number > 1:
            over.wait(300)
        return echo(number, body)

    engine = EngineOptions("hosted", "", "MY_KEY", concurrency=3)
    with Endpoint(hang) as endpoint:
        stream = hosted_answers(EXAMPLES, "my-model", replace(engine, url=endpoint.url), Decoding(7, 0.5, 0.9, 3))
        assert next(stream) != {}
        stream.close()  # as an interruption does
        over.set()


def test_an_unreachable_server_is_a_retryable_failure() -> None:
    with Endpoint(echo) as endpoint:
        pass
    with pytest.raises(RunFailed, match="ConnectError"):
        answers(endpoint, EXAMPLES[:1])


@pytest.mark.parametrize(
    ("url", "key", "code"),
    [
        ("localhost:8000/v1", "k", "engine.url"),
        ("http://host:port/v1", "k", "engine.url"),
        ("https:///v1", "k", "engine.url"),
        ("https://ho\tst/v1", "k", "engine.url"),
        ("https://xn--☃/v1", "k", "engine.url"),
        ("https://host/v1", "schlüssel", "engine.key"),
    ],
)
def test_an_invalid_address_or_key_is_not_used(url: str, key: str, code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", key)
    engine = EngineOptions("hosted", url, "MY_KEY")
    with pytest.raises(UserError) as error:
        list(hosted_answers(EXAMPLES[:1], "my-model", engine, Decoding(7, 0.5, 0.9, 3)))
    assert error.value.faults[0].code == code


TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}]
ASKED = DataExample(
    (
        Message("user", "Weather?"),
        Message("assistant", "", reasoning="hm", tool_calls=(ToolCall("weather", '{"city": "Oslo"}'),)),
        Message("tool", "rain"),
        Message("user", "And in Rome?"),
    ),
    "",
    tool_calls=(ToolCall("weather", '{"city": "Rome"}'),),
    tools=json.dumps(TOOLS),
)


def replied(message: dict[str, Any], reason: str = "tool_calls") -> Any:
    """The columns of an answer with this message, and the request for it."""
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": reason}
    with Endpoint(lambda number, body: (200, {}, {"id": "c", "choices": [choice]})) as endpoint:
        engine = EngineOptions("hosted", endpoint.url, "MY_KEY")
        (part,) = hosted_answers([(3, ASKED)], "my-model", engine, Decoding(7), calls=True)
    return part[3], endpoint.requests[0]


def test_functions_calls_and_results_are_sent() -> None:
    _, request = replied({"content": "Sun."}, "stop")
    assert request["tools"] == TOOLS
    call = {"type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}
    assert request["messages"] == [
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "call_1_0", **call}]},
        {"role": "tool", "content": "rain", "tool_call_id": "call_1_0"},
        {"role": "user", "content": "And in Rome?"},
    ]


@pytest.mark.parametrize(
    ("message", "columns"),
    [
        ({"content": "Sun."}, {"prediction": "Sun.", "predicted_calls": "[]"}),
        (
            {
                "content": None,
                "reasoning_content": "South.",
                "tool_calls": [
                    {"id": "1", "type": "function", "function": {"name": "weather", "arguments": '{"a": 1}'}}
                ],
            },
            {
                "prediction": "",
                "prediction_reasoning": "South.",
                "predicted_calls": '[{"name": "weather", "arguments": {"a": 1}}]',
            },
        ),
        (
            {"tool_calls": [{"id": "1", "type": "function", "function": {"name": "weather", "arguments": '{"a": '}}]},
            {"prediction": "", "predicted_calls": '[{"name": "weather", "invalid": "{\\"a\\":"}]'},
        ),
        (
            {"content": '<think>South.</think><tool_call>{"name": "weather", "arguments": {"a": 1}}</tool_call>'},
            {
                "prediction": "",
                "prediction_reasoning": "South.",
                "predicted_calls": '[{"name": "weather", "arguments": {"a": 1}}]',
            },
        ),
    ],
)
def test_calls_and_reasoning_of_answers_are_read(message: dict[str, Any], columns: dict[str, Any]) -> None:
    row, _ = replied(message)
    generated = row.pop("generated", None)
    assert row == {**columns, "finish_reason": "stop"}
    assert (generated is None) == (columns.get("predicted_calls") == "[]")
