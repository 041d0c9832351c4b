"""Built-in rewards, and what happens when a reward fails."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from kamerton.errors import RunFailed, UserError
from kamerton.objective import rewards
from kamerton.objective.graders import read_grader
from kamerton.objective.grading import Answered, Reward, grade, total


@pytest.mark.parametrize(
    ("function", "options", "completion", "reference", "expected"),
    [
        (rewards.exact_match, {}, " Paris\n", "Paris", 1.0),
        (rewards.exact_match, {}, "paris", "Paris", 0.0),
        (rewards.exact_match, {"ignore_case": True}, "paris", "Paris", 1.0),
        (rewards.label, {"labels": ["spam", "not spam"]}, "This is not spam.", "not spam", 1.0),
        (rewards.label, {"labels": ["spam", "not spam"]}, "This is not spam.", "spam", 0.0),
        (rewards.label, {"labels": ["yes", "no"]}, "Yes and no", "yes", 0.0),
        (rewards.label, {"labels": ["yes", "no"]}, "I do not know", "no", 0.0),
        (rewards.regex, {"pattern": r"\d+"}, "abc 12", None, 1.0),
        (rewards.regex, {"pattern": r"\d+", "full": True}, "abc 12", None, 0.0),
        (rewards.regex, {"pattern": r"#### (?P<answer>\S+)"}, "so\n#### 12", "12", 1.0),
        (rewards.regex, {"pattern": r"#### (?P<answer>\S+)"}, "so\n#### 13", "12", 0.0),
        (rewards.json_schema, {"schema": {"type": "object", "required": ["a"]}}, '{"a": 1}', None, 1.0),
        (rewards.json_schema, {"schema": '{"type": "object", "required": ["a"]}'}, '{"b": 1}', None, 0.0),
        (rewards.json_schema, {"schema": {}}, "{", None, 0.0),
        (rewards.json_schema, {"schema": {}}, "[" * 100_000, None, 0.0),
        (rewards.json_schema, {"schema": {}}, '{"a": NaN}', None, 0.0),
        (rewards.json_schema, {"schema": {}}, r'"\ud800"', None, 0.0),
        (rewards.number, {}, "It is 3, or rather 1,234.5.", "#### 1234.5", 1.0),
        (rewards.number, {}, "no idea", "7", 0.0),
        (rewards.number, {}, "10-3=7", "7", 1.0),
        (rewards.number, {}, "-7", "7", 0.0),
        (rewards.number, {"tolerance": 0.1}, "7.05", "7", 1.0),
        (rewards.number, {"tolerance": 0.1, "relative": True}, "76", "70", 1.0),
        (rewards.length, {"most": 2}, "one two", None, 1.0),
        (rewards.length, {"most": 2}, "one two three", None, 0.5),
        (rewards.length, {"most": 2}, "a b c d e", None, 0.0),
        (rewards.length, {"most": 9, "least": 4}, "one", None, 0.25),
        (rewards.length, {"most": 4, "unit": "characters"}, "abcdef", None, 0.5),
    ],
)
def test_built_in_rewards(
    function: Callable[..., float], options: dict[str, Any], completion: str, reference: str | None, expected: float
) -> None:
    assert function("", completion, reference, {}, **options) == expected


@pytest.mark.parametrize(
    ("function", "options", "words"),
    [
        (rewards.length, {"most": -3}, "most is -3"),
        (rewards.length, {"most": 5, "least": 10}, "least is 10"),
        (rewards.json_schema, {"schema": {"type": "nothing"}}, "^schema is no JSON schema: .*nothing.*$"),
        (rewards.json_schema, {"schema": '{"type":'}, "^schema is no JSON schema: .*$"),
        (rewards.label, {"labels": []}, "labels is"),
        (rewards.label, {"labels": [True, False]}, "labels is"),
        (rewards.label, {"labels": ["yes", " "]}, "labels is"),
    ],
)
def test_options_that_no_answer_meets_are_errors(
    function: Callable[..., float], options: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        function("", "not JSON", None, {}, **options)


@pytest.mark.parametrize("scheme", ["http", "file"])
def test_a_schema_reads_nothing_that_it_refers_to(scheme: str, tmp_path: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.setblocking(False)
        (tmp_path / "schema.json").write_text("{}")
        places = {
            "http": f"http://127.0.0.1:{listener.getsockname()[1]}/x.json",
            "file": f"file://{tmp_path}/schema.json",
        }
        with pytest.raises(ValueError, match=r"no JSON schema: .*(schema|x)\.json"):
            rewards.json_schema("", "1", None, {}, schema={"$ref": places[scheme]})
        with pytest.raises(BlockingIOError):
            listener.accept()


def test_a_grader_in_a_file_is_a_reward_whose_text_is_not_interpolated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "somewhere")
    file = tmp_path / "grader.json"
    check = {"type": "string_check", "name": "check", "operation": "eq", "input": "{{sample.output_text}}"}
    file.write_text(json.dumps({**check, "reference": "${oc.env:HOME} {{item.topic}}"}))
    assert rewards.grader("", "${oc.env:HOME} sums", None, {"topic": "sums"}, file=str(file)) == 1
    assert rewards.grader("", "somewhere sums", None, {"topic": "sums"}, file=str(file)) == 0
    file.write_text(json.dumps({**check, "reference": "{{item.completion}}"}))
    os.utime(file, (0, 0))  # another version of the file
    assert rewards.grader("", "4", "4", {}, file=str(file)) == 1


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "cannot read the grader"), ("{", "is not JSON"), ('{"type": "python"}', "it runs code of the request")],
)
def test_a_file_without_a_grader_is_a_fault(content: str | None, words: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "grader.json").write_text(content)
    with pytest.raises(UserError) as error:
        read_grader(tmp_path / "grader.json")
    assert words in error.value.faults[0].message
    assert error.value.faults[0].file == str(tmp_path / "grader.json")


def answered(completion: str = "four", reference: str | None = "4") -> Answered:
    return Answered("e1", "2 + 2?", completion, reference, {"level": 1})


def test_rewards_get_the_example_and_are_weighted() -> None:
    def seen(prompt: str, completion: str, reference: str | None, metadata: dict[str, Any]) -> float:
        assert (prompt, completion, reference, metadata) == ("2 + 2?", "four", "4", {"level": 1})
        return 0.5

    graded = [Reward("seen", seen, weight=2.0), Reward("exact_match", rewards.exact_match, weight=0.25)]
    values = grade(graded, answered())
    assert values == [0.5, 0.0]
    assert total(graded, values) == 1.0


def test_a_reward_that_changes_the_metadata_changes_no_other_grade() -> None:
    def counted(prompt: str, completion: str, reference: str | None, metadata: dict[str, Any]) -> float:
        metadata["level"] += 1
        metadata["tags"].append("seen")
        return float(metadata["level"] + len(metadata["tags"]))

    example = Answered("e1", "2 + 2?", "four", "4", {"level": 1, "tags": []})
    graded = [Reward("first", counted), Reward("second", counted)]
    assert grade(graded, example) == grade(graded, example) == [3.0, 3.0]


class Odd(BaseException):
    """As the exceptions of some frameworks are."""


class Mute(Exception):  # noqa: N818
    def __str__(self) -> str:
        raise RuntimeError("no text")


def fails_with(error: BaseException) -> Callable[..., float]:
    def fail(*_: Any) -> float:
        raise error

    return fail


def careless(*_: Any) -> float:
    try:
        while True:
            sum(range(100))
    except BaseException:
        return 0.5


def endless(*_: Any) -> float:
    while True:
        try:
            sum(range(100))
        except Exception:  # as careless code does
            return 0.0


@pytest.mark.parametrize(
    ("reward", "code", "words"),
    [
        (Reward("bad", lambda *_: 1 / 0), "reward.failed", ["bad", "ZeroDivisionError", "e1", "four"]),
        (Reward("bad", lambda *_: float("nan")), "reward.failed", ["nan"]),
        (Reward("bad", lambda *_: "much"), "reward.failed", ["much"]),
        (Reward("bad", lambda *_: "0.5"), "reward.failed", ["'0.5'"]),
        (Reward("bad", lambda *_: -1e308), "reward.failed", ["-1e+308"]),
        (Reward("bad", lambda *_: sys.exit(0)), "reward.failed", ["SystemExit"]),
        (Reward("bad", lambda *_: None), "reward.failed", ["bad", "None"]),
        (Reward("bad", lambda *_: [0.5, 1]), "reward.failed", ["[0.5, 1]"]),
        (Reward("bad", lambda *_: b"0.5"), "reward.failed", ["b'0.5'"]),
        (Reward("bad", lambda *_: 1e30, weight=1e20), "reward.failed", ["1e+30", "weight 1e+20"]),
        (Reward("bad", lambda *_: 10**400), "reward.failed", ["1000"]),
        (Reward("bad", fails_with(Odd("odd"))), "reward.failed", ["Odd: odd"]),
        (Reward("bad", fails_with(asyncio.CancelledError())), "reward.failed", ["CancelledError"]),
        (Reward("bad", fails_with(Mute())), "reward.failed", ["Mute"]),
        (Reward("slow", careless, timeout=0.01), "reward.timeout", ["slow", "0.01 s"]),
        (Reward("slow", endless, timeout=0.01), "reward.timeout", ["slow", "0.01 s", "e1"]),
    ],
)
def test_a_reward_that_fails_names_the_example(reward: Reward, code: str, words: list[str]) -> None:
    with pytest.raises(RunFailed) as failed:
        grade([reward], answered())
    assert failed.value.fault.code == code
    assert all(word in failed.value.fault.message for word in words)


def test_a_reward_has_its_limit_in_other_threads_too() -> None:
    released = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        stuck = Reward("stuck", lambda *_: released.wait(), timeout=0.01)
        graded = [pool.submit(grade, [reward], answered()) for reward in (stuck, Reward("quick", lambda *_: 2.0))]
        with pytest.raises(RunFailed, match="stuck took longer"):
            graded[0].result()
        released.set()
        assert graded[1].result() == [2.0]
        failed = pool.submit(grade, [Reward("bad", fails_with(Odd("odd")))], answered())
        with pytest.raises(RunFailed, match="Odd: odd"):
            failed.result()


def test_the_user_may_interrupt_a_reward() -> None:
    with pytest.raises(KeyboardInterrupt):
        grade([Reward("bad", fails_with(KeyboardInterrupt()))], answered())


def test_a_long_limit_is_a_limit() -> None:
    assert grade([Reward("quick", lambda *_: 1.0, timeout=1e300)], answered()) == [1.0]


def test_a_reward_that_needs_a_reference_names_the_row_without_one() -> None:
    with pytest.raises(RunFailed, match="no completion to compare") as failed:
        grade([Reward("exact_match", rewards.exact_match)], answered(reference=None))
    assert "e1" in failed.value.fault.message
