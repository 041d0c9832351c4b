"""The search space: Hydra's grammar in, Optuna's distributions, and overrides that mean the same value again."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import (
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    distribution_to_json,
    json_to_distribution,
)

from hydra_plugins.kamerton._space import Dimension, SweepError, override_value, parse_space

parser = OverridesParser.create()
words = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
tricky = st.text(st.sampled_from(list("ab'\"\\,:={}[]() \t$#~+-.1e_/%")), max_size=10)
numbers = st.integers() | st.floats()
scalars = st.none() | st.booleans() | numbers | words | tricky | st.sampled_from(["1", "true", "null", "nan", "${a}"])
keys = st.from_regex(r"[a-zA-Z_][a-zA-Z0-9_]*", fullmatch=True).filter(
    lambda key: key.lower() not in ("true", "false", "null", "nan", "inf")
)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3))


def read(text: str) -> Any:
    return parser.parse_override(text).value()


def only(text: str) -> Dimension:
    (dimension,) = parse_space({"x": text}, []).dimensions.values()
    return dimension


@settings(max_examples=300, deadline=None)
@given(value=values)
def test_any_value_is_read_back_with_its_type(value: Any) -> None:
    assert repr(read(f"x={override_value(value)}")) == repr(value)


@settings(max_examples=150, deadline=None)
@given(choices=st.lists(values, min_size=1, max_size=5))
def test_any_choices_are_kept_by_optuna_and_reach_the_job_as_they_are(choices: list[Any]) -> None:
    (dimension,) = parse_space({"x": choices}, []).dimensions.values()
    kept = json_to_distribution(distribution_to_json(dimension.distribution))
    assert isinstance(kept, CategoricalDistribution)
    reached = [repr(read(dimension.override(choice))) for choice in kept.choices]
    assert reached == list(dict.fromkeys(map(repr, choices)))
    assert [dimension.stored(choice) for choice in choices] == [
        kept.choices[reached.index(repr(choice))] for choice in choices
    ]


def test_choices_that_python_takes_for_equal_are_told_apart() -> None:
    dimension = only("1,true,1.0,'1'")
    assert isinstance(dimension.distribution, CategoricalDistribution)
    assert [dimension.override(choice) for choice in dimension.distribution.choices] == [
        *("x=1", "x=true", "x=1.0", "x='1'")
    ]


steps = st.integers(-7, 7).filter(bool)


@settings(deadline=None)
@given(start=st.integers(-20, 20), stop=st.integers(-20, 20), step=steps)
def test_a_range_of_integers_has_the_values_that_hydra_expands(start: int, stop: int, step: int) -> None:
    check_range(f"range({start},{stop},{step})", IntDistribution)


@settings(max_examples=300, deadline=None)
@given(start=st.integers(-30, 30), stop=st.integers(-30, 30), step=steps, scale=st.sampled_from([10, 7, 3, 11, 1000]))
def test_a_range_of_floats_has_the_values_that_hydra_expands(start: int, stop: int, step: int, scale: int) -> None:
    check_range(f"range({start / scale!r},{stop / scale!r},{step / scale!r})", FloatDistribution)


def check_range(text: str, kind: type[IntDistribution | FloatDistribution]) -> None:
    expanded = [f"x={item}" for item in parser.parse_override(f"x={text}").sweep_string_iterator()]
    if not expanded:
        with pytest.raises(SweepError, match="is empty"):
            only(text)
        return
    dimension = only(text)
    assert isinstance(dimension.distribution, kind)
    assert sorted(dimension.override(value) for value in dimension.grid()) == sorted(expanded)
    assert json_to_distribution(distribution_to_json(dimension.distribution)) == dimension.distribution
    low, high, step = (getattr(dimension.distribution, name) for name in ("low", "high", "step"))
    suggested = [low + number * step for number in range(round((high - low) / step) + 1)]
    assert sorted(dimension.override(value) for value in suggested) == sorted(expanded)


ends = st.floats(-1e6, 1e6)


@settings(deadline=None)
@given(low=ends, high=ends)
def test_an_interval_has_both_of_its_ends(low: float, high: float) -> None:
    text = f"interval({low!r},{high!r})"
    if low > high:
        with pytest.raises(SweepError, match="finite bounds, the lower one first"):
            only(text)
        return
    dimension = only(text)
    assert dimension.distribution == FloatDistribution(low, high)
    for end in dimension.samples():
        assert read(dimension.override(end)) == end


def test_integers_and_log_scales() -> None:
    assert only("int(interval(1,8))").distribution == IntDistribution(1, 8)
    assert only("range(1,8)").distribution == IntDistribution(1, 7)
    assert only("tag(log, interval(1e-5,1e-1))").distribution == FloatDistribution(1e-5, 1e-1, log=True)
    assert only("tag(log, int(interval(1,64)))").distribution == IntDistribution(1, 64, log=True)
    assert only("int(tag(log, interval(1,64)))").distribution == IntDistribution(1, 64, log=True)
    assert isinstance(parser.parse_override("x=interval(1,8)").value(), IntervalSweep)
    assert not math.isnan(float(only("float(range(1,3))").samples()[0]))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tag(log, interval(0,1))", "a lower bound above 0"),
        ("tag(log, range(1,9,2))", "step 1"),
        ("tag(log, choice(1,2))", "no log scale"),
        ("tag(ordered, choice(1,2))", "the only tag is log"),
        ("range(1,5,0)", "step other than 0"),
        ("interval(0,inf)", "finite"),
        ("choice(", "x=choice("),
    ],
)
def test_an_invalid_space_is_reported(text: str, message: str) -> None:
    with pytest.raises(SweepError) as caught:
        only(text)
    assert message in str(caught.value)


def test_all_faults_are_reported_together() -> None:
    with pytest.raises(SweepError) as caught:
        parse_space({"a": "range(1,1)", "b": "interval(2,1)"}, ["c=tag(log, interval(-1,1))"])
    assert all(key in str(caught.value) for key in ("a=range(1,1)", "b=interval(2,1)", "c=tag("))


def test_the_command_line_adds_replaces_and_takes_out() -> None:
    params = {"a": "1,2", "b": {"c": "interval(0,1)", "d": [1, 2], "e": None}, "f": 3, "g": "1,2"}
    space = parse_space(params, ["++a=interval(5,6)", "b.c=0.5", "h=x,y", "f=7"])
    assert {key: item.text for key, item in space.dimensions.items()} == {
        "a": "interval(5.0,6.0)",
        "b.d": "choice(1,2)",
        "g": "choice(1,2)",
        "h": "choice(x,y)",
    }
    assert space.fixed == ("b.c=0.5", "f=7")
    assert space.overrides({"a": 5.5, "b.d": 2}) == ["++a=5.5", "b.d=2"]


def test_a_mapping_whose_keys_cannot_be_typed_is_refused() -> None:
    with pytest.raises(SweepError, match="cannot be written as an override"):
        parse_space({"x": [{"1": "a"}, {"b": 2}]}, [])
