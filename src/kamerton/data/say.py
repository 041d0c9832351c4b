"""The data stage in a few lines for the terminal: whatever did not reach training as it stood in the files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kamerton.data.unused import listed
from kamerton.errors import Fault


def losses(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """`(left out | mended | truncated, what and why)` of a data report; empty if every row went on as it was."""
    found = [("left out", _by_code(report["rejected"])), ("mended", _by_code(report["fixed"]))]
    cut = [_truncated(part) for part in report.get("encoded", []) if part["truncated"]]
    return [(name, text) for name, text in [*found, ("truncated", "; ".join(cut))] if text]


def where(fault: Mapping[str, Any]) -> str:
    """`file:row:column` of a fault of the report."""
    return Fault("", "", "", fault["file"], fault["row"], fault["column"]).where


def schema_words(report: Mapping[str, Any]) -> str:
    """What the columns were found to mean, of all rows, and which fields mean nothing to the model."""
    several = len(report["schemas"]) > 1
    words = "; ".join(
        f"{source + ': ' if several else ''}{name}, {count:,} rows"
        for source, names in report["schemas"].items()
        for name, count in names.items()
    )
    return f"{words}; not shown to the model: {listed(report['unused'])}" if report["unused"] else words


def split_words(report: Mapping[str, Any]) -> str:
    """How the rows were split."""
    how = report["split"]
    shares = ", ".join(f"{ratio:g}" for ratio in how["ratios"])
    words = ["given by the files" if report["split_given"] else f"shares {shares}; seed {how['seed']}"]
    if not report["split_given"] or how["folds"]:
        words += [f"{word} by {how[key]}" for key, word in _HOW.items() if how[key]]
    if how["folds"]:
        role = "is held out" if how["held_out"] == "test" else "validates"
        words.append(f"fold {how['fold']} of 0 to {how['folds'] - 1} {role}")
    return "; ".join(words)


_HOW = {"group": "grouped", "stratify": "stratified", "time": "ordered"}


def _by_code(counts: Mapping[str, int]) -> str:
    if not counts:
        return ""
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    total = sum(counts.values())
    return f"{total:,} row{'s' if total > 1 else ''}: " + ", ".join(f"{code} {count:,}" for code, count in ordered)


def _truncated(part: Mapping[str, Any]) -> str:
    rows = part["truncated"]
    text = f"{rows:,} {part['split']} row{'s' if rows > 1 else ''} to data.max_length"
    lost = part["lost_target_percent"]
    return f"{text} ({lost:.2g} % of the target tokens lost)" if lost else f"{text} (no target token lost)"
