"""A search space in Hydra's override grammar, as Optuna's distributions; and a trial's values as overrides again.

Bounds follow Hydra and Optuna: `range` excludes its stop, `interval` includes both bounds, and `int(interval(a, b))`
gives the integers a to b. Values of `choice` keep their types.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, QuotedString, RangeSweep
from hydra.errors import HydraException
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from hydra_plugins.kamerton._overrides import SweepError, SweepFailed, override, override_value

__all__ = ["Dimension", "Space", "SweepError", "SweepFailed", "override", "override_value", "parse_space"]


@dataclass(frozen=True, slots=True)
class Dimension:
    """One key of the space. `values` are the choices, or the steps of a range of floats as Hydra counts them;
    `prefix` is the `+` or `++` that the key was given with.
    """

    key: str
    distribution: BaseDistribution
    text: str
    values: tuple[Any, ...] | None = None
    prefix: str = ""

    def override(self, value: Any) -> str:
        """Return the override of a trial with this `value`, in Optuna's terms."""
        if self.values is not None and isinstance(self.distribution, CategoricalDistribution):
            value = self.values[int(self.distribution.to_internal_repr(value))]
        elif self.values is not None:
            value = min(self.values, key=lambda step: abs(step - value))
        return f"{self.prefix}{self.key}={override_value(value)}"

    def stored(self, value: Any) -> Any:
        """Return a user's `value` as Optuna stores it; raises `SweepError` for one outside of the space."""
        if self.values is not None and isinstance(self.distribution, CategoricalDistribution):
            same = [index for index, choice in enumerate(self.values) if repr(choice) == repr(value)]
            matches = same or [index for index, choice in enumerate(self.distribution.choices) if choice == value]
            if matches:
                return self.distribution.choices[matches[0]]
        elif isinstance(value, int | float) and self.distribution._contains(float(value)):
            return int(value) if isinstance(self.distribution, IntDistribution) else float(value)
        raise SweepError(f"{self.key}={override_value(value)} is outside of its space, {self.text}")

    def samples(self) -> list[Any]:
        """Return every choice, or both bounds: what a check of the configuration should try."""
        if isinstance(self.distribution, CategoricalDistribution):
            return list(self.distribution.choices)
        assert isinstance(self.distribution, IntDistribution | FloatDistribution)
        return [self.distribution.low, self.distribution.high]

    def grid(self) -> list[Any]:
        """Return every value; raises `SweepError` if there are infinitely many."""
        if isinstance(self.distribution, CategoricalDistribution):
            return list(self.distribution.choices)
        if isinstance(self.distribution, IntDistribution):
            return list(range(self.distribution.low, self.distribution.high + 1, self.distribution.step))
        if self.values is None:
            raise SweepError(f"{self.key}: a grid needs choice(…), a list or range(…), not {self.text}")
        return list(self.values)


@dataclass(frozen=True, slots=True)
class Space:
    """The varied keys of a sweep, and the overrides that all of its trials share."""

    dimensions: Mapping[str, Dimension]
    fixed: tuple[str, ...] = ()
    fixed_keys: frozenset[str] = field(default_factory=frozenset)

    def overrides(self, params: Mapping[str, Any]) -> list[str]:
        """Return the overrides of a trial with these parameters. Those outside of the space (suggested by a function)
        are written under their own name.
        """
        return [
            self.dimensions[key].override(value) if key in self.dimensions else override(key, value)
            for key, value in params.items()
        ]


def parse_space(params: Mapping[str, Any], arguments: Sequence[str], loader: ConfigLoader | None = None) -> Space:
    """Return the space of `params` (nested mappings are dotted keys; null omits a key) with the command line's
    overrides applied: a sweep there adds or replaces a key, a fixed value removes it. Raises `SweepError` with all
    faults.
    """
    dimensions: dict[str, Dimension] = {}
    fixed: dict[str, str] = {}
    faults: list[str] = []
    lines = [*_flat(params), *((text, None) for text in arguments)]
    for line, choices in lines:
        try:
            override = OverridesParser.create(loader).parse_overrides([line])[0]
            package = f"@{override.package}" if override.package is not None else ""
            key = f"{override.key_or_group}{package}"
            dimensions.pop(key, None)
            fixed.pop(key, None)
            if choices is not None:
                dimensions[key] = _choice(key, _prefix(override), choices)
            elif override.is_sweep_override():
                dimensions[key] = _dimension(override, key)
            else:
                fixed[key] = line
        except (HydraException, ValueError) as error:
            faults.append(f"{line}: {error}")
    if faults:
        raise SweepError("the search space cannot be used:\n" + "\n".join(f"  {fault}" for fault in faults))
    return Space(dimensions, tuple(fixed.values()), frozenset(fixed))


