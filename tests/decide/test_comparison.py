"""comparison.json contains a complete comparison."""

from __future__ import annotations

import json
import math
from pathlib import Path

from kamerton.decide.compare.comparison import (
    Changed,
    Comparison,
    Configuration,
    Difference,
    Estimate,
    Gate,
    GateCheck,
    read,
    write,
)


def test_a_comparison_survives_its_file(tmp_path: Path) -> None:
    base = Configuration(
        "base", ("outputs/a",), (None,), {"accuracy": Estimate(0.5, 0.4, 0.6, (0.5,))}, is_baseline=True
    )
    tuned = Configuration(
        "lora", ("outputs/a", "outputs/b"), (1, 2), {"accuracy": Estimate(0.9, 0.8, 1.0, (0.9, 0.9), 0.0)}
    )
    check = GateCheck("lora", "accuracy", -0.4, 0.01, 1.0, True, "no drop")
    item = Difference("lora", "accuracy", 0.5, 0.9, 0.4, 0.3, 0.5, "McNemar, mid-p", 0.001, 0.001, verdict="better")
    comparison = Comparison("lora-base", "test", 100, (base, tuned), (item,), gate=Gate((check,)))
    path = write(comparison, tmp_path / "comparisons" / "lora-base")
    assert json.loads(path.read_text())["differences"][0]["verdict"] == "better"
    assert read(path.parent) == comparison
    assert read(path.parent).gate.passed


def test_non_finite_values_are_null_in_the_file(tmp_path: Path) -> None:
    changed = Changed("new", 1, 0, fixed=({"example_id": "a", "nll": math.inf},))
    write(Comparison("it", "test", 1, (), changed=(changed,)), tmp_path)
    assert read(tmp_path).changed[0].fixed == ({"example_id": "a", "nll": None},)
