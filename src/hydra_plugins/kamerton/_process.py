"""Start a job's process, forward its output and this process's signals, and wait for its end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO, Any

from hydra_plugins.kamerton._child import ENVIRONMENT

LINES = 20  # of a failed job's output that its error quotes
PATIENCE = 2  # signals that are forwarded as they are; the next one kills
_running: set[int] = set()
_signals: Counter[int] = Counter()  # forwarded so far, by process
_received: list[int] = []  # signals since `signals_forwarded` was entered
_entered: list[bool] = []  # not empty inside `signals_forwarded`


@dataclass(frozen=True, slots=True)
class Ended:
    """A process that has ended: its exit code (negative for a signal) and the last lines that it printed."""

    code: int
    lines: tuple[str, ...]


def run(
    command: Sequence[str],
    environment: Mapping[str, str],
    *,
    result: Path,
    log: Path,
    echo: bool,
    pass_fds: Sequence[int] = (),
) -> Ended:
    """Run `command` to its end; its output is appended to the file `log`, and printed here as well with `echo`.

    It writes its `result` to that file, and it stops when this process dies. The files `pass_fds` stay open in it.
    Raises `KeyboardInterrupt`, in any thread, if a forwarded signal ended it.
    """
    if _received:
        raise KeyboardInterrupt
    alive, held = os.pipe()
    try:
        options = json.dumps({"result": str(result), "alive": alive})
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **environment, ENVIRONMENT: options},
            pass_fds=(alive, *pass_fds),
            process_group=0,  # a Ctrl-C comes once, from here
        )
        return _follow(process, log, echo)
    finally:
        os.close(alive)
        os.close(held)


def _follow(process: subprocess.Popen[bytes], log: Path, echo: bool) -> Ended:
    lines: deque[str] = deque(maxlen=LINES)
    assert process.stdout is not None
    reader = threading.Thread(target=_pump, args=(process.stdout, log, echo, lines), daemon=True)
    _running.add(process.pid)
    try:
        reader.start()
        code = _wait(process)
    finally:
        _running.discard(process.pid)
        signals = _signals.pop(process.pid, 0)
    reader.join(timeout=2)  # a process that the job left behind may hold the pipe open
    if code != 0 and signals:
        raise KeyboardInterrupt
    return Ended(code, tuple(lines))


def _pump(output: IO[bytes], log: Path, echo: bool, lines: deque[str]) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as file, output:
        for line in output:
            file.write(line)
            file.flush()
            text = line.decode(errors="replace")
            lines.append(text.rstrip())
            if echo:
                sys.stdout.write(text)
                sys.stdout.flush()


def _wait(process: subprocess.Popen[bytes]) -> int:
    """Return the exit code. An exception that interrupts the wait is raised after the process has ended."""
    interruption: BaseException | None = None
    while True:
        try:
            code = process.wait()
            break
        except BaseException as error:
            interruption = error
            if not _signals[process.pid]:  # not from a signal, or from one that was not forwarded
                _forward(process.pid, signal.SIGTERM)
    if interruption is not None:
        raise interruption
    return code


@contextmanager
def signals_forwarded() -> Iterator[None]:
    """Inside, SIGINT and SIGTERM go to every running job before this process handles them.

    Does nothing outside the main thread, which alone handles signals, or if it is nested. If other threads launch jobs,
    the main thread should be inside it.
    """
    if _entered or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def forward(number: int, frame: FrameType | None) -> None:
        _received.append(number)
        for pid in tuple(_running):
            _forward(pid, number)
        handler: Any = before[signal.Signals(number)]
        handler(number, frame)

    handled = {number: handler for number, handler in before.items() if callable(handler)}
    for number in handled:  # any other ends this process, and with it the jobs
        signal.signal(number, forward)
    _entered.append(True)
    try:
        yield
    finally:
        _entered.clear()
        _received.clear()
        for number, handler in handled.items():
            signal.signal(number, handler)


def _forward(pid: int, number: int) -> None:
    _signals[pid] += 1
    with suppress(ProcessLookupError):
        os.killpg(pid, number if _signals[pid] <= PATIENCE else signal.SIGKILL)


@contextmanager
def stoppable() -> Iterator[None]:
    """Inside, SIGTERM stops a sweep as Ctrl-C does: the running trial is recorded as interrupted."""
    is_ours = (
        threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    )

    def stop(number: int, _: Any) -> None:
        raise SystemExit(128 + number)

    if is_ours:
        signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        if is_ours:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
