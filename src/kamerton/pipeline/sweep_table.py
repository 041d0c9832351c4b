"""The table after a sweep: one row per point, with the keys that differ, the test metrics and the run directory."""

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
    keys = _differing_keys(points)
    table = Table(title=f"{len(points)} runs, test split")
    for key in keys:
        table.add_column(key, overflow="fold")
    for name in _METRICS:
        table.add_column(name, justify="right")
    table.add_column("run directory", overflow="fold")
    for point in points:
        cells = (*(_override_values(point).get(key, "") for key in keys), *_result_cells(point))
        table.add_row(*map(escape, cells))
    (console or plain_console()).print(table)


def _result_cells(point: SweepJob) -> list[str]:
    if point.result is None:
        return [*("–" for _ in _METRICS), f"failed: {point.error}"]
    values = [point.result.metrics.get(name) for name in _METRICS]
    return [*("–" if value is None else f"{value:.4f}" for value in values), str(point.result.path)]


def _differing_keys(points: Sequence[SweepJob]) -> list[str]:
    """Return the keys that differ between points."""
    all_keys = dict.fromkeys(key for point in points for key in _override_values(point))
    return [key for key in all_keys if len({_override_values(point).get(key) for point in points}) > 1]


def _override_values(point: SweepJob) -> dict[str, str]:
    pairs = (mask_text(text).partition("=") for text in point.overrides)
    return {key: value for key, _, value in pairs}
