"""Answers of a model behind an endpoint that speaks OpenAI's chat completions protocol.

Several requests run at a time. One that fails for now (no connection, 408, 409, 429, 5xx) is sent again after a pause
that doubles, or that the server asks for. Where a model refuses `max_tokens` for its newer name, that is sent from then
on. The key comes from the environment, goes into one header, and nowhere else.
"""

from __future__ import annotations

import importlib.util
import os
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any

from kamerton.data.example import DataExample
from kamerton.endpoint import OPENAI
from kamerton.errors import Fault, RunFailed, UserError
from kamerton.mask import mask_text
from kamerton.score.options import EngineOptions

if TYPE_CHECKING:
    import httpx

    from kamerton.score.generate.sampling import Decoding

Said = dict[str, Any]
_FOR_NOW = {408, 409, 425, 429}
_LONGEST_PAUSE = 60.0
_LIMIT, _NEWER_LIMIT = "max_tokens", "max_completion_tokens"  # OpenAI's reasoning models refuse the first


def check_hosted(engine: EngineOptions) -> list[Fault]:
    """What is missing for requests: a package, or the key without which OpenAI answers nobody (others may)."""
    faults = []
    if importlib.util.find_spec("httpx") is None:
        message = "engine=hosted needs the package httpx, which is not installed"
        faults.append(Fault("engine.package", message, "pip install 'kamerton[hosted]'", column="engine.kind"))
    if engine.url.rstrip("/") == OPENAI and not (os.environ.get(engine.key) or "").strip():
        message = f"the environment variable {engine.key} is not set: it should hold the key of {OPENAI}"
        faults.append(Fault("engine.key", message, f"export {engine.key}=…", column="engine.key"))
    return faults


def hosted_answers(
    examples: Sequence[tuple[int, DataExample]],
    model: str,
    engine: EngineOptions,
    decoding: Decoding,
    sleep: Callable[[float], object] | None = None,
) -> Iterator[dict[int, Said]]:
    """`{position: {prediction, finish_reason}}` as answers come in, for positions with their examples.

    Raises `UserError` for what the endpoint refuses (the key, the model, the request) and `RunFailed` where it goes on
    failing; answers that came in before have been given.
    """
    import httpx

    stopped = threading.Event()
    pause = sleep or stopped.wait
    key = (os.environ.get(engine.key) or "").strip()
    _check_address(engine, key)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    limit = [_LIMIT]  # the name that the endpoint takes, shared by all requests
    client = httpx.Client(base_url=engine.url.rstrip("/") + "/", headers=headers, timeout=engine.timeout)

    def ask(example: DataExample) -> Said:
        return _ask(client, _request(model, example, decoding), limit, engine, pause, stopped)

    with client, ThreadPoolExecutor(engine.concurrency) as workers:
        waiting = iter(examples)
        running: dict[Future[Said], int] = {}
        try:
            while True:
                while len(running) < engine.concurrency and (one := next(waiting, None)) is not None:
                    running[workers.submit(ask, one[1])] = one[0]
                if not running:
                    return
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                places = {future: running.pop(future) for future in done}
                yield {at: future.result() for future, at in places.items() if future.exception() is None}
                for error in filter(None, (future.exception() for future in done)):
                    raise error
        finally:
            stopped.set()
            workers.shutdown(wait=False, cancel_futures=True)


def _request(model: str, example: DataExample, decoding: Decoding) -> dict[str, Any]:
    turns = example.messages[:-1] or (example.messages[-1],)  # text without a prompt has nothing to be asked
    sampling = {"temperature": decoding.temperature, "top_p": decoding.top_p, "seed": decoding.seed}
    messages = [{"role": turn.role, "content": turn.content} for turn in turns]
    return {"model": model, "messages": messages, "max_tokens": decoding.max_new_tokens, **sampling}


