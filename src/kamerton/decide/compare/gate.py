"""The regression gate: whether a candidate is worse than the baseline by more than is allowed.

One rule. A check fails where it is sure that the drop is larger than allowed: its lower bound (95 %, one-sided) is, and
a one-sided test finds the candidate worse at the 5 % level (corrected over the groups of a field, for slices). A drop
that is larger than allowed and may be less passes, and is said with what is sure. A metric without a test (`ece`) is
judged by its drop alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kamerton.decide.compare.comparison import Difference, Gate, GateCheck, GoldenCheck, Slice
from kamerton.decide.compare.options import GateOptions
from kamerton.decide.compare.significance import LEVEL
from kamerton.errors import Fault
from kamerton.words import did_you_mean, number


def gate_faults(
    options: GateOptions, metrics: Sequence[str], sliced: Sequence[str], fields: Iterable[str]
) -> list[Fault]:
    """Limits of metrics and fields that this comparison does not have."""
    faults = [_unknown(f"gate.max_drop.{name}", name, metrics) for name in options.max_drop if name not in metrics]
    for field, limits in options.slices.items():
        if field not in fields:
            faults.append(_unknown(f"gate.slices.{field}", field, fields))
        wrong = [name for name in limits.max_drop if name not in sliced]
        faults += [_unknown(f"gate.slices.{field}.max_drop.{name}", name, sliced) for name in wrong]
    return faults


def _unknown(key: str, name: str, known: Iterable[str]) -> Fault:
    return Fault("gate.unknown", f"there is no {name!r} to hold", did_you_mean(name, known), column=key)


def hold(
    options: GateOptions, differences: Sequence[Difference], slices: Sequence[Slice], golden: Sequence[GoldenCheck] = ()
) -> Gate:
    """Every limit for every candidate; `slices` hold those of the limited fields and metrics."""
    checks = [_check(one, options.max_drop[one.metric]) for one in differences if one.metric in options.max_drop]
    for field, limits in options.slices.items():
        asked = [one for one in slices if one.field == field and one.metric in limits.max_drop]
        checks += [_check(one, limits.max_drop[one.metric]) for one in asked]
    return Gate(tuple(checks), tuple(golden))


def _check(one: Difference | Slice, allowed: float) -> GateCheck:
    drop = None
    if one.difference is not None:
        drop = one.difference if one.lower_is_better else -one.difference
    passed, reason = _judge(one, drop, allowed)
    where = (one.field, one.group) if isinstance(one, Slice) else (None, None)
    return GateCheck(one.candidate, one.metric, drop, allowed, one.p_worse, passed, reason, *where)


def _judge(one: Difference | Slice, drop: float | None, allowed: float) -> tuple[bool, str]:
    place = f" where {one.field} is {one.group} ({one.examples:,} examples)" if isinstance(one, Slice) else ""
    said = f"{one.candidate}: {one.metric} {number(one.baseline_value)} → {number(one.value)}{place}"
    what = "rise" if one.lower_is_better else "drop"
    if drop is None:
        return False, f"{said}: there is no value to hold"
    if drop <= allowed:
        change = f"a {what} of {number(drop)}" if drop > 0 else f"no {what}"
        return True, f"{said}: {change}, {number(allowed)} is allowed"
    said = f"{said}: a {what} of {number(drop)}, {number(allowed)} is allowed"
    if one.p_worse is None:
        if isinstance(one, Slice):
            return True, f"{said}, but {one.examples:,} examples are too few to test"
        return False, f"{said} (no test for this metric: the {what} decides)"
    p = "p < 0.001" if one.p_worse < 0.001 else f"p = {one.p_worse:.3f}"
    if one.p_worse < LEVEL and one.sure_drop is not None and one.sure_drop > allowed:
        return False, f"{said}, and at least {number(one.sure_drop)} is sure ({p})"
    if one.p_worse < LEVEL and one.sure_drop is not None:
        return True, f"{said}, but no more than {number(max(one.sure_drop, 0.0))} is sure ({p})"
    blind = ""
    if isinstance(one, Difference) and one.detectable:
        blind = f"; {what}s of {number(one.detectable)} or more would show"
    return True, f"{said}, but it may be chance ({p}{blind})"
