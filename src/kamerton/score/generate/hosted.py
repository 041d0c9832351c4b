"""Answers of a model behind an endpoint that speaks OpenAI's chat completions protocol.

Several requests run at a time. The `openai` client repeats one that failed for now (no connection, 408, 409, 429, 5xx)
after a pause that doubles or that the server requests. If a model refuses `max_tokens` for its newer name, that is sent
from then on. The key comes from the environment, goes into one header, and nowhere else.
"""

from __future__ import annotations

import json
import queue
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from multiprocessing.pool import ThreadPool
from typing import TYPE_CHECKING, Any

from kamerton.data.example import DataExample, chat_messages
from kamerton.data.read.conversations.reasoning import reasoning_field, reasoning_text
from kamerton.endpoint import Endpoint, connect, endpoint_faults, error_text, passes
from kamerton.errors import Fault, RunFailed, UserError
from kamerton.mask import mask_text
from kamerton.score.calls import calls_text, named_call
from kamerton.score.generate.read import answer_row
from kamerton.score.options import EngineOptions

if TYPE_CHECKING:
    from openai import APIError, OpenAI

    from kamerton.score.generate.sampling import Decoding

Answer = dict[str, Any]  # prediction, finish_reason; also predicted_calls, prediction_reasoning, generated
_LIMIT, _NEWER_LIMIT = "max_tokens", "max_completion_tokens"  # OpenAI's reasoning models refuse the first


def engine_endpoint(engine: EngineOptions) -> Endpoint:
    """The endpoint that the options name."""
    return Endpoint(engine.url.strip().rstrip("/"), engine.key, section="engine")


def hosted_answers(
    examples: Sequence[tuple[int, DataExample]],
    model: str,
    engine: EngineOptions,
    decoding: Decoding,
    *,
    calls: bool = False,
) -> Iterator[dict[int, Answer]]:
    """Yield `{position: columns of the answer}` as answers come in, for positions with their examples.

    Functions of an example are sent as `tools`. With `calls`, the calls of answers are read: those that the endpoint
    returns as `tool_calls`, otherwise those in the text.

    Raises `UserError` for what the endpoint refuses (the key, the model, the request) and `RunFailed` if it keeps
    failing; answers that came in before have been given.
    """
    endpoint = engine_endpoint(engine)
    if faults := endpoint_faults(endpoint):
        raise UserError(faults)
    client = connect(endpoint, retries=engine.retries, timeout=engine.timeout, redirects=False)
    limit = [_LIMIT]  # the name that the endpoint takes, shared by all requests
    sampling = {"temperature": decoding.temperature, "top_p": decoding.top_p, "seed": decoding.seed}
    results: queue.SimpleQueue[dict[int, Answer] | BaseException] = queue.SimpleQueue()

    def ask(position: int, example: DataExample) -> dict[int, Answer]:
        turns = example.messages[:-1] or (example.messages[-1],)  # text without a prompt is sent as the prompt
        request = {"model": model, "messages": chat_messages(turns), "max_tokens": decoding.max_new_tokens, **sampling}
        if example.tools:
            request["tools"] = json.loads(example.tools)
        choice = _ask(client, request, limit, endpoint)
        return {position: answer_of(choice, example, calls=calls)}

    # Its threads are daemons: an interrupted command does not wait for a request or for the client's pause.
    with client, ThreadPool(engine.concurrency) as pool:

        def submit(count: int) -> None:
            for item in islice(waiting, count):
                pool.apply_async(ask, item, callback=results.put, error_callback=results.put)

        waiting = iter(examples)
        submit(engine.concurrency)
        for _ in examples:
            result = results.get()
            if isinstance(result, BaseException):
                raise result
            yield result
            submit(1)


def answer_of(choice: Mapping[str, Any], example: DataExample, *, calls: bool) -> Answer:
    """Return the columns of a choice of the protocol: text, reasoning and calls apart."""
    message, reason = choice["message"], choice["finish_reason"]
    text = (message.get("content") if message.get("tool_calls") else message["content"]) or ""
    row = answer_row(text, text, example, thinking=False, calls=calls)
    name, value = reasoning_field(message)
    if name and (reasoning := reasoning_text(value)):
        row["prediction_reasoning"] = reasoning
    if calls and message.get("tool_calls"):
        functions = [call.get("function") or {} for call in message["tool_calls"]]
        made = [named_call(str(each.get("name", "")), str(each.get("arguments", ""))) for each in functions]
        row |= {"prediction": text, "predicted_calls": calls_text(made)}
    if "prediction_reasoning" in row or row.get("predicted_calls", "[]") != "[]":
        row["generated"] = json.dumps(message, ensure_ascii=False)
    return row | {"finish_reason": "stop" if reason == "tool_calls" else reason}


def _ask(client: OpenAI, body: dict[str, Any], limit: list[str], endpoint: Endpoint) -> Mapping[str, Any]:
    """Return one answer's choice; asks once more if the endpoint names the limit of tokens differently."""
    from openai import APIError, BadRequestError

    name = limit[0]
    try:
        try:
            return _post(client, body, name, endpoint)
        except BadRequestError as error:
            if name != _LIMIT or _NEWER_LIMIT not in error.response.text:
                raise
            limit[0] = _NEWER_LIMIT
            return _post(client, body, _NEWER_LIMIT, endpoint)
    except APIError as error:
        raise _failure(error, endpoint) from None


def _post(client: OpenAI, body: dict[str, Any], limit: str, endpoint: Endpoint) -> Mapping[str, Any]:
    from openai import Omit

    headers = {} if endpoint.secret else {"Authorization": Omit()}  # no key, no header
    renamed = {limit if key == _LIMIT else key: value for key, value in body.items()}
    response = client.chat.completions.with_raw_response.create(**renamed, extra_headers=headers).http_response
    try:
        choice: Mapping[str, Any] = response.json()["choices"][0]
        answer_of(choice, DataExample("", ""), calls=True)  # raises one of these errors if it is none
        return choice
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        message = f"the endpoint's answer is not a chat completion: {mask_text(response.text[:200])}"
        fix = "check engine.url: it ends before /chat/completions"
        raise UserError([Fault("engine.protocol", message, fix, column="engine.url")]) from error


def _failure(error: APIError, endpoint: Endpoint) -> UserError | RunFailed:
    """Convert what the client raised after its last try to a fault with a fix."""
    reason, status = error_text(error, endpoint), getattr(error, "status_code", None)
    if passes(error):
        message = f"{endpoint.shown} keeps failing: {reason}"
        fix = "repeat the command when it answers again: what was answered is kept"
        return RunFailed(Fault("engine.failed", message, fix, column="engine.url"))
    message = f"{endpoint.shown} refuses the request: {reason}"
    if status in (401, 403):
        there = "holds" if endpoint.secret else "is not set: it should hold"
        fix = f"the environment variable {endpoint.key} {there} the key"
        return UserError([Fault("engine.key", message, fix, column="engine.key")])
    fix = "correct model.name, engine.url or the options of score"
    return UserError([Fault("engine.refused", message, fix, column="engine")])
