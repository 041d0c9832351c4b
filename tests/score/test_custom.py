"""Custom metrics: their place in the table, and the faults of those that cannot be used."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from kamerton.config.target_checks import check_targets
from kamerton.config.targets import metric_function
from kamerton.direction import LOWER_IS_BETTER
from kamerton.errors import RunFailed, UserError
from kamerton.score.custom import with_custom_metrics
from kamerton.score.intervals import intervals, paired_differences
from kamerton.score.metrics import compute, example_scores, lower_is_better
from kamerton.score.table import read_scores, scores_table, write_scores

MINE = ["my_metrics."]


@pytest.fixture
def mine(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A package of the user's."""
    module = ModuleType("my_metrics")
    code = """
def length(table, most=100):
    return [min(most, len(text)) for text in table["prediction"].to_pylist()]
length.higher_is_better = False
def share(table):
    return table["prediction"].to_pylist().count("yes") / table.num_rows
def short(table):
    return [1.0]
def of_yes(table):
    yes = [text for text in table["prediction"].to_pylist() if text == "yes"]
    return len(yes) / len(yes)
def broken(table):
    raise KeyError("nothing")
"""
    exec(code, module.__dict__)
    monkeypatch.setitem(sys.modules, "my_metrics", module)
    return module


def table(texts: list[str]) -> Any:
    row = {"prompt": "p", "target": "yes", "nll": 1.0, "target_tokens": 1, "correct_tokens": 1, "metadata": "{}"}
    rows = [row | {"example_id": f"{at:04}", "prediction": text} for at, text in enumerate(texts)]
    return scores_table(rows, None)


def test_a_number_for_each_example_becomes_a_column_with_everything_that_follows(
    mine: ModuleType, tmp_path: Path
) -> None:
    texts = ["yes", "no", "maybe", "yes, it is"] * 5
    scored = with_custom_metrics(table(texts), {"length": {"_target_": "my_metrics.length", "most": 5}}, MINE)
    write_scores(scored, tmp_path / "t.parquet")
    read = read_scores(tmp_path / "t.parquet")
    lengths = [min(5, len(text)) for text in texts]
    assert compute(read)["length"] == pytest.approx(np.mean(lengths))
    assert example_scores(read)["length"].tolist() == lengths
    low, high = intervals(read, resamples=100)["length"]
    assert low < np.mean(lengths) < high
    other = with_custom_metrics(table(["no"] * 20), {"length": {"_target_": "my_metrics.length"}}, MINE)
    assert paired_differences(other, read, resamples=100)["length"]["difference"] == pytest.approx(np.mean(lengths) - 2)


def test_a_number_of_the_whole_table_is_kept_with_its_interval(mine: ModuleType, tmp_path: Path) -> None:
    scored = with_custom_metrics(
        table(["yes", "no"] * 10), {"share": {"_target_": "my_metrics.share"}, "none": None}, MINE
    )
    write_scores(scored, tmp_path / "t.parquet")
    read = read_scores(tmp_path / "t.parquet")
    assert compute(read)["share"] == 0.5
    low, high = intervals(read, resamples=10)["share"]
    assert 0.2 < low < 0.5 < high < 0.8


def test_a_number_that_some_resamples_do_not_have_is_kept_without_an_interval(mine: ModuleType) -> None:
    node = {"mine": {"_target_": "my_metrics.of_yes"}}
    scored = with_custom_metrics(table(["yes", "no", "no"]), node, MINE)
    assert compute(scored)["mine"] == 1.0
    assert "mine" not in intervals(scored)


def test_a_torchmetrics_class_is_computed_over_the_texts() -> None:
    scored = with_custom_metrics(table(["yes", "yas"] * 4), {"cer": {"_target_": "torchmetrics.text.CharErrorRate"}})
    assert compute(scored)["cer"] == pytest.approx(1 / 6)


def test_a_custom_metric_can_be_lower_is_better(mine: ModuleType, tmp_path: Path) -> None:
    nodes = {
        "length": {"_target_": "my_metrics.length"},
        "share": {"_target_": "my_metrics.share"},
        "cer": {"_target_": "torchmetrics.text.CharErrorRate"},
        "score": {"_target_": "torchmetrics.text.BLEUScore"},
    }
    write_scores(with_custom_metrics(table(["yes", "no"] * 4), nodes, MINE), tmp_path / "t.parquet")
    assert lower_is_better(read_scores(tmp_path / "t.parquet"), None) == LOWER_IS_BETTER | {"length", "cer"}


def test_joined_folds_have_metrics_of_the_whole_not_of_the_first(mine: ModuleType) -> None:
    nodes = {"share": {"_target_": "my_metrics.share"}, "length": {"_target_": "my_metrics.length"}}
    first, second = (with_custom_metrics(table(texts), nodes, MINE) for texts in (["yes"] * 5, ["no"] * 15))
    whole = with_custom_metrics(pa.concat_tables([first, second]), nodes, MINE)
    assert compute(whole)["share"] == 0.25
    assert compute(whole)["length"] == pytest.approx((5 * 3 + 15 * 2) / 20)


@pytest.mark.parametrize(
    ("target", "name", "message"),
    [
        ("my_metrics.broken", "mine", "KeyError"),
        ("my_metrics.short", "mine", "shape"),
        ("my_metrics.share", "bleu", "name of a built-in metric"),
    ],
)
def test_an_invalid_metric_is_named(mine: ModuleType, target: str, name: str, message: str) -> None:
    with pytest.raises(RunFailed, match=message) as error:
        with_custom_metrics(table(["yes", "no"]), {name: {"_target_": target}}, MINE)
    assert error.value.fault.column == f"metrics.{name}"


@pytest.mark.parametrize(
    "target", ["os.system", "torch.load", "kamerton.train.callbacks.stop_on_signal", "pytorch_lightning.Trainer"]
)
def test_only_trusted_functions_may_be_named(target: str, mine: ModuleType) -> None:
    node = {"_target_": target}
    (fault,) = check_targets({"metrics": {"mine": node}}, MINE)
    assert fault.code == "config.target"
    with pytest.raises(UserError, match="may not be used as a metric"):
        metric_function(node, MINE)


def test_arguments_of_a_metric_are_checked(mine: ModuleType) -> None:
    node = {"_target_": "my_metrics.length", "mots": 3}
    (fault,) = check_targets({"metrics": {"mine": node}}, MINE)
    assert (fault.code, fault.column) == ("config.key", "metrics.mine.mots")
    assert check_targets({"metrics": {"mine": {"_target_": "my_metrics.length"}}}, MINE) == []
    assert check_targets({"callbacks": {"mine": {"_target_": "my_metrics.length"}}}, MINE) != []