def _ask(
    client: httpx.Client,
    body: dict[str, Any],
    limit: list[str],
    engine: EngineOptions,
    sleep: Callable[[float], object],
    stopped: threading.Event,
) -> Said:
    import httpx

    reason = ""
    for attempt in range(engine.retries + 1):
        pause: float | None = None
        try:
            response = _post(client, body, limit)
        except (httpx.TransportError, httpx.DecodingError) as error:
            reason = f"{type(error).__name__}: {error}"
        else:
            if response.is_success:
                return _said(response)
            reason = f"{response.status_code} {_words(response)}"
            if response.status_code not in _FOR_NOW and response.status_code < 500:
                raise UserError([_refused(response.status_code, reason, engine)])
            pause = _asked_pause(response)
        if stopped.is_set():
            break
        if attempt < engine.retries:
            sleep(pause if pause is not None else min(_LONGEST_PAUSE, 2.0**attempt) * random.uniform(0.5, 1.0))
    message = f"{mask_text(engine.url)} failed {engine.retries + 1} times, last with: {mask_text(reason)}"
    fix = "repeat the command when it answers again: what was answered is kept"
    raise RunFailed(Fault("engine.failed", message, fix, column="engine.url"))


def _post(client: httpx.Client, body: dict[str, Any], limit: list[str]) -> httpx.Response:
    """The response; asked once more where the limit of tokens has its newer name there."""

    def post(name: str) -> httpx.Response:
        renamed = {name if key == _LIMIT else key: value for key, value in body.items()}
        return client.post("chat/completions", json=renamed)

    name = limit[0]
    response = post(name)
    if name == _LIMIT and response.status_code == 400 and _NEWER_LIMIT in response.text:
        limit[0] = _NEWER_LIMIT
        return post(_NEWER_LIMIT)
    return response


def _said(response: httpx.Response) -> Said:
    try:
        choice = response.json()["choices"][0]
        return {"prediction": choice["message"]["content"] or "", "finish_reason": choice["finish_reason"]}
    except (ValueError, KeyError, IndexError, TypeError) as error:
        message = f"the endpoint's answer is not a chat completion: {mask_text(response.text[:200])}"
        fix = "check engine.url: it ends before /chat/completions"
        raise UserError([Fault("engine.protocol", message, fix, column="engine.url")]) from error


def _words(response: httpx.Response) -> str:
    """What the endpoint says is wrong."""
    try:
        error = response.json()["error"]
        return str(error["message"] if isinstance(error, dict) else error)
    except (ValueError, KeyError, TypeError):
        return response.text[:200]


def _asked_pause(response: httpx.Response) -> float | None:
    try:
        return min(_LONGEST_PAUSE, max(0.0, float(response.headers["retry-after"])))
    except (KeyError, ValueError):
        return None


def _check_address(engine: EngineOptions, key: str) -> None:
    """Raises `UserError` for what no repetition would mend: an address or a key that cannot be one."""
    import httpx

    if not (key.isascii() and key.isprintable()):
        message, fix = f"{engine.key} holds characters that no key has", "set the environment variable again"
        raise UserError([Fault("engine.key", message, fix, column="engine.key")])
    try:
        address = httpx.URL(engine.url)
    except httpx.InvalidURL:
        address = httpx.URL("")
    if address.scheme not in ("http", "https") or not address.host:
        message = f"engine.url is {mask_text(engine.url)!r}, which is no address"
        raise UserError([Fault("engine.url", message, "write https://HOST/v1", column="engine.url")])


def _refused(status: int, reason: str, engine: EngineOptions) -> Fault:
    message = f"{mask_text(engine.url)} refuses the request: {mask_text(reason)}"
    if status in (401, 403):
        there = "holds" if os.environ.get(engine.key) else "is not set: it should hold"
        fix = f"the environment variable {engine.key} {there} the key"
        return Fault("engine.key", message, fix, column="engine.key")
    return Fault("engine.refused", message, "correct model.name, engine.url or the options of score", column="engine")
