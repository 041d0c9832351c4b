"""Metrics that validations log, and options that name metrics which they do not log.

Every validation logs those of the loss, and of preferences if the objective learns from them. With `eval.score` it also
scores examples as `kamerton evaluate` does, and logs the other metrics of the scores table: those of labels or of
texts, and custom ones.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kamerton.config.objective import preference_metrics
from kamerton.config.objective_options import GENERATING
from kamerton.config.rewards import reward_metrics, reward_nodes
from kamerton.config.schema import mapping_at
from kamerton.direction import (
    CALL_ERRORS,
    CALL_METRICS,
    COMPARED,
    DRIFT,
    JUDGED,
    LABEL_METRICS,
    TEXT_METRICS,
    higher_is_better,
)
from kamerton.errors import Fault
from kamerton.words import did_you_mean

Values = Mapping[str, Any]

LOSS_METRICS = ("loss", "perplexity", "token_accuracy")
PREFERENCE_METRICS = tuple(
    name for name in dict.fromkeys((*COMPARED, *JUDGED, DRIFT)) if higher_is_better(name) is not None
)
GENERATED = (*TEXT_METRICS, *CALL_METRICS, *CALL_ERRORS)  # metrics of generated answers
NOT_VALIDATED = ("seconds", "parameters")  # objectives that are no metrics of a validation


def check_validation(values: Values) -> Iterator[Fault]:
    """Yield faults of the scoring of validations, as far as they are known before the data are read."""
    options = mapping_at(values, "eval")
    if options.get("score") is None and options.get("sample") is not None:
        message = "eval.sample is set, but validations are not scored (eval.score=null)"
        yield Fault("config.value", message, "set eval.score=auto, or leave it out", column="eval.sample")
    yield from unlogged(values)


def scoring_mode(values: Values, labelled: bool | None = None, *, functions: bool = False) -> str | None:
    """Return how validations are scored, None if they are not.

    `labelled` is None if the data have not been read; `functions`: they have functions to call. `auto` is the mode of
    the test split (`score.mode`), and its `auto` is `labels` for data with labels, `generate` for data with functions.
    """
    mode = mapping_at(values, "eval").get("score")
    if mode == "auto":
        mode = mapping_at(values, "score").get("mode", "auto")
    if mode == "auto":
        mode = "labels" if labelled is not False else "generate" if functions else "reference"
    return mode


def logged_metrics(
    values: Values, labelled: bool | None = None, *, functions: bool = False, references: bool = True
) -> list[str]:
    """Return the names of the metrics that a validation logs; all possible ones if the data have not been read.

    Without `references` they are prompts alone, whose answers are not compared with anything.
    """
    mode = scoring_mode(values, labelled, functions=functions)
    names = [*(LOSS_METRICS if references else ()), *preference_metrics(values)]
    if mode is None:
        return names
    if mode == "labels" or (mode == "generate" and labelled is not False):
        with_ece = mode == "labels" and mapping_at(values, "score").get("labels", "exact") == "exact"
        names += [name for name in LABEL_METRICS if name != "ece" or with_ece]  # it needs probabilities
    if mode == "generate" and labelled is not True and references:
        names += GENERATED if functions or labelled is None else TEXT_METRICS
    if mode == "generate":
        names += reward_metrics(mapping_at(values, "reward"))
    return [*names, *_custom(values)]


def unlogged(
    values: Values, labelled: bool | None = None, *, functions: bool = False, references: bool = True
) -> Iterator[Fault]:
    """Yield a fault for each callback, objective and constraint of a metric that no validation will log."""
    if mapping_at(values, "objective").get("name") in GENERATING and not reward_nodes(mapping_at(values, "reward")):
        return  # the missing reward is the fault
    logged = logged_metrics(values, labelled, functions=functions, references=references)
    for name, node in mapping_at(values, "callbacks").items():
        monitor = node.get("monitor") if isinstance(node, Mapping) else None
        if isinstance(monitor, str) and monitor.startswith("val/") and monitor.removeprefix("val/") not in logged:
            key = f"callbacks.{name}.monitor"
            message = f"{key} is {monitor!r}, which no validation logs"
            if not references and monitor.removeprefix("val/") in (*LOSS_METRICS, *GENERATED):
                message += ", because its rows have no completions"
            yield _fault(message, key, monitor.removeprefix("val/"), values, labelled, logged)
    options = mapping_at(values, "sweep")
    objective, constraints = options.get("objective"), options.get("constraints")
    for key, names in (("sweep.objective", objective), ("sweep.constraints", constraints)):
        for name in [names] if isinstance(names, str) else names or ():
            if name == "loss" and not references:  # the default, also without a sweep
                continue
            if name in _possible(values) and name not in logged:  # other names are reported for any sweep
                yield _fault(f"{key} names {name!r}, which no validation logs", key, name, values, labelled, logged)


def _fault(message: str, key: str, metric: str, values: Values, labelled: bool | None, logged: Sequence[str]) -> Fault:
    prefix = "val/" if key.startswith("callbacks.") else ""
    possible = _possible(values)
    if metric in (*LOSS_METRICS, *GENERATED) and "loss" not in logged:
        fix = f"set {key}={prefix}reward, or give rows with completions"
    elif metric in possible:
        fix = _option_for(metric, values, labelled) or did_you_mean(metric, [f"{prefix}{name}" for name in logged])
    elif near := difflib.get_close_matches(metric, possible, n=1, cutoff=0.6):
        option = None if near[0] in logged else _option_for(near[0], values, labelled)
        fix = f"did you mean '{prefix}{near[0]}'?" + (f" For it, {option}" if option else "")
    else:
        fix = did_you_mean(f"{prefix}{metric}", [f"{prefix}{name}" for name in logged])
    return Fault("config.value", message, fix, column=key)


def _option_for(metric: str, values: Values, labelled: bool | None) -> str | None:
    """Return the option with which validations log `metric`; None if the data or the objective rule it out."""
    learns_preferences = bool(preference_metrics(values))
    if metric in PREFERENCE_METRICS:
        return None if learns_preferences else f"choose objective={'dpo' if metric in COMPARED else 'kto'}"
    if learns_preferences:
        return None  # their completions are not scored one by one
    if (metric in LABEL_METRICS and labelled is False) or (metric in GENERATED and labelled is True):
        return None
    if metric == "ece" and mapping_at(values, "score").get("labels") == "argmax":
        return "set score.labels=exact" + ("" if scoring_mode(values, labelled) == "labels" else " eval.score=labels")
    if metric in LABEL_METRICS:
        return "set eval.score=labels"
    needs_answers = metric in (*GENERATED, *reward_metrics(mapping_at(values, "reward")))
    if needs_answers and scoring_mode(values, labelled) == "generate":
        return None  # the data have no functions
    return "set eval.score=generate" if needs_answers else "set eval.score=auto"


def objectives(values: Values) -> list[str]:
    """Return the names that a sweep may have as objective or constraint, with the right options."""
    return [*_possible(values), *NOT_VALIDATED]


def _possible(values: Values) -> list[str]:
    return [
        *LOSS_METRICS,
        *PREFERENCE_METRICS,
        *LABEL_METRICS,
        *GENERATED,
        *reward_metrics(mapping_at(values, "reward")),
        *_custom(values),
    ]


def _custom(values: Values) -> list[str]:
    return [str(name) for name, node in mapping_at(values, "metrics").items() if node is not None]
