"""The gate's one rule: a check fails if the drop is certainly larger than allowed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from kamerton.decide.compare.assess import differences, measure
from kamerton.decide.compare.configurations import Group, ScoredRun
from kamerton.decide.compare.gate import check_gate, gate_faults
from kamerton.decide.compare.options import GateOptions, SliceLimits
from kamerton.decide.compare.slices import slice_by
from support import synthetic


def side(name: str, table: pa.Table) -> Group:
    return Group(name, (ScoredRun(Path(name), table),))


def degraded(table: pa.Table, label: str, points: float) -> pa.Table:
    """`points` of the answers to the examples of one label, right ones, made wrong."""
    truth, guess = (table[name].to_pylist() for name in ("label", "predicted_label"))
    count = round(points * truth.count(label))
    right = [i for i, (t, g) in enumerate(zip(truth, guess, strict=True)) if t == g == label][:count]
    other = next(each for each in truth if each != label)
    changed = pa.array([other if i in right else each for i, each in enumerate(guess)])
    return table.set_column(table.schema.get_field_index("predicted_label"), "predicted_label", changed)


def reseeded(table: pa.Table, share: float, seed: int) -> pa.Table:
    """Another run of the same quality: `share` of the answers change between right and wrong, both ways alike."""
    generator = np.random.default_rng(seed)
    truth, guess = (table[name].to_pylist() for name in ("label", "predicted_label"))
    labels = sorted(set(truth))
    accuracy = np.mean([t == g for t, g in zip(truth, guess, strict=True)])
    drawn = [
        g
        if generator.random() >= share
        else t
        if generator.random() < accuracy
        else labels[(labels.index(t) + 1) % len(labels)]
        for t, g in zip(truth, guess, strict=True)
    ]
    return table.set_column(table.schema.get_field_index("predicted_label"), "predicted_label", pa.array(drawn))


def gate(base: pa.Table, tuned: pa.Table, options: GateOptions) -> list[tuple[str | None, bool]]:
    groups = [side("old", base), side("new", tuned)]
    sides = measure(groups, resamples=200)
    result = differences(sides, ["accuracy"], permutations=99)
    slices = slice_by(sides, {"label": base["label"].to_pylist()}, "accuracy")
    return [(check.group, check.passed) for check in check_gate(options, result, slices).checks]


LIMITS = GateOptions({"accuracy": 0.01}, {"label": SliceLimits({"accuracy": 0.02})})


def test_the_gate_detects_a_degraded_slice_with_a_stable_overall_score() -> None:
    base = synthetic.scores(0.9, rows=900)
    result = gate(base, degraded(base, "ENTY", 0.05), LIMITS)
    assert [group for group, passed in result if not passed] == ["ENTY"]


def test_reruns_of_the_same_quality_pass() -> None:
    base = synthetic.scores(0.9, rows=900)
    failed = [any(not passed for _, passed in gate(base, reseeded(base, 0.3, seed), LIMITS)) for seed in range(30)]
    assert sum(failed) <= 5  # two families of tests at 5 % each


def test_what_seeds_alone_move_passes_where_the_baseline_has_several() -> None:
    base = synthetic.scores(0.95, rows=900)
    seeds = [degraded(base, "ENTY", points) for points in (0.0, 0.12, 0.06)]
    again = degraded(base, "ENTY", 0.10)
    assert ("ENTY", False) in gate(seeds[0], again, LIMITS)  # true of these two models
    groups = [Group("old", tuple(ScoredRun(Path(str(i)), table) for i, table in enumerate(seeds))), side("new", again)]
    sides = measure(groups, resamples=200)
    slices = slice_by(sides, {"label": base["label"].to_pylist()}, "accuracy")
    assert check_gate(LIMITS, differences(sides, ["accuracy"]), slices).passed


def test_the_gate_fails_on_a_drop_larger_than_allowed() -> None:
    base, worse = synthetic.scores(0.9, rows=600, seed=1), synthetic.scores(0.8, rows=600, seed=2)
    assert gate(base, worse, GateOptions({"accuracy": 0.01})) == [(None, False)]
    assert gate(base, worse, GateOptions({"accuracy": 0.30})) == [(None, True)]
    assert gate(worse, base, GateOptions({"accuracy": 0.0})) == [(None, True)]


def test_a_drop_that_is_real_but_perhaps_no_larger_than_allowed_passes() -> None:
    base = synthetic.scores(0.9, rows=900)
    groups = [side("old", base), side("new", degraded(base, "ENTY", 0.12))]
    result = differences(measure(groups, resamples=500), ["accuracy"], permutations=9)
    (check,) = check_gate(GateOptions({"accuracy": 0.015}), result, []).checks
    assert check.drop > 0.015
    assert check.p < 0.001
    assert check.passed
    assert "is certain (p < 0.001)" in check.reason
    assert not check_gate(GateOptions({"accuracy": 0.008}), result, []).passed


def test_a_rise_is_a_drop_if_lower_is_better() -> None:
    groups = [side("old", synthetic.scores(0.9, seed=1)), side("new", synthetic.scores(0.5, seed=2))]
    result = differences(measure(groups, resamples=200), ["loss", "ece"], permutations=499)
    checks = check_gate(GateOptions({"loss": 0.1, "ece": 0.0}), result, []).checks
    assert [(check.metric, check.passed) for check in checks] == [("loss", False), ("ece", False)]
    assert "the rise decides" in checks[1].reason


def test_the_gate_checks_lower_is_better_metrics_for_a_rise() -> None:
    def wrong(accuracy: float, seed: int) -> pa.Table:
        table = synthetic.scores(accuracy, seed=seed)
        values = pc.cast(pc.not_equal(table["label"], table["predicted_label"]), pa.float64())
        metadata = {**table.schema.metadata, b"lower_is_better": b'["wrong"]'}
        return table.append_column("metric:wrong", values).replace_schema_metadata(metadata)

    sides = measure([side("old", wrong(0.9, 1)), side("new", wrong(0.5, 2))], resamples=200)
    (result,) = differences(sides, ["wrong"], permutations=499)
    parts = slice_by(sides, {"all": ["x"] * 200}, "wrong")
    assert (result.verdict, parts[0].verdict) == ("worse", "worse")
    assert result.sure_drop > 0.2
    assert result.p_worse == parts[0].p_worse < 0.001
    checks = check_gate(GateOptions({"wrong": 0.1}, {"all": SliceLimits({"wrong": 0.1})}), [result], parts).checks
    assert [check.passed for check in checks] == [False, False]
    assert checks[0].drop == result.difference > 0
    better = differences(
        measure([side("old", wrong(0.5, 2)), side("new", wrong(0.9, 1))], resamples=200), ["wrong"], 99
    )
    assert better[0].verdict == "better"
    assert check_gate(GateOptions({"wrong": 0.0}), better, []).passed


def test_limits_on_missing_metrics_are_faults() -> None:
    options = GateOptions({"acuracy": 0.1}, {"lable": SliceLimits({"accuracy": 0.1, "f1": 0.1})})
    faults = gate_faults(options, ["accuracy", "f1"], ["accuracy"], ["label"])
    assert [fault.column for fault in faults] == [
        "gate.max_drop.acuracy",
        "gate.slices.lable",
        "gate.slices.lable.max_drop.f1",
    ]
    assert "did you mean 'accuracy'?" in faults[0].fix


@pytest.mark.parametrize("rows", [40])
def test_a_drop_below_the_detectable_difference_passes_with_that_reason(rows: int) -> None:
    base = synthetic.scores(0.9, rows=rows)
    groups = [side("old", base), side("new", degraded(base, base["label"][0].as_py(), 0.3))]
    result = differences(measure(groups, resamples=200), ["accuracy"], permutations=99)
    (check,) = check_gate(GateOptions({"accuracy": 0.01}), result, []).checks
    assert check.passed
    assert "it may be chance" in check.reason
    assert "or more would show" in check.reason


def test_a_slice_too_small_to_test_passes_with_that_reason() -> None:
    base = synthetic.scores(1.0, rows=200)
    groups = ["few" if at < 3 else "many" for at in range(base.num_rows)]
    wrong = pa.array([None if at < 3 else each for at, each in enumerate(base["predicted_label"].to_pylist())])
    worse = base.set_column(base.schema.get_field_index("predicted_label"), "predicted_label", wrong)
    seeds = tuple(ScoredRun(Path(name), base) for name in ("old1", "old2"))  # several: few examples prove nothing
    sides = measure([Group("old", seeds), side("new", worse)], resamples=50)
    options = GateOptions({}, {"kind": SliceLimits({"accuracy": 0.01})})
    checks = {
        check.group: check for check in check_gate(options, [], slice_by(sides, {"kind": groups}, "accuracy")).checks
    }
    assert checks["few"].drop == 1.0
    assert checks["few"].passed
    assert "3 examples are too few to test" in checks["few"].reason


def test_a_metric_with_lower_is_better_rises() -> None:
    base, tuned = synthetic.scores(0.9, seed=1), synthetic.scores(0.5, seed=2)
    result = differences(measure([side("old", base), side("new", tuned)], resamples=200), ["loss", "accuracy"], 99)
    reasons = {
        difference.metric: difference.reason
        for difference in check_gate(GateOptions({"loss": 0.01, "accuracy": 0.01}), result, []).checks
    }
    assert "a rise of " in reasons["loss"]
    assert "drop" not in reasons["loss"]
    assert "a drop of " in reasons["accuracy"]
