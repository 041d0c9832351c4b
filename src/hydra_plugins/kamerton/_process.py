"""Starting a job's process, passing on its output and this process's signals, and waiting for its end."""

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

LINES = 20  # of a failed job's output that its error repeats
PATIENCE = 2  # signals that are passed on as they are; the next one kills
_running: set[int] = set()
_signals: Counter[int] = Counter()  # passed on so far, by process
_came: list[int] = []  # signals to pass on, since `signals_passed_on` was entered
_entered: list[bool] = []  # holds one entry within it


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
    """Run `command` to its end; what it prints is added to the file `log`, and printed here too with `echo`.

    It is told where to write its `result`, and it stops when this process dies. The files `pass_fds` stay open in it.
    Raises `KeyboardInterrupt` when a signal that was passed on has ended it, in whatever thread.
    """
    if _came:
        raise KeyboardInterrupt
    alive, held = os.pipe()
    try:
        told = json.dumps({"result": str(result), "alive": alive})
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **environment, ENVIRONMENT: told},
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
    reader.join(timeout=2)  # a service that the job has left behind may hold the pipe open
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
    """The exit code. What interrupts the waiting is raised when the process has ended as well."""
    stopped: BaseException | None = None
    while True:
        try:
            code = process.wait()
            break
        except BaseException as error:
            stopped = error
            if not _signals[process.pid]:  # not from a signal, or from one that was not passed on
                _pass_on(process.pid, signal.SIGTERM)
    if stopped is not None:
        raise stopped
    return code


@contextmanager
def signals_passed_on() -> Iterator[None]:
    """Within, SIGINT and SIGTERM go to every running job before this process heeds them.

    Does nothing outside the main thread, which alone heeds signals, or within itself. Where other threads launch jobs,
    the main thread should be within it.
    """
    if _entered or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def pass_on(number: int, frame: FrameType | None) -> None:
        _came.append(number)
        for pid in tuple(_running):
            _pass_on(pid, number)
        handler: Any = before[signal.Signals(number)]
        handler(number, frame)

    heeded = {number: handler for number, handler in before.items() if callable(handler)}
    for number in heeded:  # one that is not heeded ends this process, and with it the jobs
        signal.signal(number, pass_on)
    _entered.append(True)
    try:
        yield
    finally:
        _entered.clear()
        _came.clear()
        for number, handler in heeded.items():
            signal.signal(number, handler)


def _pass_on(pid: int, number: int) -> None:
    _signals[pid] += 1
    with suppress(ProcessLookupError):
        os.killpg(pid, number if _signals[pid] <= PATIENCE else signal.SIGKILL)
