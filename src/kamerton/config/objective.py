"""The training objective: options that do nothing with it, data that do not fit it, and the metrics that it logs."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from kamerton.config.objective_options import GENERATING, ObjectiveOptions
from kamerton.config.rewards import reward_nodes
from kamerton.config.schema import mapping_at
from kamerton.data.options import COMPARED as COMPARED_ROWS
from kamerton.direction import COMPARED, DRIFT, JUDGED
from kamerton.errors import Fault

Values = Mapping[str, Any]

PAIRED = ("dpo", "ipo", "simpo", "orpo", "apo_zero", "apo_down")  # objectives that compare completions
PREFERENCES = (*PAIRED, "kto")
_GROUPS = {"apo_zero": "apo", "apo_down": "apo objective.name=apo_down"}  # what to type, if not the name
_USED_BY = {  # options that only some objectives have
    "beta": PREFERENCES,
    "label_smoothing": ("dpo",),
    "margin": ("simpo",),
    "sft_weight": PAIRED,
    "desired_weight": ("kto",),
    "undesired_weight": ("kto",),
    **dict.fromkeys(("samples", "max_new_tokens", "updates", "baseline", "standardise"), GENERATING),
    **dict.fromkeys(("clip", "clip_high", "kl_weight"), GENERATING),
}
_DEFAULTS = {field.name: field.default for field in dataclasses.fields(ObjectiveOptions)}


def preference_metrics(values: Values) -> tuple[str, ...]:
    """Return the names of the metrics that training on preferences logs beside those of the loss; none for others."""
    name = _name(values)
    if name == "kto":
        return (*JUDGED, DRIFT)
    if name not in PAIRED:
        return ()
    return COMPARED if name in ("simpo", "orpo") else (*COMPARED, DRIFT)


def typed_objective(name: str) -> str:
    """Return what to type for the objective `name`, after `objective=`."""
    return _GROUPS.get(name, name)


def check_objective(values: Values) -> Iterator[Fault]:
    """Yield faults of options that do nothing with the objective."""
    name, options = _name(values), mapping_at(values, "objective")
    for key, users in _USED_BY.items():
        if name not in users and options.get(key, _DEFAULTS[key]) != _DEFAULTS[key]:
            yield _unused(f"objective.{key}", name, f"leave it out, or choose objective={users[0]}")
    if name == "kto" and options.get("desired_weight") == options.get("undesired_weight") == 0:
        message = "objective.desired_weight and objective.undesired_weight are both 0: nothing would be learnt"
        yield _fault(message, "set objective.desired_weight=1", "objective.desired_weight")
    if name in PREFERENCES and mapping_at(values, "data").get("rows") in COMPARED_ROWS:
        yield from _unused_by_preferences(values, name)


def _unused_by_preferences(values: Values, name: str) -> Iterator[Fault]:
    smoothing = "; objective.label_smoothing is the probability that a preference is wrong" if name == "dpo" else ""
    scoring = "leave it out: validations of preferences log val/preference_accuracy and val/margin"
    if values.get("label_smoothing"):
        yield _unused("label_smoothing", name, f"leave it out{smoothing}")
    if mapping_at(values, "eval").get("score") is not None:
        yield _unused("eval.score", name, scoring)
    score = mapping_at(values, "score")
    if reward_nodes(mapping_at(values, "reward")) and not (score.get("data") and score.get("mode") == "generate"):
        fix = (
            "leave it out: rewards are for generated answers, and preferences have none; to grade answers to a test"
            " set, add score.data=FILE score.mode=generate; to train on rewards, choose objective=grpo"
        )
        yield _unused("reward", name, fix)


def objective_faults(values: Values) -> list[Fault]:
    """Return the fault of training data that the objective does not learn from; evaluations may read other rows."""
    name, rows = _name(values), mapping_at(values, "data").get("rows", "completions")
    if name == "sft" and rows != "completions":
        message = f"data.rows is {rows}, and objective.name is sft, which learns from single completions"
        objective = {"judgements": "kto", "prompts": "grpo"}.get(rows, "dpo")
        return [_fault(message, f"choose objective={objective}, or set data.rows=completions", "data.rows")]
    if (name in PAIRED and rows != "preferences") or (name == "kto" and rows in ("completions", "prompts")):
        message = f"objective.name is {name}, which learns from preferences, and data.rows is {rows}"
        wanted = "judgements" if name == "kto" else "preferences"
        fix = f"choose objective={typed_objective(name)}, which also sets data.rows; or set data.rows={wanted}"
        return [_fault(message, fix, "objective.name")]
    if name in GENERATING and rows in COMPARED_ROWS:
        message = f"objective.name is {name}, which learns from rewards of its answers, and data.rows is {rows}"
        return [_fault(message, "set data.rows=prompts", "data.rows")]
    return []


def _name(values: Values) -> str:
    return str(mapping_at(values, "objective").get("name", "sft"))


def _unused(key: str, name: str, fix: str) -> Fault:
    return _fault(f"{key} is set, but does nothing with objective.name={name}", fix, key)


def _fault(message: str, fix: str, key: str) -> Fault:
    return Fault("config.value", message, fix, column=key)