def _flat(params: Mapping[str, Any], prefix: str = "") -> list[tuple[str, list[Any] | None]]:
    """Return `params` as overrides; those with a list have its values beside them."""
    overrides: list[tuple[str, list[Any] | None]] = []
    for name, value in params.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping):
            overrides += _flat(value, f"{key}.")
        elif isinstance(value, list):
            overrides.append((override(key, value), value))
        elif value is not None:
            overrides.append((f"{key}={value}" if isinstance(value, str) else override(key, value), None))
    return overrides


def _prefix(override: Override) -> str:
    return "++" if override.is_force_add() else "+" if override.is_add() else ""


def _dimension(override: Override, key: str) -> Dimension:
    value, prefix = override.value(), _prefix(override)
    tags: set[str] = getattr(value, "tags", set())
    if tags - {"log"}:
        raise ValueError(f"unknown tag {min(tags - {'log'})!r}; the only tag is log")
    if isinstance(value, IntervalSweep):
        low, high, log = value.start, value.end, "log" in tags
        assert low is not None
        assert high is not None
        _check_ends(low, high, log)
        text = f"interval({low},{high})"
        if isinstance(low, int) and isinstance(high, int):
            return Dimension(key, IntDistribution(low, high, log=log), _tagged(f"int({text})", log), None, prefix)
        return Dimension(key, FloatDistribution(low, high, log=log), _tagged(text, log), None, prefix)
    if isinstance(value, RangeSweep):
        distribution, text, values = _range(value)
        return Dimension(key, distribution, text, values, prefix)
    if tags:
        raise ValueError("a choice has no log scale")
    return _choice(key, prefix, [_plain(choice) for choice in override.sweep_iterator()])


def _choice(key: str, prefix: str, choices: Sequence[Any]) -> Dimension:
    values = tuple({repr(value): value for value in choices}.values())
    if not values:
        raise ValueError("there is nothing to choose from")
    text = f"choice({','.join(map(override_value, values))})"
    return Dimension(key, CategoricalDistribution(_storable(values)), text, values, prefix)


def _check_ends(low: float, high: float, log: bool) -> None:
    if not (math.isfinite(low) and math.isfinite(high) and low <= high):
        raise ValueError(f"an interval needs finite bounds, the lower one first, not {low} and {high}")
    if log and low <= 0:
        raise ValueError(f"a log scale needs a lower bound above 0, not {low}")


def _tagged(text: str, log: bool) -> str:
    return f"tag(log, {text})" if log else text


def _range(sweep: RangeSweep) -> tuple[BaseDistribution, str, tuple[float, ...] | None]:
    log = "log" in sweep.tags
    if sweep.step == 0:
        raise ValueError("a range needs a step other than 0")
    values = sorted(sweep.range())
    if not values:
        raise ValueError(f"range({sweep.start},{sweep.stop},{sweep.step}) is empty")
    low, high, step = values[0], values[-1], abs(sweep.step)
    _check_ends(low, high, log)
    if log and (step != 1 or not isinstance(low, int)):
        raise ValueError("a range has a log scale only over integers with step 1; use tag(log, interval(…))")
    if isinstance(low, int):
        distribution = IntDistribution(low, high, log=log, step=int(step))
        text = f"int(interval({low},{high}))" if step == 1 else f"range({low},{high + step},{step})"
        return distribution, _tagged(text, log), None
    text = f"range of {len(values)} from {low} to {high} by {step}"
    return _steps(low, high, step, len(values)), text, tuple(values)


def _steps(low: float, high: float, step: float, count: int) -> FloatDistribution:
    """Return `count` steps that fit exactly in Optuna's decimal arithmetic: rounded to 14 digits, as floats are."""
    unit = Decimal(1).scaleb(max(Decimal(str(number)).adjusted() for number in (low, high, step) if number) - 13)
    first, width = Decimal(str(low)).quantize(unit), Decimal(str(step)).quantize(unit)
    return FloatDistribution(float(first), float(first + (count - 1) * width), step=float(width))


def _storable(values: Sequence[Any]) -> tuple[Any, ...]:
    """Return choices that Optuna can store and distinguish: themselves, or all as text of the override grammar if one
    is a list or mapping or two are equal in Python (1 and true).
    """
    for value in values:
        text = override_value(value)
        again = OverridesParser.create().parse_override(f"x={text}").value()
        if repr(again) != repr(value):
            raise ValueError(f"{value!r} cannot be written as an override: Hydra reads {text} as {again!r}")
    plain = all(value is None or isinstance(value, bool | int | float | str) for value in values)
    finite = all(math.isfinite(value) for value in values if isinstance(value, float))
    if plain and finite and len(set(values)) == len(values):
        return tuple(values)
    return tuple(override_value(value) for value in values)


def _plain(value: Any) -> Any:
    """Return a parsed value without Hydra's marks of how it was quoted."""
    if isinstance(value, QuotedString):
        return value.text
    if isinstance(value, Mapping):
        return {_plain(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value
