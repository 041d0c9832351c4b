"""Whether the regression gate catches a slice that got five points worse, and is quiet on a re-run with another seed.

    python scripts/bench/gate.py OLD NEW [--points 0.05] [--plants 100]

OLD and NEW are score tables of two runs that differ in their seed alone. `plants` times, a share of the answers to the
examples of one label, right ones chosen at random, is made wrong in OLD's table; the gate holds each label to a drop of
`--allowed`. Then NEW is held to OLD as it is.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pyarrow as pa

from kamerton.decide.compare.assess import differences, measure
from kamerton.decide.compare.configurations import Group, ScoredRun
from kamerton.decide.compare.gate import check_gate
from kamerton.decide.compare.options import GateOptions, SliceLimits
from kamerton.decide.compare.slices import slice_by
from kamerton.score.table import read_scores


def planted(table: pa.Table, label: str, points: float, generator: np.random.Generator) -> pa.Table:
    """The table with `points` of one label's answers made wrong: the label before it in the alphabet."""
    truth, guess = (np.array(table[name].to_pylist(), object) for name in ("label", "predicted_label"))
    labels = sorted(set(truth))
    right = np.flatnonzero((truth == label) & (guess == label))
    count = min(len(right), round(points * int((truth == label).sum())))
    guess[generator.choice(right, count, replace=False)] = labels[labels.index(label) - 1]
    return table.set_column(table.schema.get_field_index("predicted_label"), "predicted_label", pa.array(guess))


def failed(old: pa.Table, new: pa.Table, allowed: float, whole: float) -> list[str]:
    """The checks that fail: `whole`, or a label."""
    tables = {"old": old.sort_by("example_id"), "new": new.sort_by("example_id")}
    sides = measure([Group(name, (ScoredRun(Path(name), table),)) for name, table in tables.items()], resamples=50)
    overall = differences(sides, ["accuracy"], permutations=1)
    slices = slice_by(sides, {"label": tables["old"]["label"].to_pylist()}, "accuracy")
    options = GateOptions({"accuracy": whole}, {"label": SliceLimits({"accuracy": allowed})})
    return [check.group or "whole" for check in check_gate(options, overall, slices).checks if not check.passed]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--points", type=float, default=0.05)
    parser.add_argument("--allowed", type=float, default=0.01)
    parser.add_argument("--whole", type=float, default=0.01)
    parser.add_argument("--plants", type=int, default=100)
    options = parser.parse_args()
    old, new = read_scores(options.old), read_scores(options.new)
    print(f"re-run with another seed: {failed(old, new, options.allowed, options.whole) or 'passes'}")
    print(f"and the other way round:  {failed(new, old, options.allowed, options.whole) or 'passes'}")
    labels = old["label"].to_pylist()
    print(f"\n| label | examples | caught of {options.plants} drops by {options.points:.0%} |\n| --- | --- | --- |")
    for label in sorted(set(labels), key=labels.count, reverse=True):
        generator = np.random.default_rng(0)
        tries = [planted(old, label, options.points, generator) for _ in range(options.plants)]
        caught = sum(label in failed(old, table, options.allowed, options.whole) for table in tries)
        print(f"| {label} | {labels.count(label)} | {caught} |", flush=True)


if __name__ == "__main__":
    main()
