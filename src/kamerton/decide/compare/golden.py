"""Golden prompts: a file of prompts with what the answer must be, each a regression test of its own.

JSONL, one prompt a line: `{"prompt": ..., EXPECTATION: ...}` with one or more of `exact` (the whole answer, but for the
space around it), `contains` (a text, or a list of texts), `regex` (found somewhere), `label` (the predicted label),
`one_of` (a list of whole answers), `max_length` (characters). Answers are those of the score tables, by prompt. Rows
may have a `completion` and `metadata` as well, so that the same file can be scored.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from kamerton.decide.compare.comparison import GoldenCheck
from kamerton.decide.compare.sides import Group
from kamerton.errors import Fault, UserError
from kamerton.words import did_you_mean


@dataclass(frozen=True, slots=True)
class Golden:
    """One prompt and its expectations; `source` is file:line."""

    prompt: str
    expectations: tuple[tuple[str, Any], ...]
    source: str


@dataclass(frozen=True, slots=True)
class _Kind:
    """An expectation: the type of its value in words and by a check, and whether an answer meets it."""

    type: str
    is_valid: Callable[[Any], bool]
    meets: Callable[[str, Any], bool]


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, str) for item in value)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_regex(value: Any) -> bool:
    try:
        return isinstance(value, str) and bool(re.compile(value) or True)
    except re.error:
        return False


def _has_all(answer: str, wanted: Any) -> bool:
    return all(text in answer for text in ([wanted] if isinstance(wanted, str) else wanted))


OTHERS = ("prompt", "completion", "metadata")
KINDS = {
    "exact": _Kind("a text", _is_text, lambda answer, wanted: answer.strip() == wanted.strip()),
    "contains": _Kind("a text or a list of texts", lambda value: _is_text(value) or _is_texts(value), _has_all),
    "regex": _Kind("a regular expression", _is_regex, lambda answer, wanted: bool(re.search(wanted, answer))),
    "label": _Kind("a label", _is_text, lambda answer, wanted: answer == wanted),
    "one_of": _Kind("a list of texts", _is_texts, lambda answer, wanted: answer.strip() in [t.strip() for t in wanted]),
    "max_length": _Kind(
        "a number of characters",
        lambda value: isinstance(value, int) and not isinstance(value, bool) and value >= 0,
        lambda answer, wanted: len(answer) <= wanted,
    ),
}


def read_golden(path: str) -> list[Golden]:
    """The golden prompts of a file; raises `UserError` with every fault of every line."""
    try:
        lines = Path(path).read_text("utf-8").split("\n")  # a text may hold other ends of lines, such as U+2028
    except (OSError, UnicodeDecodeError) as error:
        fault = Fault(
            "golden.unreadable", f"cannot read {path}: {error}", "give a JSONL file in UTF-8", column="golden"
        )
        raise UserError([fault]) from None
    found, faults = [], []
    for number, line in enumerate(lines, 1):
        if line.strip():
            one, wrong = _parse(line, path, number)
            faults += wrong
            found += [one] if one and not wrong else []
    if not found and not faults:
        faults.append(Fault("golden.empty", "the file has no prompts", "write one a line", path))
    if faults:
        raise UserError(faults)
    return found


def _parse(line: str, path: str, number: int) -> tuple[Golden | None, list[Fault]]:
    def fault(message: str, fix: str, column: str | None = None) -> Fault:
        return Fault("golden.line", message, fix, path, number, column)

    try:
        row = json.loads(line)
    except ValueError as error:
        return None, [fault(f"not JSON: {error}", "write one JSON object per line")]
    if not isinstance(row, dict) or not isinstance(row.get("prompt"), str):
        return None, [fault("there is no prompt", 'write {"prompt": "…", "exact": "…"}')]
    wanted = {key: value for key, value in row.items() if key not in OTHERS}
    faults = [
        fault(f"unknown expectation {key!r}", did_you_mean(key, KINDS), key) for key in wanted if key not in KINDS
    ]
    for key, value in wanted.items():
        if key in KINDS and not KINDS[key].is_valid(value):
            faults.append(fault(f"{key} is {value!r}", f"give {KINDS[key].type}", key))
    if not wanted:
        faults.append(fault("the prompt has no expectation", f"add one of: {', '.join(KINDS)}"))
    return Golden(row["prompt"], tuple(wanted.items()), f"{path}:{number}"), faults


def check_golden(golden: Sequence[Golden], side: Group) -> Iterator[GoldenCheck]:
    """Every expectation against the answers of every run of a side; of one prompt, the first run that fails is shown.

    Raises `UserError` for prompts that a score table does not hold.
    """
    answers = [_answers(run.table) for run in side.runs]
    faults = [
        Fault("golden.no-answer", f"{run.path} has no answer to {one.prompt[:60]!r}", _SCORE_IT, one.source)
        for one in golden
        for run, said in zip(side.runs, answers, strict=True)
        if one.prompt not in said
    ]
    if faults:
        raise UserError(faults)
    for one in golden:
        for kind, wanted in one.expectations:
            yield _check(side, one, kind, wanted, [said[one.prompt] for said in answers])


_SCORE_IT = "score the golden prompts as well, with kamerton evaluate, and compare these score tables"


def _check(
    side: Group, one: Golden, kind: str, wanted: Any, said: Sequence[tuple[str | None, str | None]]
) -> GoldenCheck:
    meets = KINDS[kind].meets
    answers = [label if kind == "label" else text if text is not None else label for text, label in said]
    failed = [answer for answer in answers if answer is None or not meets(answer, wanted)]
    expectation = f"{kind} {json.dumps(wanted, ensure_ascii=False)}"
    shown = failed[0] if failed else answers[0]
    runs = f" ({len(failed)} of {len(answers)} runs)" if len(answers) > 1 else ""
    verb = "is not met by" if failed else "is met by"
    reason = f"{side.name}: {expectation} {verb} {json.dumps(shown, ensure_ascii=False)}{runs}"
    return GoldenCheck(side.name, one.prompt, expectation, shown, not failed, reason, one.source)


def _answers(table: pa.Table) -> dict[str, tuple[str | None, str | None]]:
    """By prompt the text and the label of the answer."""
    columns = (table[name].to_pylist() for name in ("prompt", "prediction", "predicted_label"))
    return {prompt: (text, label) for prompt, text, label in zip(*columns, strict=True)}
