"""Slices: what they are, and that their numbers and tests are those of the examples in them."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pyarrow as pa
import pytest
from scipy import stats

from kamerton.decide.compare.assess import Measured, measure
from kamerton.decide.compare.configurations import Group, ScoredRun
from kamerton.decide.compare.fields import fields_of, quartiles
from kamerton.decide.compare.significance import holm
from kamerton.decide.compare.slices import slice_by, slice_metrics
from kamerton.errors import UserError
from kamerton.score.metrics import compute
from support import synthetic


def with_metadata(table: pa.Table, rows: list[dict[str, object]]) -> pa.Table:
    return table.set_column(
        table.schema.get_field_index("metadata"), "metadata", pa.array([json.dumps(row) for row in rows])
    )


def test_metadata_that_are_nested_without_end_are_a_fault() -> None:
    table = synthetic.scores(0.8)
    texts = ["{}"] * (table.num_rows - 1) + ["[" * 100_000]
    table = table.set_column(table.schema.get_field_index("metadata"), "metadata", pa.array(texts))
    with pytest.raises(UserError) as error:
        fields_of(table)
    assert [(fault.code, fault.row) for fault in error.value.faults] == [("scores.unreadable", table.num_rows)]


def groups(*tables: pa.Table) -> list[Measured]:
    sides = [Group(f"side{i}", (ScoredRun(Path(f"{i}"), table),)) for i, table in enumerate(tables)]
    return measure(sides, resamples=10)


def test_fields_are_labels_lengths_and_usable_metadata() -> None:
    rows = [
        {
            "topic": "ab"[i % 2],
            "year": 1900 + i,
            "name": f"person {i}",
            "same": 1,
            "flag": i % 3 == 0,
            "tags": ["x", "yz"[i % 2]],
        }
        for i in range(200)
    ]
    fields, notices = fields_of(with_metadata(synthetic.scores(0.8), rows))
    assert list(fields) == ["label", "prompt_length", "topic", "year", "flag", "tags"]
    assert set(fields["tags"]) == {"x, y", "x, z"}
    assert sorted(set(fields["topic"])) == ["a", "b"]
    assert sorted(set(fields["year"])) == ["1,900 to 1,949", "1,950 to 1,999", "2,000 to 2,049", "2,050 to 2,099"]
    assert set(fields["flag"]) == {"true", "false"}
    assert ["name" in notice.message for notice in notices] == [True]


def test_a_field_that_is_nan_or_blank_in_some_rows_still_makes_slices() -> None:
    rows = [
        {"year": math.nan if i % 5 == 0 else 1900 + i, "place": " " if i % 5 == 1 else "ab"[i % 2]} for i in range(200)
    ]
    fields, notices = fields_of(with_metadata(synthetic.scores(0.8), rows))
    assert not notices
    assert [fields["year"].count(None), fields["place"].count(None)] == [40, 40]
    assert len(set(fields["year"])) == 5
    assert set(fields["place"]) == {None, "a", "b"}


def test_quartiles_hold_a_quarter_each_and_leave_out_the_unknown() -> None:
    names = quartiles([*range(100), None])
    assert sorted(names.count(name) for name in set(names) - {None}) == [25, 25, 25, 25]
    assert names[-1] is None
    assert set(quartiles([3, 3, 3])) == {"3"}


def test_a_slices_numbers_are_those_of_its_examples() -> None:
    base, tuned = synthetic.scores(0.6, seed=1), synthetic.scores(0.9, seed=2)
    names = ["even" if i % 2 == 0 else None for i in range(200)]
    for metric in ("accuracy", "loss"):
        (result,) = slice_by(groups(base, tuned), {"half": names}, metric)
        inside = pa.array(range(0, 200, 2))
        values = [compute(table.take(inside))[metric] for table in (base, tuned)]
        assert (result.baseline_value, result.value) == pytest.approx(values)
        assert result.difference == pytest.approx(values[1] - values[0])
        assert result.difference_low < result.difference < result.difference_high
        assert result.low < result.value < result.high
        assert result.examples == 100
        assert result.verdict == "better"


def test_slice_against_rest_is_fishers_test_corrected_over_the_groups() -> None:
    table = synthetic.scores(0.8, rows=300, seed=4)
    result = slice_by(groups(table, table), {"label": table["label"].to_pylist()}, "accuracy")
    right = [t == g for t, g in zip(*(table[name].to_pylist() for name in ("label", "predicted_label")), strict=True)]
    raw = []
    for difference in result:
        inside = [r for r, label in zip(right, table["label"].to_pylist(), strict=True) if label == difference.group]
        law = stats.hypergeom(300, sum(right), len(inside))
        lower = law.cdf(sum(inside)) - law.pmf(sum(inside)) / 2
        raw.append(min(1.0, 2 * min(lower, 1 - lower)))
    assert [difference.p_rest for difference in result] == pytest.approx(holm(raw), abs=1e-9)
    assert [difference.verdict for difference in result] == ["no difference shown"] * len(result)


def test_the_loss_of_a_slice_against_the_rest_is_students_test() -> None:
    table = synthetic.scores(0.8, rows=120, seed=4)
    names = ["here" if i < 40 else None for i in range(120)]
    (result,) = slice_by(groups(table, table), {"place": names}, "loss")
    nll = table["nll"].to_numpy()
    assert result.p_rest == pytest.approx(stats.ttest_ind(nll[:40], nll[40:]).pvalue, abs=1e-9)


def test_several_seeds_make_wider_slices_than_one() -> None:
    base = synthetic.scores(0.5, seed=9)
    runs = tuple(ScoredRun(Path(str(seed)), synthetic.scores(0.7 + seed / 20, seed=seed)) for seed in (1, 2, 3))
    sides = measure([Group("base", (ScoredRun(Path("base"), base),)), Group("three", runs), Group("one", runs[:1])])
    result, alone = slice_by(sides, {"all": ["x"] * 200}, "accuracy")
    values = [compute(run.table)["accuracy"] for run in runs]
    assert result.value == pytest.approx(sum(values) / 3)
    assert result.high - result.low > alone.high - alone.low


def test_seeds_that_agree_on_a_handful_of_examples_prove_nothing() -> None:
    wrong, right = synthetic.scores(0.0), synthetic.scores(1.0)
    runs = tuple(ScoredRun(Path(str(seed)), right) for seed in (1, 2, 3))
    sides = measure([Group("base", (ScoredRun(Path("base"), wrong),)), Group("three", runs)], resamples=10)
    names = ["few"] * 9 + ["enough"] * 12 + [None] * 179
    verdicts = {
        difference.group: (difference.p, difference.verdict)
        for difference in slice_by(sides, {"size": names}, "accuracy")
    }
    assert verdicts["few"] == (None, "not tested")
    assert verdicts["enough"][1] == "better"


def test_slices_use_the_metrics_that_every_configuration_has() -> None:
    labelled, free = synthetic.scores(0.8), synthetic.scores(0.8, labelled=False)
    assert slice_metrics(groups(labelled, labelled)) == ["accuracy", "loss", "token_accuracy"]
    assert slice_metrics(groups(labelled, free)) == ["loss", "token_accuracy"]
