"""The table of a sweep."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from kamerton.config.jobs import JobResult, SweepJob
from kamerton.pipeline.sweep_table import print_sweep_table


def test_the_table_shows_differing_keys_metrics_and_run_directory() -> None:
    console = Console(width=120, record=True)
    points = [
        SweepJob(("model=tiny", "seed=1"), JobResult(0.1, {"loss": 0.25, "accuracy": 0.9}, Path("outputs/x/r1"))),
        SweepJob(("model=tiny", "seed=2"), JobResult(0.1, {"loss": 0.5}, Path("outputs/x/r2"))),
        SweepJob(("model=tiny", "seed=3"), error="it broke", code=1),
    ]
    print_sweep_table(points, console)
    shown = console.export_text()
    assert "seed" in shown
    assert "model" not in shown
    for words in ("0.2500", "0.9000", "outputs/x/r1", "outputs/x/r2", "failed: it broke"):
        assert words in shown
