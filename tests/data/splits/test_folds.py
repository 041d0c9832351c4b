"""Folds: every row held out once, nothing alike on both sides, even shares, and no word from the order of the files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kamerton.data.gate import Prepared, prepare
from kamerton.data.option_checks import check_split_options
from kamerton.data.options import DataOptions, SplitOptions
from kamerton.data.splits.folds import connected_groups, even_folds
from kamerton.errors import UserError
from support.rows import pairs, question, write_jsonl

Gate = Callable[..., Prepared]
keys = st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=150).map(lambda values: np.array(values, np.uint64))


def held_out(gate: Gate, rows: list[dict[str, Any]], folds: int, **split: Any) -> list[list[str]]:
    """The ids of each fold; the splits of one prepared fold share no id."""
    result = []
    for fold in range(folds):
        splits = gate(rows, SplitOptions(folds=folds, fold=fold, held_out="test", **split)).splits
        ids = {name: splits[name].ids.to_pylist() for name in splits}
        everything = [id_ for part in ids.values() for id_ in part]
        assert len(everything) == len(set(everything))
        result.append(ids["test"])
    return result


@given(keys, st.integers(2, 7), st.integers(0, 9), st.randoms(), st.integers(1, 30))
def test_folds_keep_groups_whole_and_do_not_depend_on_order(
    values: np.ndarray, folds: int, seed: int, random: object, groups: int
) -> None:
    group, strata = values % np.uint64(groups), values % np.uint64(3)
    order = np.arange(len(values))
    random.shuffle(order)  # type: ignore[attr-defined]
    result = even_folds(group, folds, seed, strata)
    assert (result[order] == even_folds(group[order], folds, seed, strata[order])).all()
    assert len({(int(g), int(f)) for g, f in zip(group, result, strict=True)}) == len(np.unique(group))


@given(st.lists(st.integers(0, 60), min_size=1, max_size=6), st.integers(2, 10), st.integers(0, 3))
def test_single_rows_are_cut_as_evenly_as_numbers_allow(counts: list[int], folds: int, seed: int) -> None:
    strata = np.repeat(np.arange(len(counts)), counts).astype(np.uint64)
    rows = np.random.default_rng(seed).permutation(len(strata)).astype(np.uint64)
    result = even_folds(rows, folds, seed, strata)
    for stratum in range(len(counts)):
        sizes = np.bincount(result[strata == stratum], minlength=folds)
        assert sizes.max() - sizes.min() <= 1
    sizes = np.bincount(result, minlength=folds)
    assert sizes.max() - sizes.min() <= 1


def test_single_rows_level_what_large_groups_make_uneven() -> None:
    groups = np.concatenate([np.zeros(30), np.ones(20), 2 + np.arange(100)]).astype(np.uint64)
    sizes = np.bincount(even_folds(groups, 5, 0), minlength=5)
    assert sizes.tolist() == [30, 30, 30, 30, 30]


def test_rows_alike_in_any_way_are_one_unit_named_by_its_smallest_id() -> None:
    ids = np.array([50, 40, 30, 20, 10], np.uint64)
    first, second = np.array([1, 1, 2, 3, 4], np.uint64), np.array([7, 8, 8, 9, 5], np.uint64)
    assert connected_groups(ids, first, second).tolist() == [30, 30, 30, 20, 10]
    assert connected_groups(ids).tolist() == ids.tolist()


def test_every_row_is_held_out_once_in_equal_parts_of_every_label(gate: Gate) -> None:
    rows = pairs(200, ("a", "b", "b", "b"))
    folds = held_out(gate, rows, 5, stratify="label")
    assert Counter(id_ for fold in folds for id_ in fold) == Counter(
        gate(rows, SplitOptions(ratios=[1, 0, 0])).splits["train"].ids.to_pylist()
    )
    assert [len(fold) for fold in folds] == [40] * 5
    splits = gate(rows, SplitOptions(folds=5, held_out="test", stratify="label")).splits
    assert Counter(example.completion for example in splits["test"]) == {"a": 10, "b": 30}
    assert len(splits["validation"]) == pytest.approx(160 / 6, abs=1)  # 0.15 of 0.85


def test_a_fold_does_not_depend_on_the_order_of_the_rows_but_on_the_seed(gate: Gate) -> None:
    rows = pairs(120)
    first = held_out(gate, rows, 3)
    assert held_out(gate, rows[::-1], 3) == first
    assert held_out(gate, rows, 3, seed=7) != first


def test_near_duplicates_prompts_and_groups_stay_in_one_fold(gate: Gate) -> None:
    alike = [{"prompt": f"{question(7)} said number one of the club{end}", "completion": "yes"} for end in ".!?;"]
    rows = [row | {"writer": i % 12} for i, row in enumerate(pairs(120))] + [row | {"writer": 99} for row in alike]
    for row, name in zip(rows[-4:], (1, 2, 3, 4), strict=True):
        row["writer"] = name
    folds = held_out(gate, rows, 3, group="writer")
    where = {id_: number for number, fold in enumerate(folds) for id_ in fold}
    examples = gate(rows, SplitOptions(ratios=[1, 0, 0])).splits["train"]
    places: dict[int, set[int]] = {}
    for example in examples:
        places.setdefault(example.metadata["writer"], set()).add(where[example.id])
    assert all(len(result) == 1 for result in places.values())
    assert len({where[example.id] for example in examples if "of the club" in str(example.prompt)}) == 1


def test_a_test_file_and_its_duplicates_are_in_no_fold(tmp_path: Path) -> None:
    rows = pairs(120)
    files = {"train": rows[:80], "validation": [*rows[70:90]], "test": [*rows[88:]]}
    paths = {name: str(write_jsonl(tmp_path / f"{name}.jsonl", part)) for name, part in files.items()}
    ids = []
    for fold in range(3):
        split = SplitOptions(folds=3, fold=fold, held_out="test")
        prepared = prepare(DataOptions(**paths, policy={"leakage": "drop"}), split, cache=None)
        ids += prepared.splits["test"].ids.to_pylist()
    prompts = {example.prompt for part in prepared.splits.values() for example in part}
    assert len(ids) == len(set(ids)) == 88
    assert prompts == {row["prompt"] for row in rows[:88]}


def test_more_folds_than_groups_are_refused(gate: Gate) -> None:
    rows = [row | {"writer": i % 3} for i, row in enumerate(pairs(60))]
    with pytest.raises(UserError, match="4 folds of 3 groups"):
        gate(rows, SplitOptions(folds=4, held_out="test", group="writer"))
    assert [fault.column for fault in check_split_options(SplitOptions(held_out="nowhere"))] == ["split.held_out"]
