"""Requests that nobody thought of, to a server that runs, and what is wrong with its answers.

Three kinds: drawn by schemathesis from the server's own OpenAPI description, both what fits it and what does not; the
same with a token that nobody has; and bytes that are hardly HTTP, JSON or a form any more.
"""

from __future__ import annotations

import json
import random
import socket
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http.client import HTTPException, HTTPResponse
from typing import Any
from urllib.parse import urlsplit

import hypothesis
import requests
import schemathesis
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode

OPEN = ("/health", "/openapi.json")
DRAWN = 20  # requests of an operation and mode, one after the other
_SHOWN = 300  # characters of what is wrong
_LONGEST = 4  # tokens of an answer
_WAIT_S = 0.2  # for the answer to what may be no whole request
Known = dict[str, str]


@dataclass
class Tally:
    """What was answered: how often each status by kind of request, and everything that is wrong."""

    answers: Counter[tuple[str, int]] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    @property
    def count(self) -> int:
        """Requests in all."""
        return self.answers.total()

    def note(self, kind: str, request: str, status: int, media: str, body: bytes) -> None:
        """Count an answer and judge it; status 0 is none."""
        self.answers[kind, status] += 1
        if problem := fault_of(status, media, body):
            self.faults.append(f"{kind}: {request[:_SHOWN]}: {status} {problem[:_SHOWN]}")

    def table(self) -> str:
        """Markdown, a line for each kind of request."""
        kinds = sorted({kind for kind, _ in self.answers})
        statuses = sorted({status for _, status in self.answers})
        names = [str(status) if status else "no answer" for status in statuses]
        lines = [f"| requests | {' | '.join(names)} | all |", "| --- |" + " --- |" * (len(names) + 1)]
        for kind in kinds:
            counts = [self.answers[kind, status] for status in statuses]
            lines.append(f"| {kind} | {' | '.join(f'{n:,}' for n in counts)} | {sum(counts):,} |")
        return "\n".join(lines)


def fault_of(status: int, media: str, body: bytes) -> str | None:
    """What no answer may be: the server's own fault, or an error that is not of OpenAI's shape."""
    if media.startswith("text/event-stream"):
        failed = [line for line in body.splitlines() if line.startswith(b'data: {"error"')]
        return f"failed midway: {failed[0]!r}" if failed else None
    if status >= 500:
        return f"the server's own fault: {body!r}"
    return None if status < 400 or is_error(body) else f"not of OpenAI's shape: {body!r}"


def is_error(body: bytes) -> bool:
    """Whether a body is `{"error": {"message", "type", "param", "code"}}` and nothing else."""
    try:
        error = json.loads(body)
    except ValueError:
        return False
    if not isinstance(error, dict) or set(error) != {"error"} or not isinstance(error["error"], dict):
        return False
    details = error["error"]
    texts = (details.get("message"), details.get("type"))
    optional_texts = (details.get("param"), details.get("code"))
    is_text = all(isinstance(text, str) and text for text in texts)
    return (
        set(details) == {"message", "type", "param", "code"}
        and is_text
        and all(isinstance(x, str | None) for x in optional_texts)
    )


def described(
    url: str, token: str, tally: Tally, rounds: int, prepare: Callable[[], Known], seed: int = 0, drawn: int = DRAWN
) -> None:
    """Requests drawn from the description, `drawn` of each route and mode.

    Every other round names what `prepare` says that there is.
    """
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    operations = [result.ok() for result in schema.get_all_operations()]
    with requests.Session() as session:
        for number in range(rounds):
            ids = prepare() if number % 2 else {}
            for place, operation in enumerate(operations):
                for mode in _modes(operation):
                    path_parameters = {
                        parameter.name: ids[parameter.name]
                        for parameter in operation.path_parameters
                        if parameter.name in ids
                    }
                    strategy = operation.as_strategy(mode, path_parameters=path_parameters or None)
                    own = 1000 * seed + 100 * number + place
                    kind = "described, as it says" if mode is GenerationMode.POSITIVE else "described, broken"
                    _draw(strategy, own, drawn, lambda case: _send(session, naming(case, ids), token, kind, tally))  # noqa: B023


def _modes(operation: Any) -> list[GenerationMode]:
    """What fits, and what does not where it can be: any text fits a path."""
    breakable = operation.query or operation.body
    return [GenerationMode.POSITIVE, GenerationMode.NEGATIVE] if breakable else [GenerationMode.POSITIVE]


def refused(url: str, tally: Tally, rounds: int, seed: int = 0, drawn: int = DRAWN) -> None:
    """The same with a token that nobody has: nothing but what is open may be answered."""
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    with requests.Session() as session:
        for number in range(rounds):
            for place, operation in enumerate(schema.get_all_operations()):
                strategy = operation.ok().as_strategy(GenerationMode.POSITIVE)
                own = 1000 * seed + 100 * number + place
                _draw(strategy, own, drawn, lambda case: _send(session, case, "nobody's", "with a wrong token", tally))


def _draw(strategy: Any, seed: int, count: int, send: Callable[[Any], None]) -> None:
    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(strategy)
    def once(case: Any) -> None:
        send(case)

    with suppress(Unsatisfiable):  # there may be nothing to break
        once()


