"""Rewards of answers: functions by name with their weights, their errors and their time limit."""

from __future__ import annotations

import copy
import math
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from functools import partial
from typing import Any

from kamerton.errors import Fault, RunFailed

RewardFunction = Callable[..., Any]  # of prompt, completion, reference, metadata

_SHOWN = 200  # characters of an answer, a value or an error in a message
_LONGEST = 1e9  # seconds; the system refuses far longer limits
_LARGEST = 3.4e38  # of float32; squares of larger numbers overflow in the deviation of a group


@dataclass(frozen=True, slots=True)
class Reward:
    """A function of (prompt, completion, reference, metadata); `timeout` is its limit for one answer, in seconds.

    With `takes_calls` its argument `tool_calls` gets the calls of the answer. The call is ended at its limit in the
    main thread of a system with SIGALRM; elsewhere it goes on in a thread of its own, and nothing waits for it.
    `fingerprint` is a hash of the function's name and arguments: values of rewards that differ in it are not compared.
    """

    name: str
    function: RewardFunction
    weight: float = 1.0
    timeout: float = 60.0
    takes_calls: bool = False
    fingerprint: str = ""


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer to grade, and the example that it answers; without a reference that is None.

    `tool_calls` are the calls of functions in the answer as `message.tool_calls` of OpenAI's API; None if unknown.
    """

    example_id: str
    prompt: str
    completion: str
    reference: str | None
    metadata: Mapping[str, Any]
    tool_calls: Sequence[Mapping[str, Any]] | None = None


def grade(rewards: Sequence[Reward], answer: Answered) -> list[float]:
    """Return the value of each reward, without its weight.

    Raises `RunFailed` with the example if a reward fails, does not return a finite number, or takes too long.
    """
    return [_grade(reward, answer) for reward in rewards]


def total(rewards: Sequence[Reward], values: Sequence[float]) -> float:
    """Return the weighted sum of the values of `grade`."""
    return math.fsum(reward.weight * value for reward, value in zip(rewards, values, strict=True))


def _grade(reward: Reward, answer: Answered) -> float:
    # Copies, because the function may change them: other rewards and other answers to the example get the same.
    metadata = copy.deepcopy(dict(answer.metadata))
    calls = {"tool_calls": copy.deepcopy(answer.tool_calls)} if reward.takes_calls else {}
    try:
        call = partial(reward.function, answer.prompt, answer.completion, answer.reference, metadata, **calls)
        value = _in_time(call, min(reward.timeout, _LONGEST))
    except _TimedOut:
        message = _about(reward, answer, f"took longer than {reward.timeout:g} s")
        fix = "make the function faster, or raise its limit (key timeout, in seconds)"
        raise RunFailed(Fault("reward.timeout", message, fix, column="reward")) from None
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # custom code may raise anything
        raise _failed(reward, answer, f"failed: {type(error).__name__}: {_shown(error, str)}") from error
    try:
        number = math.nan if isinstance(value, str | bytes | bytearray) else float(value)
    except Exception:
        number = math.nan
    if not abs(number) * max(1.0, abs(reward.weight)) <= _LARGEST:
        times = "" if reward.weight == 1 else f", times its weight {reward.weight:g}"
        raise _failed(reward, answer, f"returned {_shown(value, repr)}{times}, not a finite number of float32")
    return number


def _shown(value: object, text_of: Callable[[object], str]) -> str:
    """Return the beginning of a text of a value of custom code, or its type if that has none."""
    try:
        return _cut(text_of(value))
    except Exception:
        return type(value).__name__


def _cut(text: str) -> str:
    return text[:_SHOWN] + ("…" if len(text) > _SHOWN else "")


def _failed(reward: Reward, answer: Answered, what: str) -> RunFailed:
    message = _about(reward, answer, what)
    fix = "correct the function or the row, and go on from the last checkpoint: repeat the command with resume=auto"
    return RunFailed(Fault("reward.failed", message, fix, column="reward"))


def _about(reward: Reward, answer: Answered, what: str) -> str:
    return f"reward {reward.name} {what} (example {answer.example_id}, answer {_cut(answer.completion)!r})"


class _TimedOut(BaseException):
    """Not an `Exception`, so that a reward that catches those is ended as well; one that catches all ends late."""


def _in_time(call: Callable[[], Any], seconds: float) -> Any:
    """Return the value of a call. Raises `_TimedOut` after the limit, also if the call catches that."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGALRM"):
        return _in_thread(call, seconds)
    expired: list[bool] = []

    def end(*_: Any) -> None:
        expired.append(True)
        raise _TimedOut

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        value = call()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    if expired:
        raise _TimedOut
    return value


def _in_thread(call: Callable[[], Any], seconds: float) -> Any:
    """The same by a thread that is left behind after the limit: signals reach the main thread alone."""
    result: Future[Any] = Future()

    def run() -> None:
        try:
            result.set_result(call())
        except BaseException as error:
            result.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    done, _ = wait([result], min(seconds, threading.TIMEOUT_MAX))
    if not done:
        raise _TimedOut
    return result.result()
