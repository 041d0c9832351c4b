"""The regression gate: is a candidate worse than the baseline by more than is allowed?

A check fails if the drop is certainly larger than allowed: its lower bound (95 %, one-sided) exceeds the limit, and a
one-sided test finds the candidate worse at the 5 % level (for slices corrected over the groups of a field). A drop that
is larger than allowed but not certainly so passes, and is reported with its lower bound. A metric without a test
(`ece`) is judged by its drop alone.
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
    """Return a fault for each limit of a metric or field that this comparison does not have."""
    faults = [_unknown(f"gate.max_drop.{name}", name, metrics) for name in options.max_drop if name not in metrics]
    for field, limits in options.slices.items():
        if field not in fields:
            faults.append(_unknown(f"gate.slices.{field}", field, fields))
        unknown = [name for name in limits.max_drop if name not in sliced]
        faults += [_unknown(f"gate.slices.{field}.max_drop.{name}", name, sliced) for name in unknown]
    return faults


def _unknown(key: str, name: str, available: Iterable[str]) -> Fault:
    message = f"{name!r} is not part of this comparison"
    return Fault("gate.unknown", message, did_you_mean(name, available), column=key)


def check_gate(
    options: GateOptions, differences: Sequence[Difference], slices: Sequence[Slice], golden: Sequence[GoldenCheck] = ()
) -> Gate:
    """Check every limit for every candidate; `slices` must include the limited fields and metrics."""
    checks = [
        _check(result, options.max_drop[result.metric]) for result in differences if result.metric in options.max_drop
    ]
    for field, limits in options.slices.items():
        limited = [part for part in slices if part.field == field and part.metric in limits.max_drop]
        checks += [_check(result, limits.max_drop[result.metric]) for result in limited]
    return Gate(tuple(checks), tuple(golden))


def _check(result: Difference | Slice, allowed: float) -> GateCheck:
    drop = None
    if result.difference is not None:
        drop = result.difference if result.lower_is_better else -result.difference
    passed, reason = _judge(result, drop, allowed)
    where = (result.field, result.group) if isinstance(result, Slice) else (None, None)
    return GateCheck(result.candidate, result.metric, drop, allowed, result.p_worse, passed, reason, *where)


def _judge(result: Difference | Slice, drop: float | None, allowed: float) -> tuple[bool, str]:
    """Return whether the check passes, and why."""
    place = ""
    if isinstance(result, Slice):
        place = f" where {result.field} is {result.group} ({result.examples:,} examples)"
    values = f"{result.candidate}: {result.metric} {number(result.baseline_value)} → {number(result.value)}{place}"
    change = "rise" if result.lower_is_better else "drop"
    if drop is None:
        return False, f"{values}: no value to check"
    if drop <= allowed:
        amount = f"a {change} of {number(drop)}" if drop > 0 else f"no {change}"
        return True, f"{values}: {amount}, {number(allowed)} is allowed"
    values = f"{values}: a {change} of {number(drop)}, {number(allowed)} is allowed"
    if result.p_worse is None:
        if isinstance(result, Slice):
            return True, f"{values}, but {result.examples:,} examples are too few to test"
        return False, f"{values} (this metric has no test: the {change} decides)"
    p = "p < 0.001" if result.p_worse < 0.001 else f"p = {result.p_worse:.3f}"
    if result.p_worse < LEVEL and result.sure_drop is not None and result.sure_drop > allowed:
        return False, f"{values}, and at least {number(result.sure_drop)} is certain ({p})"
    if result.p_worse < LEVEL and result.sure_drop is not None:
        return True, f"{values}, but no more than {number(max(result.sure_drop, 0.0))} is certain ({p})"
    power = ""
    if isinstance(result, Difference) and result.detectable:
        power = f"; {change}s of {number(result.detectable)} or more would show"
    return True, f"{values}, but it may be chance ({p}{power})"