def naming(case: Case[Any], ids: Known) -> Case[Any]:
    """A request that names what there is wherever it names anything, and asks for short answers."""
    if ids and isinstance(case.body, dict):
        body = {name: ids.get(name, value) for name, value in case.body.items()}
        if "messages" in body or "prompt" in body:
            body |= {
                name: _LONGEST for name in ("max_tokens", "max_completion_tokens") if isinstance(body.get(name), int)
            }
            body |= {} if {"max_tokens", "max_completion_tokens"} & set(body) else {"max_tokens": _LONGEST}
        case.body = body
    return case


def _send(session: requests.Session, case: Case[Any], token: str, kind: str, tally: Tally) -> None:
    request = f"{case.method} {case.formatted_path} {case.query} {case.body!r}"
    try:
        answer = case.call(session=session, headers={"Authorization": f"Bearer {token}"}, timeout=60)
    except requests.ConnectionError as error:
        tally.answers[kind, 0] += 1
        tally.faults.append(f"{kind}: {request[:_SHOWN]}: no answer: {error}")
        return
    tally.note(kind, request, answer.status_code, answer.headers.get("content-type", [""])[0], answer.content)
    if kind == "with a wrong token" and answer.status_code < 400 and case.path not in OPEN:
        tally.faults.append(f"{kind}: {request[:_SHOWN]}: was answered")


def raw(url: str, token: str, tally: Tally, count: int, seed: int = 0) -> None:
    """Bytes on a connection each: spoilt bodies and spoilt HTTP."""
    address = urlsplit(url)
    draw = random.Random(seed)
    for number in range(count):
        kind, sent = ("spoilt bodies", _body(draw, token)) if number % 2 else ("spoilt HTTP", _http(draw, token))
        status, media, body = _exchange(address.hostname or "", address.port or 0, sent)
        tally.note(kind, repr(sent), status, media, body)


def _exchange(host: str, port: int, sent: bytes) -> tuple[int, str, bytes]:
    with socket.create_connection((host, port), timeout=20) as connection:
        try:
            connection.sendall(sent)
            connection.settimeout(_WAIT_S)
            answer = HTTPResponse(connection)
            answer.begin()
            connection.settimeout(20)
            return answer.status, answer.headers.get("content-type", ""), answer.read()
        except (OSError, HTTPException):
            return 0, "", b""


_CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2, "stream": True}
_TEXT = {"model": "tiny", "prompt": "Once", "max_tokens": 2, "stop": ["a"], "temperature": 0.5}
_JOB = {"model": "tiny", "training_file": "file-0", "hyperparameters": {"n_epochs": 1}, "metadata": {"a": "b"}}
_PARTS = (
    b'--x\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nfine-tune\r\n'
    b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\n{"prompt": "a"}\r\n--x--\r\n'
)
_JSON = (("/v1/chat/completions", _CHAT), ("/v1/completions", _TEXT), ("/v1/fine_tuning/jobs", _JOB))
_ODD = (b"\x00", b"\xff", b"\\ud800", b"NaN", b"1e999", b"-", b"[" * 3000, b'"', b"{}", b"\r\n", b"null", b"9" * 5000)
_MEDIA = (b"application/json", b"application/json; charset=utf-16", b"text/plain", b"", b"multipart/form-data", b"\xff")


def _body(draw: random.Random, token: str) -> bytes:
    """A whole request with a body that is spoilt."""
    if draw.random() < 0.4:
        path, body = "/v1/files", _spoil(draw, _PARTS)
        media = draw.choice(
            (b"multipart/form-data; boundary=x",) * 6 + (b"multipart/form-data; charset=cp037", *_MEDIA)
        )
    else:
        path, value = draw.choice(_JSON)
        body, media = _spoil(draw, json.dumps(value).encode()), draw.choice((b"application/json",) * 12 + _MEDIA)
    length = f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode()
    return _head("POST", path, token) + b"Content-Type: " + media + b"\r\n" + length + body


def _http(draw: random.Random, token: str) -> bytes:
    """A request whose own bytes are spoilt."""
    method, path = draw.choice((("GET", "/v1/files?limit=2"), ("GET", "/v1/models/tiny"), ("DELETE", "/v1/files/x")))
    if draw.random() < 0.2:
        return draw.randbytes(draw.randint(1, 200)) + b"\r\n\r\n"
    end = draw.choice(
        (b"", b"Content-Length: -1\r\n", b"Content-Length: 1e3\r\n", b"Expect: 100-continue\r\n", b"A\r\n")
    )
    chunked = b"Transfer-Encoding: chunked\r\n\r\nzz\r\n"
    return _spoil(draw, _head(method, path, token) + end) + draw.choice((b"\r\n", b"\r\n", chunked))


def _head(method: str, path: str, token: str) -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n".encode()


def _spoil(draw: random.Random, good: bytes) -> bytes:
    """Cut, repeat, replace or put in something, up to three times."""
    for _ in range(draw.randint(1, 3)):
        begin, end = sorted(draw.choices(range(len(good) + 1), k=2))
        end = min(end, begin + draw.choice((1, 4, 1000)))
        put = draw.choice((b"", good[begin:end] * 2, draw.choice(_ODD), draw.choice(_ODD), draw.randbytes(2)))
        good = good[:begin] + put + good[end if draw.random() < 0.5 else begin :]
    return good
