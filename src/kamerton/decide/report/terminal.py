"""Print a comparison: a table and a sentence for each candidate, then notices and the gate."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from kamerton.decide.compare.assess import COHEN_G
from kamerton.decide.compare.comparison import Comparison, Configuration, Difference, Estimate, Gate
from kamerton.decide.compare.words import main_difference, metric_title, rows_of, verdict_word
from kamerton.words import bounds_text, number, signed

MAX_SLICES = 8

_STYLES = {"better": "bold green", "worse": "bold red", "no difference shown": "", "not tested": "dim"}


def print_comparison(console: Console, comparison: Comparison) -> None:
    """Print tables (narrower ones if the terminal is too narrow), verdicts, notices and the gate."""
    unlimited = console.options.update(max_width=10_000)
    for candidate in comparison.candidates:
        table = _table(comparison, candidate, wide=True)
        fits = table.__rich_measure__(console, unlimited).maximum <= console.width
        console.print(table if fits else _table(comparison, candidate, wide=False))
    for candidate in comparison.candidates:
        _print_candidate(console, comparison, candidate.name)
    for notice in comparison.notices:
        subject = f"{notice.subject}: " if notice.subject else ""
        advice = f" ({notice.advice})" if notice.advice else ""
        _line(console, f"note    {subject}{notice.message}{advice}", "yellow")
    if comparison.gate is not None:
        _print_gate(console, comparison.gate)


def _line(console: Console, text: str, style: str = "") -> None:
    console.print(text, style=style, highlight=False, markup=False, soft_wrap=True)


def _print_candidate(console: Console, comparison: Comparison, name: str) -> None:
    """Print the verdict, the numbers of changed examples, and the slices that are better or worse."""
    main = main_difference([difference for difference in comparison.differences if difference.candidate == name])
    _line(console, comparison.verdicts[name], _STYLES[main.verdict] if main else "")
    for changed in comparison.changed:
        if changed.candidate == name:
            _line(console, f"        {changed.fixed_count:,} examples fixed, {changed.broken_count:,} broken")
    slices = [part for part in comparison.slices if part.candidate == name and part.verdict in ("better", "worse")]
    slices.sort(key=lambda part: (part.verdict != "worse", -abs(part.difference or 0)))
    for part in slices[:MAX_SLICES]:
        where = f"        {part.verdict} where {part.field} is {part.group}: {part.metric}"
        _line(console, f"{where} {number(part.baseline_value)} → {number(part.value)} on {part.examples:,} examples")
    if len(slices) > MAX_SLICES:
        _line(console, f"        and in {len(slices) - MAX_SLICES} more slices")


def _print_gate(console: Console, gate: Gate) -> None:
    """Print failed checks, passed checks with a drop above the limit, and whether the gate passed."""
    failed = [check.reason for check in gate.checks if not check.passed]
    failed += [f"{check.source}: {check.reason}" for check in gate.golden if not check.passed]
    for reason in failed:
        _line(console, f"failed  {reason}", "bold red")
    for check in gate.checks:
        if check.passed and (check.drop or 0) > check.allowed:
            _line(console, f"passed  {check.reason}", "yellow")
    count = len(gate.checks) + len(gate.golden)
    verdict = f"gate    {'failed' if failed else 'passed'}: {count - len(failed)} of {count} checks passed"
    _line(console, verdict, "bold red" if failed else "bold green")


def _table(comparison: Comparison, candidate: Configuration, *, wide: bool) -> Table:
    """Return a table of every metric of one candidate; the narrow one has no effect and power columns."""
    count = len(comparison.candidates)
    corrected = f", p corrected for {count} candidates" if count > 1 else ""
    seeds = f" ({len(candidate.runs)} seeds)" if len(candidate.runs) > 1 else ""
    subtitle = (
        f"{comparison.split} split, {comparison.examples:,} {rows_of(comparison.baseline)}, 95 % intervals{corrected}"
    )
    title = f"[bold]{escape(candidate.name)}{seeds} against {escape(comparison.baseline.name)}[/bold]\n{subtitle}"
    table = Table(title=title, title_style="", box=box.HEAVY_HEAD if wide else box.SIMPLE_HEAD, pad_edge=wide)
    more = ("effect", "would show") if wide else ()
    table.add_column("metric", no_wrap=wide, overflow="fold")
    values = ("baseline", "candidate") if wide else ("from", "to")
    for name in (*values, "difference", "p", *more):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=wide, min_width=len("difference"))
    for difference in comparison.differences:
        if difference.candidate == candidate.name:
            estimates = [each.metrics.get(difference.metric) for each in (comparison.baseline, candidate)]
            table.add_row(metric_title(difference.metric, candidate), *_cells(difference, estimates, wide=wide))
    return table


def _cells(result: Difference, estimates: Sequence[Estimate | None], *, wide: bool) -> list[str]:
    """Return the cells of one metric; `estimates` are those of the baseline and the candidate."""
    values = []
    for estimate in estimates:
        spread = f" ± {number(estimate.spread)}" if wide and estimate and estimate.spread is not None else ""
        values.append(f"{number(estimate.value)}{spread}" if estimate else "")
    bounds = escape(bounds_text((result.low, result.high))) if result.low is not None else ""
    change = f"{signed(result.difference)}{bounds}" if result.difference is not None else ""
    p = "" if result.p_holm is None else "<0.001" if result.p_holm < 0.001 else f"{result.p_holm:.3f}"
    effect = "" if result.effect is None else f"{'g' if result.effect_name == COHEN_G else 'd'} {signed(result.effect)}"
    power = number(result.detectable) if result.detectable else ""
    style, word = _STYLES[result.verdict], verdict_word(result.verdict, result.difference, result.low, result.high)
    verdict = f"[{style}]{word}[/{style}]" if style else word
    return [*values, change, p, *((effect, power) if wide else ()), verdict]
