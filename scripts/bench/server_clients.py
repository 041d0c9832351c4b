"""Training with and without many clients of the server, and how fast and faultless their answers are."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread

import httpx

_EVENTS_EVERY = 5  # status calls of a client
_POLL_S = 0.002
_SETTLE = 2  # steps after a change of sides that are left out
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Answers:
    """What the clients got: seconds of their calls, of first and all tokens of streams, and what went wrong."""

    status: list[float] = field(default_factory=list)
    events: list[float] = field(default_factory=list)
    first: list[float] = field(default_factory=list)
    tokens: int = 0
    errors: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Window:
    """A side's turn: when it was, and the processor seconds that the server, its generation and the clients took."""

    clients: bool
    start: float
    end: float
    server: float
    generation: float
    own: float


@contextmanager
def step_times(metrics: Path) -> Iterator[list[float]]:
    """The times at which a run wrote a step, as they come: it appends a row after each one."""
    times: list[float] = []
    done = Event()

    def watch() -> None:
        size = 0
        while not done.wait(_POLL_S):
            with suppress(OSError):
                if (now := metrics.stat().st_size) != size:
                    size = now
                    times.append(time.monotonic())

    thread = Thread(target=watch)
    thread.start()
    try:
        yield times
    finally:
        done.set()
        thread.join()


def cpu_seconds(pid: int) -> float:
    """Processor seconds of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def child_of(pid: int) -> int:
    """The process that generates: the server's only child that is not a job."""
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        if b"kamerton.server.generation.worker" in Path(f"/proc/{child}/cmdline").read_bytes():
            return int(child)
    raise SystemExit("nothing generates")


async def take_turns(
    pid: int, count: int, seconds: float, clients: Callable[[], Sequence[asyncio.Task[None]]]
) -> list[Window]:
    """Windows without and with clients, in turn."""
    windows, child = [], child_of(pid)
    for number in range(2 * count):
        before = (time.monotonic(), cpu_seconds(pid), cpu_seconds(child), time.process_time())
        tasks = clients() if number % 2 else ()
        await asyncio.sleep(seconds)
        after = (time.monotonic(), cpu_seconds(pid), cpu_seconds(child), time.process_time())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        used = [end - begin for begin, end in zip(before[1:], after[1:], strict=True)]
        windows.append(Window(bool(number % 2), before[0], after[0], *used))
    return windows


def connections(count: int, url: str, token: str) -> list[httpx.AsyncClient]:
    """One for each client. To make one takes a tenth of a second if it looks for certificates: they do not."""
    headers = {"Authorization": f"Bearer {token}"}
    return [httpx.AsyncClient(base_url=url, headers=headers, timeout=60, verify=False) for _ in range(count)]


async def polls(client: httpx.AsyncClient, job: str, after: float, answers: Answers) -> None:
    """A client that asks for the job's status every second, and for its events now and then.

    `after`, from 0 to 1, is when in a second it asks, and which of its calls are for events: not all at the same time.
    """
    path = f"/v1/fine_tuning/jobs/{job}"
    number = int(after * _EVENTS_EVERY**2)
    await asyncio.sleep(after)
    while True:
        number += 1
        url, times = (path, answers.status) if number % _EVENTS_EVERY else (f"{path}/events", answers.events)
        start = time.perf_counter()
        try:
            answer = await client.get(url)
            times.append(time.perf_counter() - start)
            if answer.status_code != 200:
                answers.errors.append(f"{url}: {answer.status_code} {answer.text[:200]}")
        except httpx.HTTPError as error:
            answers.errors.append(f"{url}: {error!r}")
        await asyncio.sleep(max(0.0, 1 - (time.perf_counter() - start)))


async def streams(client: httpx.AsyncClient, model: str, number: int, answers: Answers) -> None:
    """A client that reads one streamed answer after the other."""
    turns = [{"role": "user", "content": f"Tell me of tuning fork {number}."}]
    body = {"model": model, "messages": turns, "max_tokens": 48, "stream": True}
    while True:
        start, first = time.perf_counter(), True
        try:
            async with client.stream("POST", "/v1/chat/completions", json=body) as stream:
                stream.raise_for_status()
                async for line in stream.aiter_lines():
                    if not line.startswith("data: {"):
                        continue
                    event = json.loads(line.removeprefix("data: "))
                    if "error" in event:
                        answers.errors.append(f"stream: {event['error']}")
                    elif event["choices"][0]["delta"].get("content"):
                        answers.tokens += 1
                        if first:
                            answers.first.append(time.perf_counter() - start)
                        first = False
        except httpx.HTTPError as error:
            answers.errors.append(f"stream: {error!r}")
            await asyncio.sleep(1)


def steps_of(window: Window, times: Sequence[float]) -> list[float]:
    """Seconds of the steps that lie within a window, less its first ones."""
    inside = [at for at in times if window.start <= at <= window.end][_SETTLE:]
    return [end - begin for begin, end in itertools.pairwise(inside)]


def report(windows: Sequence[Window], times: Sequence[float], answers: Answers) -> str:
    """Markdown: the steps of each side, their ratio pair by pair, and the clients' answers."""
    if few := [window for window in windows if len(steps_of(window, times)) < 5]:
        return f"{len(few)} of {len(windows)} turns have fewer than 5 steps: give more --seconds, or a smaller --batch"
    lines = ["| side | steps | median step, ms | mean step, ms | server, % of a core | generation | clients |"]
    lines.append("| --- |" + " --- |" * 6)
    means: dict[bool, list[float]] = {False: [], True: []}
    medians: dict[bool, list[float]] = {False: [], True: []}
    for side, name in ((False, "training alone"), (True, "with clients")):
        own = [window for window in windows if window.clients is side]
        steps = [steps_of(window, times) for window in own]
        medians[side] = [1000 * statistics.median(seconds_of_steps) for seconds_of_steps in steps]
        means[side] = [1000 * statistics.fmean(seconds_of_steps) for seconds_of_steps in steps]
        seconds = sum(window.end - window.start for window in own)
        used = [100 * sum(getattr(window, key) for window in own) / seconds for key in ("server", "generation", "own")]
        shares = " | ".join(f"{share:.0f}" for share in used)
        count = sum(map(len, steps))
        lines.append(f"| {name} | {count} | {spread(medians[side])} | {spread(means[side])} | {shares} |")
    for what, milliseconds in (("median", medians), ("mean", means)):
        ratios = [busy / alone for alone, busy in zip(milliseconds[False], milliseconds[True], strict=True)]
        lines.append(f"\n{what} step with clients / alone, pair by pair: {spread(ratios, 3)}")
    for name, calls in (("status", answers.status), ("events", answers.events), ("first token", answers.first)):
        if len(calls) > 1:
            low, high = statistics.median(calls), statistics.quantiles(calls, n=20)[-1]
            lines.append(f"\n{name}: {len(calls):,} calls, p50 {1000 * low:.1f} ms, p95 {1000 * high:.1f} ms")
    lines.append(f"\nerrors: {len(answers.errors)}; streamed pieces: {answers.tokens:,}")
    return "\n".join([*lines, *answers.errors[:5]])


def spread(values: Sequence[float], digits: int = 0) -> str:
    """The median [least, most]."""
    return f"{statistics.median(values):.{digits}f} [{min(values):.{digits}f}, {max(values):.{digits}f}]"
