"""What identifies a study, and how a later sweep differs from it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from omegaconf import DictConfig, OmegaConf

from hydra_plugins.kamerton._space import Space, SweepError
from hydra_plugins.kamerton._storage import masked

CONFIG = "config"  # the study's attribute with the configuration that all trials share, by dotted key


@dataclass(frozen=True, slots=True)
class StudyDefinition:
    """What identifies a study: another space, direction, sampler or fixed override is another study."""

    space: Mapping[str, str]
    directions: Sequence[str]
    fixed: Sequence[str]
    sampler: str
    function: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, as the study stores them; passwords are redacted."""
        return {
            "space": dict(self.space),
            "directions": list(self.directions),
            "fixed": [masked(text) for text in self.fixed],
            "sampler": self.sampler,
            "function": self.function,
        }


def study_definition(config: DictConfig, space: Space) -> StudyDefinition:
    """Return the definition of the study that a configuration describes, in this space."""
    sweeper = config.hydra.sweeper
    direction = OmegaConf.to_container(sweeper)["direction"]  # type: ignore[call-overload,index]
    directions = direction if isinstance(direction, list) else [direction]
    if not directions or set(directions) - {"minimize", "maximize"}:
        raise SweepError(f"hydra.sweeper.direction is {direction!r}\n  fix: minimize, maximize, or a list of these")
    varied = {key: dimension.text for key, dimension in space.dimensions.items()}
    target = str(sweeper.sampler["_target_"])
    return StudyDefinition(varied, directions, space.fixed, target, sweeper.custom_search_space)


def changes_since(study: optuna.Study, shared: Mapping[str, Any]) -> list[str]:
    """Return how the application's configuration has changed since the study began, a sentence for each key.

    `shared` are its values by dotted key, without those that vary; a new study stores them.
    """
    kept = study.user_attrs.get(CONFIG)
    if kept is None:
        study.set_user_attr(CONFIG, dict(shared))
        return []
    keys = [key for key in {**kept, **shared} if kept.get(key) != shared.get(key)]
    return [f"{key} was {_text(kept.get(key))}, is {_text(shared.get(key))}" for key in keys]


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Return how two definitions of a study differ, a sentence for each difference."""
    sentences = []
    for key in sorted({*before.get("space", {}), *after["space"]}):
        was, now = (definition.get("space", {}).get(key, "not in the space") for definition in (before, after))
        sentences += [f"{key} was {was}, is {now}"] if was != now else []
    for field_name, word in (("directions", "direction"), ("sampler", "sampler"), ("function", "custom_search_space")):
        was, now = before.get(field_name), after[field_name]
        sentences += [f"{word} was {_text(was)}, is {_text(now)}"] if was != now else []
    was, now = before.get("fixed", []), after["fixed"]
    sentences += [f"{text} was given, is not" for text in was if text not in now]
    return [*sentences, *(f"{text} is given, was not" for text in now if text not in was)]


def _text(value: Any) -> str:
    return ", ".join(value) if isinstance(value, list) else value if isinstance(value, str) else json.dumps(value)
