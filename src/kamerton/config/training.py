"""Training options that contradict each other, or that would do nothing: said instead of ignored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from kamerton.errors import Fault


def check_training(values: Mapping[str, Any]) -> list[Fault]:
    """Faults of the scheduler, model and batch sections taken together; wrong types have been said already."""
    return [*_scheduler(_section(values, "scheduler")), *_switches(values)]


def _section(values: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = values.get(key)
    return found if isinstance(found, Mapping) else {}


def _scheduler(options: Mapping[str, Any]) -> Iterator[Fault]:
    name, ratio = options.get("name", "linear"), options.get("warmup_ratio")
    if options.get("warmup_steps") is not None and ratio is not None:
        message = "scheduler.warmup_steps and scheduler.warmup_ratio are both given"
        yield _fault(message, "give one of them", "scheduler.warmup_ratio")
    if options.get("min_ratio") and name not in ("cosine", "wsd"):
        yield _unused("scheduler.min_ratio", f"scheduler={name}", "choose scheduler=cosine or scheduler=wsd")
    decay = options.get("decay_ratio", 0.1)
    if name == "wsd" and _is_number(ratio) and _is_number(decay) and ratio + decay > 1:
        message = (
            f"scheduler.warmup_ratio and scheduler.decay_ratio are {ratio} and {decay}: together more than all steps"
        )
        yield _fault(message, "choose shares whose sum is at most 1", "scheduler.decay_ratio")


def _switches(values: Mapping[str, Any]) -> Iterator[Fault]:
    cut = _section(values, "batch").get("cut", "tree")
    if _section(values, "model").get("attn") is not None and cut != "padded":
        yield _unused("model.attn", f"batch.cut={cut}, which has its own attention", "choose batch.cut=padded")


def _unused(key: str, where: str, fix: str) -> Fault:
    return _fault(f"{key} is set, but does nothing with {where}", fix, key)


def _fault(message: str, fix: str, key: str) -> Fault:
    return Fault("config.value", message, fix, column=key)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float)
