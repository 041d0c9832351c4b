"""Built-in rewards: functions of a prompt, an answer, the reference and the metadata of a row.

A reward is higher for a better answer; these are between 0 and 1. The reference is None if the row has none. Functions
of other packages are called in the same way (`reward._target_`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Annotated, Any, Literal

import jsonschema_rs
from annotated_types import Ge
from pydantic import FiniteFloat

from kamerton.objective.graders import build_grader, read_grader
from kamerton.words import listed

Metadata = Mapping[str, Any]

_NUMBER = re.compile(r"(?<!\w)[-+]?(?:(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d+)?")


def exact_match(
    prompt: str, completion: str, reference: str | None, metadata: Metadata, *, ignore_case: bool = False
) -> float:
    """Return 1 if the answer is the reference, apart from white space around both."""
    answer, target = completion.strip(), _required(reference).strip()
    return float(answer.casefold() == target.casefold() if ignore_case else answer == target)


def label(
    prompt: str,
    completion: str,
    reference: str | None,
    metadata: Metadata,
    *,
    labels: list[str],
    ignore_case: bool = True,
) -> float:
    """Return 1 if the reference is the only one of `labels` that the answer names, as whole words.

    Raises `ValueError` if it is none of them, or one of them is no text.
    """
    if not labels or not all(isinstance(name, str) and name.strip() for name in labels):
        raise ValueError(f"labels is {labels!r}, not a list of texts")
    target = _folded(_required(reference).strip(), ignore_case)
    if target not in [_folded(name, ignore_case) for name in labels]:
        raise ValueError(f"the reference {reference!r} is none of the labels: {listed(labels)}")
    flags = re.IGNORECASE if ignore_case else 0
    # The longest first, so that "not spam" does not name "spam" as well.
    names = sorted(labels, key=len, reverse=True)
    pattern = rf"(?<!\w)(?:{'|'.join(map(re.escape, names))})(?!\w)"
    named = {_folded(name, ignore_case) for name in re.findall(pattern, completion, flags)}
    return float(named == {target})


def regex(
    prompt: str,
    completion: str,
    reference: str | None,
    metadata: Metadata,
    *,
    pattern: str,
    full: bool = False,
) -> float:
    """Return 1 if the answer has a match of `pattern` (`full`: is one, apart from white space around it).

    A group named `answer` must also be the reference, apart from white space around both.
    """
    compiled = re.compile(pattern, re.DOTALL)
    found = compiled.fullmatch(completion.strip()) if full else compiled.search(completion)
    if found is None or "answer" not in compiled.groupindex:
        return float(found is not None)
    return float((found["answer"] or "").strip() == _required(reference).strip())


def json_schema(
    prompt: str, completion: str, reference: str | None, metadata: Metadata, *, schema: dict[str, Any] | str
) -> float:
    """Return 1 if the answer is JSON that is valid by `schema`, a JSON schema as a mapping or a text."""
    text = schema if isinstance(schema, str) else json.dumps(schema, sort_keys=True)
    validator = _validator(text)  # first, so that an invalid schema is an error whatever the answer
    try:
        return float(validator.is_valid(json.loads(completion, parse_constant=_not_json)))
    except (ValueError, RecursionError):  # also escapes that are no characters
        return 0.0


def number(
    prompt: str,
    completion: str,
    reference: str | None,
    metadata: Metadata,
    *,
    tolerance: Annotated[FiniteFloat, Ge(0)] = 0.0,
    relative: bool = False,
) -> float:
    """Return 1 if the last number of the answer is that of the reference, within `tolerance`.

    `relative`: the tolerance is a share of the reference's number. `1,234.5` and `2e3` are numbers.
    """
    target, answer = _last_number(_required(reference)), _last_number(completion)
    if target is None:
        raise ValueError(f"the reference {reference!r} has no number")
    if answer is None:
        return 0.0
    return float(abs(answer - target) <= tolerance * (abs(target) if relative else 1.0))


def length(
    prompt: str,
    completion: str,
    reference: str | None,
    metadata: Metadata,
    *,
    most: Annotated[int, Ge(0)],
    least: Annotated[int, Ge(0)] = 0,
    unit: Literal["words", "characters"] = "words",
) -> float:
    """Return 1 for an answer of `least` to `most` words or characters, falling to 0 at twice `most`, and at length 0.

    The fall is linear, so that answers of different wrong lengths differ. Raises `ValueError` unless
    0 <= `least` <= `most`.
    """
    if not 0 <= least <= most:
        raise ValueError(f"least is {least} and most is {most}, not 0 <= least <= most")
    size = len(completion.split()) if unit == "words" else len(completion.strip())
    if size < least:
        return size / least
    return max(0.0, 1.0 - max(0, size - most) / max(most, 1))


def grader(
    prompt: str,
    completion: str,
    reference: str | None,
    metadata: Metadata,
    *,
    file: str,
    prompts_alone: bool = False,
) -> float:
    """Return the grade by a grader of OpenAI's reinforcement fine-tuning in a JSON file (`kamerton.objective.graders`).

    Its `{{item.FIELD}}` are the columns of the row besides its prompt, and `{{item.completion}}`. `prompts_alone`: rows
    with a completion are refused before training, as by OpenAI's API. Runs read the file once (`build_reward`), and
    also give the grader the calls of an answer.
    """
    del prompts_alone  # checked beforehand
    return build_grader(read_grader(file))(prompt, completion, reference, metadata)


def _not_json(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _required(reference: str | None) -> str:
    if reference is None:
        raise ValueError("the row has no completion to compare the answer with")
    return reference


def _folded(text: str, ignore_case: bool) -> str:
    return text.casefold() if ignore_case else text


def _last_number(text: str) -> float | None:
    found: list[str] = _NUMBER.findall(text)
    return float(found[-1].replace(",", "")) if found else None


@lru_cache(maxsize=32)
def _validator(schema: str) -> Any:
    try:
        return jsonschema_rs.validator_for(json.loads(schema), offline=True)  # reads no files or addresses of `$ref`
    except ValueError as error:  # also of jsonschema_rs, with many lines
        raise ValueError(f"schema is no JSON schema: {str(error).splitlines()[0]}") from error
