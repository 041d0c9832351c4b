"""The table after a sweep: one row per point, with the varied keys, the test metrics and the run directory."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from kamerton.config.jobs import SweepJob
from kamerton.console import plain_console
from kamerton.mask import mask_text

_METRICS = ("loss", "accuracy")


def print_sweep_table(points: Sequence[SweepJob], console: Console | None = None) -> None:
    """Print the points in the order they ran; a failed one shows the reason instead of its metrics."""
    varied = _varied(points)
    table = Table(title=f"{len(points)} runs, test split")
    for key in varied:
        table.add_column(key, overflow="fold")
    for name in _METRICS:
        table.add_column(name, justify="right")
    table.add_column("run directory", overflow="fold")
    for point in points:
        cells = (*(_typed(point).get(key, "") for key in varied), *_ending(point))
        table.add_row(*map(escape, cells))
    (console or plain_console()).print(table)


def _ending(point: SweepJob) -> list[str]:
    if point.result is None:
        return [*("–" for _ in _METRICS), f"failed: {point.error}"]
    values = [point.result.metrics.get(name) for name in _METRICS]
    return [*("–" if value is None else f"{value:.4f}" for value in values), str(point.result.path)]


def _varied(points: Sequence[SweepJob]) -> list[str]:
    """Return the keys that differ between points."""
    keys = dict.fromkeys(key for point in points for key in _typed(point))
    return [key for key in keys if len({_typed(point).get(key) for point in points}) > 1]


def _typed(point: SweepJob) -> dict[str, str]:
    pairs = (mask_text(text).partition("=") for text in point.overrides)
    return {key: value for key, _, value in pairs}
