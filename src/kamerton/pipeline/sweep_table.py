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
    pairs = ([mask_text(text).partition("=") for text in point.overrides] for point in points)
    overrides = [{key: value for key, _, value in parts} for parts in pairs]
    all_keys = dict.fromkeys(key for values in overrides for key in values)
    keys = [key for key in all_keys if len({values.get(key) for values in overrides}) > 1]
    table = Table(title=f"{len(points)} runs, test split")
    for key in keys:
        table.add_column(key, overflow="fold")
    for name in _METRICS:
        table.add_column(name, justify="right")
    table.add_column("run directory", overflow="fold")
    for point, values in zip(points, overrides, strict=True):
        if point.result is None:
            cells = [*("–" for _ in _METRICS), f"failed: {point.error}"]
        else:
            metrics = [point.result.metrics.get(name) for name in _METRICS]
            cells = [*("–" if value is None else f"{value:.4f}" for value in metrics), str(point.result.path)]
        table.add_row(*(escape(text) for text in (*(values.get(key, "") for key in keys), *cells)))
    (console or plain_console()).print(table)
