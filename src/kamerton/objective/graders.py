"""Graders of OpenAI's reinforcement fine-tuning as reward functions: `string_check`, `text_similarity` and `multi`.

Texts of a grader have parts that are filled in (`kamerton.objective.templates`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from kamerton.errors import Fault, UserError
from kamerton.objective.formula import FUNCTIONS, evaluate, parse_formula
from kamerton.objective.similarity import METRICS, similarity
from kamerton.objective.templates import (
    MAX_TEXT,
    Item,
    ToolCalls,
    fill,
    item_of,
    item_paths,
    names_sample,
    unknown_parts,
)
from kamerton.words import did_you_mean

Reward = Callable[..., float]  # of prompt, completion, reference, metadata, and optionally `tool_calls`
Grader = Mapping[str, Any]
OPERATIONS = ("eq", "ne", "like", "ilike")
PLACE = "grader"  # of faults
_FIELDS = {
    "string_check": ("type", "name", "input", "reference", "operation"),
    "text_similarity": ("type", "name", "input", "reference", "evaluation_metric"),
    "multi": ("type", "name", "graders", "calculate_output"),
}
_REFUSED = {
    "score_model": "needs another model as a judge",
    "label_model": "needs another model as a judge",
    "python": "runs code of the request",
    "meteor": "counts synonyms of WordNet, whose data would have to be downloaded",
    "cosine": "needs an embedding model",
}
_INSTEAD = {"meteor": "use rouge_l, which compares words and their order without synonyms; or "}
_TEXTS = ("input", "reference")  # with parts that are filled in
_SHOWN = 40  # characters of a name in a message


def build_grader(grader: Grader) -> Reward:
    """Return the reward function of a grader, from 0 to 1 unless its formula has other values.

    The function raises `ValueError` for a row without a field that the grader reads, and for a formula that is
    undefined. Raises `UserError` with every fault of the grader.
    """
    if faults := list(grader_faults(grader)):
        raise UserError(faults)

    def reward(
        prompt: str,
        completion: str,
        reference: str | None,
        metadata: Mapping[str, Any],
        tool_calls: ToolCalls = None,
    ) -> float:
        return combined(grader, grades_of(grader, completion, item_of(prompt, reference, metadata), tool_calls))

    return reward


def grades_of(grader: Grader, completion: str, item: Item, tool_calls: ToolCalls = None) -> dict[str, float]:
    """Return the grades of the graders in a multi by their names; of any other grader its own.

    Raises `ValueError` for a row without a field that the grader reads, and for unknown calls that it reads.
    """
    return {name: _grade(part, completion, item, tool_calls) for name, part in parts_of(grader).items()}


def combined(grader: Grader, grades: Mapping[str, float]) -> float:
    """Return the grade by the `grades` of `grades_of`. Raises `ValueError` for a formula that is undefined."""
    if grader["type"] != "multi":
        (grade,) = grades.values()
        return grade
    return evaluate(parse_formula(grader["calculate_output"], grades), grades)


def paths_read(grader: Grader) -> dict[tuple[str, ...], None]:
    """Return what a grader reads of a row: keys below `item`, in order."""
    texts = (part[name] for part in parts_of(grader).values() for name in _TEXTS)
    return dict.fromkeys(path for text in texts for path in item_paths(text))


def reads(grader: Grader, part: str) -> bool:
    """Return whether a grader reads one of the parts `templates.SAMPLE` of an answer."""
    return any(names_sample(each[name], part) for each in parts_of(grader).values() for name in _TEXTS)


def read_grader(file: str | Path) -> Grader:
    """Return the grader in a JSON file. Raises `UserError` with every fault of it."""
    place, fix = str(file), f"write a grader of a type {', '.join(_FIELDS)}"
    try:
        grader: Grader = json.loads(Path(file).read_text(encoding="utf-8"))
    except OSError as error:
        message = f"cannot read the grader: {error.strerror}"
        raise UserError([Fault("reward.grader", message, "give a JSON file", file=place)]) from error
    except (ValueError, RecursionError) as error:
        raise UserError([Fault("reward.grader", f"is not JSON: {error}", fix, file=place)]) from error
    if faults := list(grader_faults(grader)):
        raise UserError([Fault(each.code, each.message, each.fix, place, column=each.column) for each in faults])
    return grader


def grader_faults(grader: object, place: str = PLACE) -> Iterator[Fault]:
    """Yield every fault of a grader as the `openai` package sends it; `place` is its name in them."""
    kind = grader.get("type") if isinstance(grader, Mapping) else None
    if not isinstance(grader, Mapping) or not isinstance(kind, str):
        yield _fault("is not a grader with a type", f"choose one of {', '.join(_FIELDS)}", place)
        return
    if kind not in _FIELDS:
        reason = f"is not supported: it {_REFUSED[kind]}" if kind in _REFUSED else "is unknown"
        yield _fault(f"the type {kind[:_SHOWN]} {reason}", f"choose one of {', '.join(_FIELDS)}", f"{place}.type")
        return
    for name in grader:
        if name not in _FIELDS[kind]:
            shown = str(name)[:_SHOWN]
            yield _fault(f"a grader {kind} has no {shown}", did_you_mean(shown, _FIELDS[kind]), f"{place}.{shown}")
    for name in _FIELDS[kind]:
        if name not in ("type", "graders") and not isinstance(grader.get(name), str):
            yield _fault("is not a text", f"give {name}", f"{place}.{name}")
    yield from _multi_faults(grader, place) if kind == "multi" else _comparison_faults(grader, place)


def parts_of(grader: Grader) -> dict[str, Any]:
    """Return the graders of a multi by name, or a grader alone by its own.

    The package's types name a single one in a multi, which has a name of its own.
    """
    if grader["type"] != "multi":
        return {str(grader["name"]): grader}
    parts = grader.get("graders")
    if not isinstance(parts, Mapping):
        return {}
    single = isinstance(parts.get("type"), str)
    return {str(parts.get("name")): parts} if single else {str(name): part for name, part in parts.items()}


def _comparison_faults(grader: Grader, place: str) -> Iterator[Fault]:
    for name in _TEXTS:
        text = grader.get(name)
        if not isinstance(text, str):
            continue
        if len(text) > MAX_TEXT:
            yield _fault(f"has {len(text):,} characters", f"give {MAX_TEXT:,} or fewer", f"{place}.{name}")
        for part in unknown_parts(text):
            fix = "use {{sample.output_text}}, {{sample.output_json.KEY}}, {{sample.output_tools}} or {{item.FIELD}}"
            yield _fault(f"{{{{{part[:_SHOWN]}}}}} is unknown", fix, f"{place}.{name}")
    is_check = grader["type"] == "string_check"
    key, values = ("operation", OPERATIONS) if is_check else ("evaluation_metric", METRICS)
    value = grader.get(key)
    if isinstance(value, str) and value not in values:
        reason = f"is not supported: it {_REFUSED[value]}" if value in _REFUSED else "is unknown"
        fix = f"{_INSTEAD.get(value, '')}choose one of {', '.join(values)}"
        yield _fault(f"{key} {value[:_SHOWN]} {reason}", fix, f"{place}.{key}")


def _multi_faults(grader: Grader, place: str) -> Iterator[Fault]:
    parts = parts_of(grader)
    if not parts:
        yield _fault("is not a mapping of names to graders", 'write {"NAME": {"type": …}}', f"{place}.graders")
        return
    for name, part in parts.items():
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) or name in FUNCTIONS:
            fix = "give it a name of letters, digits and underscores"
            yield _fault(f"the grader {name[:_SHOWN]!r} cannot be named in a formula", fix, f"{place}.graders")
        if isinstance(part, Mapping) and part.get("type") == "multi":
            yield _fault("is a multi within a multi", "write one formula", f"{place}.graders.{name[:_SHOWN]}")
        else:
            yield from grader_faults(part, f"{place}.graders.{name[:_SHOWN]}")
    if isinstance(grader.get("calculate_output"), str):
        try:
            parse_formula(grader["calculate_output"], parts)
        except ValueError as error:
            fix = "write a formula such as 0.5 * NAME + 0.5 * OTHER, with the names of the graders"
            yield _fault(str(error), fix, f"{place}.calculate_output")


def _grade(part: Grader, completion: str, item: Item, tool_calls: ToolCalls) -> float:
    """Return the grade of a grader that compares two texts."""
    text, other = (fill(part[name], completion, item, tool_calls) for name in _TEXTS)
    if part["type"] == "text_similarity":
        return similarity(part["evaluation_metric"], text, other)
    operation = part["operation"]
    if operation == "like":
        return float(other in text)
    if operation == "ilike":
        return float(other.lower() in text.lower())
    return float((text == other) == (operation == "eq"))


def _fault(message: str, fix: str, place: str) -> Fault:
    return Fault("reward.grader", message, fix, column=place)
