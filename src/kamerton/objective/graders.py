"""Graders of OpenAI's reinforcement fine-tuning as reward functions: `string_check`, `text_similarity` and `multi`.

Texts of a grader are templates: `{{sample.output_text}}` is the completion, `{{sample.output_json.KEY}}` a part of it
read as JSON, `{{item.FIELD}}` a field of the row (its metadata; `prompt` and `completion`, unless they have such a
field).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from kamerton.errors import Fault, UserError
from kamerton.objective.formula import FUNCTIONS, evaluate, parse_formula
from kamerton.objective.similarity import METRICS, similarity
from kamerton.words import did_you_mean

Reward = Callable[[str, str, str | None, Mapping[str, Any]], float]  # prompt, completion, reference, metadata
Grader = Mapping[str, Any]
OPERATIONS = ("eq", "ne", "like", "ilike")
_FIELDS = {
    "string_check": ("type", "name", "input", "reference", "operation"),
    "text_similarity": ("type", "name", "input", "reference", "evaluation_metric"),
    "multi": ("type", "name", "graders", "calculate_output"),
}
_REFUSED = {
    "score_model": "needs another model as a judge",
    "label_model": "needs another model as a judge",
    "python": "runs code of the request",
    "meteor": "needs a dictionary of synonyms",
    "cosine": "needs an embedding model",
}
_SHOWN = 40  # characters of a name in a message
_TEMPLATE = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)
_PATH = re.compile(r"\s*(sample|item)((?:\.\w+|\[\d+\])+)\s*")


def build_grader(grader: Grader) -> Reward:
    """Return the reward function of a grader, from 0 to 1 unless its formula has other values.

    The function raises `ValueError` for a row without a field that the grader reads, and for a formula that is
    undefined. Raises `UserError` with every fault of the grader.
    """
    if faults := list(grader_faults(grader)):
        raise UserError(faults)
    if grader["type"] != "multi":
        return _comparison(grader)
    rewards = {name: _comparison(each) for name, each in _parts(grader).items()}
    formula = parse_formula(grader["calculate_output"], rewards)

    def reward(prompt: str, completion: str, reference: str | None, metadata: Mapping[str, Any]) -> float:
        grades = {name: each(prompt, completion, reference, metadata) for name, each in rewards.items()}
        return evaluate(formula, grades)

    return reward


def grader_faults(grader: object, place: str = "grader") -> Iterator[Fault]:
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


def _comparison_faults(grader: Grader, place: str) -> Iterator[Fault]:
    for name in ("input", "reference"):
        if isinstance(grader.get(name), str):
            yield from _template_faults(grader[name], f"{place}.{name}")
    is_check = grader["type"] == "string_check"
    key, values = ("operation", OPERATIONS) if is_check else ("evaluation_metric", METRICS)
    value = grader.get(key)
    if isinstance(value, str) and value not in values:
        reason = f"is not supported: it {_REFUSED[value]}" if value in _REFUSED else "is unknown"
        yield _fault(f"{key} {value[:_SHOWN]} {reason}", f"choose one of {', '.join(values)}", f"{place}.{key}")


def _multi_faults(grader: Grader, place: str) -> Iterator[Fault]:
    parts = _parts(grader)
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


def _parts(grader: Grader) -> dict[str, Any]:
    """Return the graders of a multi by name; the package's types name a single one, which has a name of its own."""
    parts = grader.get("graders")
    if not isinstance(parts, Mapping):
        return {}
    single = isinstance(parts.get("type"), str)
    return {str(parts.get("name")): parts} if single else {str(name): part for name, part in parts.items()}


def _template_faults(template: str, place: str) -> Iterator[Fault]:
    for text in _TEMPLATE.findall(template):
        path = _PATH.fullmatch(text)
        keys = _keys(path[2]) if path else []
        if path is None or (path[1] == "sample" and keys[0] not in ("output_text", "output_json")):
            fix = "use {{sample.output_text}}, {{sample.output_json.KEY}} or {{item.FIELD}}"
            yield _fault(f"{{{{{text[:_SHOWN]}}}}} is unknown", fix, place)


def _comparison(grader: Grader) -> Reward:
    """Return the reward of a grader that compares two texts."""

    def reward(prompt: str, completion: str, reference: str | None, metadata: Mapping[str, Any]) -> float:
        item = {"prompt": prompt, **({} if reference is None else {"completion": reference}), **metadata}
        text, other = (_fill(grader[name], completion, item) for name in ("input", "reference"))
        if grader["type"] == "text_similarity":
            return similarity(grader["evaluation_metric"], text, other)
        operation = grader["operation"]
        if operation == "like":
            return float(other in text)
        if operation == "ilike":
            return float(other.lower() in text.lower())
        return float((text == other) == (operation == "eq"))

    return reward


def _fill(template: str, completion: str, item: Mapping[str, Any]) -> str:
    """Return a template with its values."""

    def value(match: re.Match[str]) -> str:
        path = _PATH.fullmatch(match[1])
        assert path is not None
        first, *keys = _keys(path[2])
        if path[1] == "item":
            if first not in item:
                raise ValueError(f"the row has no field {first!r}, which the grader reads")
            found = _descend(item[first], keys)
        else:
            found = completion if first == "output_text" else _descend(_json(completion), keys)
        return found if isinstance(found, str) else "" if found is None else json.dumps(found, ensure_ascii=False)

    return _TEMPLATE.sub(value, template)


def _keys(path: str) -> list[str]:
    return re.findall(r"\w+", path)


def _descend(value: Any, keys: list[str]) -> Any:
    """Return the part of a JSON value below `keys`; None if it has none."""
    for key in keys:
        if isinstance(value, Mapping):
            value = value.get(key)
        elif isinstance(value, list) and key.isdecimal() and int(key) < len(value):
            value = value[int(key)]
        else:
            return None
    return value


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _fault(message: str, fix: str, place: str) -> Fault:
    return Fault("reward.grader", message, fix, column=place)
