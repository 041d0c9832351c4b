"""The command that evaluates one run on the test split of another, when their test splits hold different rows."""

from __future__ import annotations

import re
from typing import Any

from hydra_plugins.kamerton._overrides import override
from kamerton.decide.compare.configurations import ScoredRun
from kamerton.score.preferences import is_preference
from kamerton.shell import command_line

_SECTIONS = ("data", "split")
_NAMES = ("name",)  # of the data in reports


def evaluation_fix(first: ScoredRun, second: ScoredRun) -> str | None:
    """Return how to compare a run of preferences with one of single completions; None if they are not such a pair.

    The evaluation has the test split of the run of preferences.
    """
    if is_preference(first.table) == is_preference(second.table):
        return None
    pairs, other = (first, second) if is_preference(first.table) else (second, first)
    if not pairs.config or not (other.path / "run.json").is_file():
        return None
    name = f"{other.path.resolve().parent.name}-{other.path.resolve().name}-on-pairs"
    outputs = other.path.parent.parent
    options = [_option("run", str(other.path)), *_differences(pairs.config, other.config), f"name={name}"]
    options += [] if str(outputs) == "outputs" else [_option("paths.outputs", str(outputs))]
    command = command_line("evaluate", *options)
    return f"evaluate it on the pairs: {command}; then compare with {outputs / 'evaluations' / name} in its place"


def _differences(config: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """Return the overrides that make the data and splits of `other` those of `config`."""
    overrides = []
    for section in _SECTIONS:
        wanted, had = config.get(section) or {}, other.get(section) or {}
        for key, value in wanted.items():
            if key not in _NAMES and value != had.get(key):
                set_values = _without_nulls(value) if isinstance(value, dict) else value
                overrides.append(_option(f"{section}.{key}", set_values))
    return overrides


def _option(key: str, value: Any) -> str:
    """Return `key=value` in the grammar of the command line; a plain path needs no quotes."""
    is_plain = isinstance(value, str) and re.fullmatch(r"[\w./-]*[a-zA-Z/][\w./-]*", value, re.ASCII)
    return f"{key}={value}" if is_plain and value.lower() not in ("null", "true", "false") else override(key, value)


def _without_nulls(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}
