"""What one tenant's attacks cost another one: the time of its `/health`, and whether its chats are answered."""

from __future__ import annotations

import http.client
import json
import multiprocessing
import resource
import socket
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Thread
from typing import Any

HOST = "127.0.0.1"
OPEN_FILES = 1024  # of the server: the usual limit of systemd and shells
_EVERY_S = 0.05  # between two looks at /health
_TIMEOUT_S = 30.0
_LIMIT_S = 0.1  # of the 95 % quantile of /health
_MIB = 2**20
_GOOD = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}]}


@dataclass
class Felt:
    """What the other tenant felt: seconds of `/health` and of whole chats, and what was not answered."""

    health: list[float] = field(default_factory=list)
    chats: list[float] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    @property
    def is_well(self) -> bool:
        """Whether the tenant is served."""
        return quantile(self.health) < _LIMIT_S and bool(self.chats)

    def row(self, name: str, answers: dict[int, int]) -> str:
        """A line of the table."""
        low, high = (1000 * value for value in (statistics.median(self.health), quantile(self.health)))
        statuses = ", ".join(f"{count:,} × {status or 'none'}" for status, count in sorted(answers.items()))
        chats = f"{len(self.chats)} of {len(self.chats) + len(self.failed)}"
        slowest = f"{max(self.chats):.2f}" if self.chats else ""
        cells = (name, f"{len(self.health):,}", f"{low:.1f}", f"{high:.1f}", f"{1000 * max(self.health):.0f}")
        return f"| {' | '.join((*cells, chats, slowest, statuses))} |"


HEADER = """| attack | `/health` | p50, ms | p95, ms | worst | chats answered | slowest, s | answers to the attacker |
| --- | --- | --- | --- | --- | --- | --- | --- |"""


def quantile(values: list[float]) -> float:
    """The 95 % quantile."""
    return statistics.quantiles(values, n=20)[-1] if len(values) > 1 else values[0]


def ask(port: int, method: str, path: str, token: str, body: bytes | Iterator[bytes] | None, kind: str = "") -> int:
    """The status of a request on a connection of its own; 0 where there is no answer."""
    headers = {"Authorization": f"Bearer {token}", "Content-Type": kind or "application/json"}
    connection = http.client.HTTPConnection(HOST, port, timeout=_TIMEOUT_S)
    try:
        connection.request(method, path, body, headers, encode_chunked=isinstance(body, Iterator))
        response = connection.getresponse()
        response.read()
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()
    return response.status


def hold_open(port: int, sent: bytes, count: int, end: float, answers: Counter[int]) -> None:
    """So many connections that send no more than this; one that is closed is opened again."""
    sockets: list[socket.socket] = []
    while time.monotonic() < end:
        still_open = []
        for connection in sockets:
            with suppress(BlockingIOError, OSError):
                if connection.recv(2**16) == b"":
                    connection.close()
                    answers[0] += 1
                    continue
            still_open.append(connection)
        sockets = still_open
        while len(sockets) < count and time.monotonic() < end:
            try:
                connection = socket.create_connection((HOST, port), timeout=2)
            except OSError:
                break
            connection.sendall(sent)
            connection.setblocking(False)
            sockets.append(connection)
        time.sleep(0.02)
    for connection in sockets:
        connection.close()


def repeat(port: int, path: str, token: str, bodies: list[bytes], end: float, answers: Counter[int]) -> None:
    """One request after the other."""
    number = 0
    while time.monotonic() < end:
        answers[ask(port, "POST", path, token, bodies[number % len(bodies)])] += 1
        number += 1


def upload_chunks(port: int, token: str, end: float, answers: Counter[int]) -> None:
    """One upload of unannounced size after the other."""
    head = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    while time.monotonic() < end:
        body = iter([head, *[b"x" * _MIB] * 60, b"\r\n--x--\r\n"])
        answers[ask(port, "POST", "/v1/files", token, body, "multipart/form-data; boundary=x")] += 1


