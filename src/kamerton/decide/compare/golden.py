"""Golden prompts: a file of prompts with expectations about the answer; each prompt is a regression test.

JSONL, one prompt per line: `{"prompt": ..., EXPECTATION: ...}` with one or more of `exact` (the full answer, ignoring
surrounding space), `contains` (a text or a list of texts), `regex` (matches anywhere), `label` (the predicted label),
`one_of` (a list of full answers), `max_length` (characters). The answers are those of the score tables, by prompt. Rows
may also have a `completion` and `metadata`, so that the same file can be scored.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kamerton.decide.compare.comparison import GoldenCheck
from kamerton.decide.compare.configurations import Group
from kamerton.errors import Fault, UserError
from kamerton.words import did_you_mean


@dataclass(frozen=True, slots=True)
class Golden:
    """A prompt with its expectations (kind and value); `source` is file:line."""

    prompt: str
    expectations: tuple[tuple[str, Any], ...]
    source: str


@dataclass(frozen=True, slots=True)
class _Kind:
    """A kind of expectation: the type of its value (in words, and as a check), and whether an answer meets it."""

    type: str
    is_valid: Callable[[Any], bool]
    meets: Callable[[str, Any], bool]


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, str) for item in value)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_regex(value: Any) -> bool:
    if not isinstance(value, str):
        return False
    try:
        re.compile(value)
    except re.error:
        return False
    return True


OTHER_COLUMNS = ("prompt", "completion", "metadata")
KINDS = {
    "exact": _Kind("a text", _is_text, lambda answer, expected: answer.strip() == expected.strip()),
    "contains": _Kind(
        "a text or a list of texts",
        lambda value: _is_text(value) or _is_texts(value),
        lambda answer, expected: all(
            text in answer for text in ([expected] if isinstance(expected, str) else expected)
        ),
    ),
    "regex": _Kind("a regular expression", _is_regex, lambda answer, expected: bool(re.search(expected, answer))),
    "label": _Kind("a label", _is_text, lambda answer, expected: answer == expected),
    "one_of": _Kind(
        "a list of texts", _is_texts, lambda answer, expected: answer.strip() in [t.strip() for t in expected]
    ),
    "max_length": _Kind(
        "a number of characters",
        lambda value: isinstance(value, int) and not isinstance(value, bool) and value >= 0,
        lambda answer, expected: len(answer) <= expected,
    ),
}


def read_golden(path: str) -> list[Golden]:
    """Read the golden prompts of a file; raises `UserError` with all faults of all lines."""
    try:
        lines = Path(path).read_text("utf-8").split("\n")  # texts may contain other line separators, such as U+2028
    except (OSError, UnicodeDecodeError) as error:
        message = f"cannot read {path}: {error}"
        raise UserError([Fault("golden.unreadable", message, "give a JSONL file in UTF-8", column="golden")]) from None
    prompts, faults = [], []
    for number, line in enumerate(lines, 1):
        if line.strip():
            prompt, line_faults = _parse(line, path, number)
            faults += line_faults
            if prompt is not None and not line_faults:
                prompts.append(prompt)
    if not prompts and not faults:
        faults.append(Fault("golden.empty", "the file has no prompts", "write one per line", path))
    if faults:
        raise UserError(faults)
    return prompts


def _parse(line: str, path: str, number: int) -> tuple[Golden | None, list[Fault]]:
    def fault(message: str, fix: str, column: str | None = None) -> Fault:
        return Fault("golden.line", message, fix, path, number, column)

    try:
        row = json.loads(line)
    except ValueError as error:
        return None, [fault(f"not JSON: {error}", "write one JSON object per line")]
    if not isinstance(row, dict) or not isinstance(row.get("prompt"), str):
        return None, [fault("the line has no prompt", 'write {"prompt": "…", "exact": "…"}')]
    expectations = {key: value for key, value in row.items() if key not in OTHER_COLUMNS}
    unknown = [key for key in expectations if key not in KINDS]
    faults = [fault(f"unknown expectation {key!r}", did_you_mean(key, KINDS), key) for key in unknown]
    for key, value in expectations.items():
        if key in KINDS and not KINDS[key].is_valid(value):
            faults.append(fault(f"{key} is {value!r}", f"give {KINDS[key].type}", key))
    if not expectations:
        faults.append(fault("the prompt has no expectation", f"add one of: {', '.join(KINDS)}"))
    return Golden(row["prompt"], tuple(expectations.items()), f"{path}:{number}"), faults


def check_golden(golden: Sequence[Golden], group: Group) -> Iterator[GoldenCheck]:
    """Check every expectation against the answers of every run of a group; shows the answer of the first failing run.

    Raises `UserError` for prompts that are missing in a score table.
    """
    answers: list[dict[str, tuple[str | None, str | None]]] = []  # text and label by prompt, for each run
    for run in group.runs:
        columns = (run.table[name].to_pylist() for name in ("prompt", "prediction", "predicted_label"))
        answers.append({prompt: (text, label) for prompt, text, label in zip(*columns, strict=True)})
    fix = "score the golden prompts as well, with kamerton evaluate, and compare these score tables"
    faults = [
        Fault("golden.no-answer", f"{run.path} has no answer to {item.prompt[:60]!r}", fix, item.source)
        for item in golden
        for run, by_prompt in zip(group.runs, answers, strict=True)
        if item.prompt not in by_prompt
    ]
    if faults:
        raise UserError(faults)
    for item in golden:
        for kind, expected in item.expectations:
            yield _check(group.name, item, kind, expected, [by_prompt[item.prompt] for by_prompt in answers])


def _check(
    name: str, item: Golden, kind: str, expected: Any, answers: Sequence[tuple[str | None, str | None]]
) -> GoldenCheck:
    meets = KINDS[kind].meets
    checked = [label if kind == "label" else text if text is not None else label for text, label in answers]
    failed = [answer for answer in checked if answer is None or not meets(answer, expected)]
    expectation = f"{kind} {json.dumps(expected, ensure_ascii=False)}"
    shown = failed[0] if failed else checked[0]
    runs = f" ({len(failed)} of {len(checked)} runs)" if len(checked) > 1 else ""
    verb = "is not met by" if failed else "is met by"
    reason = f"{name}: {expectation} {verb} {json.dumps(shown, ensure_ascii=False)}{runs}"
    return GoldenCheck(name, item.prompt, expectation, shown, not failed, reason, item.source)
