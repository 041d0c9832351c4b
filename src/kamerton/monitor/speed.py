"""Detectors over `perf/...`: time and memory."""

from __future__ import annotations

import numpy as np

from kamerton.monitor.issue import Issue
from kamerton.monitor.series import Series


def data_starvation(series: Series) -> Issue | None:
    """Detect that the device waited for batches for more than a fifth of the time in the last 20 values."""
    waited = series.level("perf/data_wait", 20)
    if series.count("perf/data_wait") < 20 or waited < 0.2:
        return None
    return Issue(
        "data-starvation",
        "warn",
        f"{waited:.0%} of the time is spent waiting for data",
        series.step,
        {"data_wait": waited},
        "put the data on a faster disk, or leave cores for the loader (threads)",
    )


def throughput_drop(series: Series) -> Issue | None:
    """Detect less than half of the usual tokens per second, for ten values in a row."""
    values = series.recent("perf/tokens_per_s")
    if len(values) < 40:
        return None
    usual, now = float(np.median(values[:-10])), float(values[-10:].max())
    if now > 0.5 * usual:
        return None
    waiting = series.level("perf/core_wait", 10)
    shared = waiting >= 0.5
    return Issue(
        "throughput-drop",
        "warn",
        f"{now:,.0f} tokens/s after {usual:,.0f}" + (f"; {waiting:.1f} threads wait for a core" if shared else ""),
        series.step,
        {"tokens_per_s": now, "usual": usual} | ({"core_wait": waiting} if shared else {}),
        "stop the other processes that use the cores, or divide the cores among runs (threads)"
        if shared
        else "look for another process on this machine or a device that throttles; longer examples also cost more",
    )


def memory_creep(series: Series) -> Issue | None:
    """Detect peak memory that grows steadily, by a tenth within the last 40 values, after step 60."""
    values = series.recent("perf/peak_memory_mb", 40)
    if len(values) < 40 or series.step < 60:
        return None
    grown, quarter = values[-1] - values[0], [values[at + 9] - values[at] for at in range(0, 40, 10)]
    if grown < 0.1 * values[0] or min(quarter) < 0.1 * grown:
        return None
    share = float(grown / values[0])
    return Issue(
        "memory-creep",
        "warn",
        f"memory grew by {share:.0%} in {len(values)} steps, to {values[-1]:,.0f} MB, and keeps growing",
        series.step,
        {"peak_memory_mb": float(values[-1]), "grown": share},
        "look for a callback or metric that keeps tensors; the run may be killed before it finishes",
    )
