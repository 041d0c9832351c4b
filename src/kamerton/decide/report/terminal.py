"""A comparison in the terminal: a table and a sentence for each candidate, then what to look at."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from kamerton.decide.compare.assess import COHEN_G
from kamerton.decide.compare.comparison import Comparison, Configuration, Difference, Estimate, Gate
from kamerton.decide.compare.words import main_difference, verdict_word
from kamerton.words import bounds_text, number, signed

MOST_LINES = 8

_STYLES = {"better": "bold green", "worse": "bold red", "no difference shown": "", "not tested": "dim"}


def print_comparison(console: Console, comparison: Comparison) -> None:
    """Print it."""
    for candidate in comparison.candidates:
        table = _table(comparison, candidate, wide=True)
        console.print(table if _fits(console, table) else _table(comparison, candidate, wide=False))
    for candidate in comparison.candidates:
        _say_candidate(console, comparison, candidate.name)
    for notice in comparison.notices:
        subject = f"{notice.subject}: " if notice.subject else ""
        advice = f" ({notice.advice})" if notice.advice else ""
        _line(console, f"note    {subject}{notice.message}{advice}", "yellow")
    if comparison.gate is not None:
        _say_gate(console, comparison.gate)


def _fits(console: Console, table: Table) -> bool:
    anywhere = console.options.update(max_width=10_000)
    return table.__rich_measure__(console, anywhere).maximum <= console.width


def _line(console: Console, text: str, style: str = "") -> None:
    console.print(text, style=style, highlight=False, markup=False, soft_wrap=True)


def _say_candidate(console: Console, comparison: Comparison, name: str) -> None:
    """The verdict, then what changed where."""
    one = main_difference([difference for difference in comparison.differences if difference.candidate == name])
    _line(console, comparison.verdicts[name], _STYLES[one.verdict] if one else "")
    for changed in (each for each in comparison.changed if each.candidate == name):
        _line(console, f"        {changed.fixed_count:,} examples fixed, {changed.broken_count:,} broken")
    told = [each for each in comparison.slices if each.candidate == name and each.verdict in ("better", "worse")]
    told.sort(key=lambda each: (each.verdict != "worse", -abs(each.difference or 0)))
    for each in told[:MOST_LINES]:
        where = f"        {each.verdict} where {each.field} is {each.group}: {each.metric}"
        _line(console, f"{where} {number(each.baseline_value)} → {number(each.value)} on {each.examples:,} examples")
    if len(told) > MOST_LINES:
        _line(console, f"        and in {len(told) - MOST_LINES} more slices")


def _say_gate(console: Console, gate: Gate) -> None:
    """What failed, then whether the gate passed."""
    failed = [check.reason for check in gate.checks if not check.passed]
    failed += [f"{check.source}: {check.reason}" for check in gate.golden if not check.passed]
    for reason in failed:
        _line(console, f"failed  {reason}", "bold red")
    chance = [check.reason for check in gate.checks if check.passed and (check.drop or 0) > check.allowed]
    for reason in chance:
        _line(console, f"passed  {reason}", "yellow")
    count = len(gate.checks) + len(gate.golden)
    verdict = f"gate    {'failed' if failed else 'passed'}: {count - len(failed)} of {count} checks hold"
    _line(console, verdict, "bold red" if failed else "bold green")


def _table(comparison: Comparison, candidate: Configuration, *, wide: bool) -> Table:
    """Every metric of one candidate; on a narrow terminal without effect and power, and in fewer words."""
    count = len(comparison.candidates)
    corrected = f", p corrected for {count} candidates" if count > 1 else ""
    seeds = f" ({len(candidate.runs)} seeds)" if len(candidate.runs) > 1 else ""
    about = f"{comparison.split} split, {comparison.examples:,} examples, 95 % intervals{corrected}"
    title = f"[bold]{escape(candidate.name)}{seeds} against {escape(comparison.baseline.name)}[/bold]\n{about}"
    table = Table(title=title, title_style="", box=box.HEAVY_HEAD if wide else box.SIMPLE_HEAD, pad_edge=wide)
    more = ("effect", "would show") if wide else ()
    table.add_column("metric", no_wrap=True)
    sides = ("baseline", "candidate") if wide else ("from", "to")
    for name in (*sides, "difference", "p", *more):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for one in (each for each in comparison.differences if each.candidate == candidate.name):
        before, after = (side.metrics.get(one.metric) for side in (comparison.baseline, candidate))
        table.add_row(one.metric, *_cells(one, before, after, wide=wide))
    return table


def _cells(one: Difference, before: Estimate | None, after: Estimate | None, *, wide: bool) -> list[str]:
    bounds = escape(bounds_text((one.low, one.high))) if one.low is not None else ""
    change = f"{signed(one.difference)}{bounds}" if one.difference is not None else ""
    p = "" if one.p_holm is None else "<0.001" if one.p_holm < 0.001 else f"{one.p_holm:.3f}"
    effect = "" if one.effect is None else f"{'g' if one.effect_name == COHEN_G else 'd'} {signed(one.effect)}"
    power = number(one.detectable) if one.detectable else ""
    style, word = _STYLES[one.verdict], verdict_word(one.verdict, one.difference, one.low, one.high)
    said = f"[{style}]{word}[/{style}]" if style else word
    values = [_value(each, spread=wide) for each in (before, after)]
    return [*values, change, p, *((effect, power) if wide else ()), said]


def _value(estimate: Estimate | None, *, spread: bool) -> str:
    if estimate is None:
        return ""
    by_seed = f" ± {number(estimate.spread)}" if spread and estimate.spread is not None else ""
    return f"{number(estimate.value)}{by_seed}"