def hostile() -> list[bytes]:
    """Bodies whose validation costs much."""
    start = json.dumps(_GOOD).encode()[:-1]
    keys = b",".join(b'"k%d":1' % number for number in range(80_000))
    turn = json.dumps({f"k{number}": 1 for number in range(60)})
    return [
        start + b',"modalities":[' + b",".join([b"1"] * 500_000) + b"]}",
        b"{" + keys + b"}",
        start + b',"modalities":[' + b",".join([b"1"] * 512) + b"]}",
        f'{{"model":"tiny","messages":[{",".join([turn] * 80)}]}}'.encode(),
        start + b',"stop":[' + b",".join([b'"x"'] * 250_000) + b"]}",
    ]


def attack(name: str, port: int, token: str, file: str, seconds: float, pipe: Any) -> None:
    """Run an attack for so long, in its own process, and send the answers to it."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(8000, hard), hard))
    answers, end = Counter[int](), time.monotonic() + seconds
    chat, jobs = "/v1/chat/completions", "/v1/fine_tuning/jobs"
    post = f"POST {chat} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n"
    stream = json.dumps({**_GOOD, "stream": True, "temperature": 1}).encode()
    job = {"model": "tiny", "training_file": file, "hyperparameters": {"n_epochs": 1000, "batch_size": 1}}
    long = json.dumps({**_GOOD, "messages": [{"role": "user", "content": "a word " * 140_000}]}).encode()
    each: dict[str, tuple[int, Callable[[], None]]] = {
        "idle connections": (1, lambda: hold_open(port, b"", 1100, end, answers)),
        "half headers": (1, lambda: hold_open(port, b"GET /v1/models HTTP/1.1\r\nHost: x\r\nX: ", 1100, end, answers)),
        "hostile bodies": (4, lambda: repeat(port, chat, token, hostile(), end, answers)),
        "new jobs": (60, lambda: repeat(port, jobs, token, [json.dumps(job).encode()], end, answers)),
        "chats": (
            1,
            lambda: hold_open(port, f"{post}Content-Length: {len(stream)}\r\n\r\n".encode() + stream, 70, end, answers),
        ),
        "chunked uploads": (4, lambda: upload_chunks(port, token, end, answers)),
        "long prompts": (4, lambda: repeat(port, chat, token, [long], end, answers)),
    }
    count, work = each.get(name, (0, lambda: None))
    threads = [Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    pipe.send(dict(answers))


ATTACKS = ("idle connections", "half headers", "hostile bodies", "chats", "chunked uploads", "long prompts", "new jobs")


def feel(port: int, token: str, seconds: float) -> Felt:
    """Ask for `/health` all the time, and for one short chat after the other."""
    felt, end = Felt(), time.monotonic() + seconds
    body = json.dumps({**_GOOD, "max_tokens": 5}).encode()

    def chat() -> None:
        while time.monotonic() < end:
            start = time.monotonic()
            status = ask(port, "POST", "/v1/chat/completions", token, body)
            if status == 200:
                felt.chats.append(time.monotonic() - start)
            else:
                felt.failed.append(f"chat: {status}")
            time.sleep(4 * _EVERY_S)

    thread = Thread(target=chat)
    thread.start()
    while time.monotonic() < end:
        start = time.monotonic()
        status = ask(port, "GET", "/health", token, None)
        felt.health.append(time.monotonic() - start if status == 200 else _TIMEOUT_S)
        time.sleep(_EVERY_S)
    thread.join()
    return felt


def under_attack(
    name: str, port: int, attacker: tuple[str, str], token: str, seconds: float
) -> tuple[Felt, dict[int, int]]:
    """What `token`'s tenant feels while the attacker (token, file id) is at work, and how often it got which status."""
    context = multiprocessing.get_context("spawn")
    mine, other = context.Pipe(duplex=False)
    process = context.Process(target=attack, args=(name, port, *attacker, seconds + 2, other))
    process.start()
    time.sleep(2)  # it begins
    felt = feel(port, token, seconds)
    answers = mine.recv()
    process.join()
    return felt, answers
