"""Groups of examples, such as the completions of a prompt, in forward passes and steps."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kamerton.plan.epoch import plan_epoch
from kamerton.plan.packing import Group, Packing, pack_examples, pack_groups, shared_prefix

LAYOUTS: tuple[Packing, ...] = ("padded", "packed", "tree")
Rows = list[list[int]]
corpora = st.lists(
    st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=9), min_size=1, max_size=4), min_size=1, max_size=15
)


def flat(corpus: list[Rows]) -> tuple[list[Group], list[np.ndarray], np.ndarray]:
    """The groups of example numbers, the tokens of each example, and their lengths."""
    starts = np.cumsum([0, *map(len, corpus)])
    groups = [tuple(range(first, end)) for first, end in pairwise(starts.tolist())]
    tokens = [np.array(row, np.int32) for rows in corpus for row in rows]
    return groups, tokens, np.array(list(map(len, tokens)), np.int32)


def computed(rows: Sequence[np.ndarray], packing: Packing) -> int:
    """The tokens that a pass with these rows computes."""
    if packing == "padded":
        return max(map(len, rows)) * len(rows)
    if packing == "packed":
        return sum(map(len, rows))
    return len({tuple(row[:size]) for row in rows for size in range(1, len(row) + 1)})


@given(corpora, st.sampled_from(LAYOUTS), st.integers(1, 40))
def test_every_example_is_laid_out_once_within_the_bound_and_groups_stay_whole(
    corpus: list[Rows], packing: Packing, max_tokens: int
) -> None:
    groups, tokens, lengths = flat(corpus)
    passes = pack_groups(groups, lengths, max_tokens, packing, tokens.__getitem__)
    assert sorted(example for micro in passes for example in micro.examples) == list(range(len(tokens)))
    for micro in passes:
        assert micro.tokens == computed([tokens[i] for i in micro.examples], packing)
        assert micro.tokens <= max_tokens or len(micro.examples) == 1
    for group in groups:
        together = any(set(group) <= set(micro.examples) for micro in passes)
        assert together or computed([tokens[i] for i in group], packing) > max_tokens


@given(corpora, st.sampled_from(LAYOUTS), st.integers(1, 40))
def test_groups_of_one_example_are_laid_out_as_examples(corpus: list[Rows], packing: Packing, max_tokens: int) -> None:
    """The plain versions below are those of examples without groups."""
    _, tokens, lengths = flat(corpus)
    everything = range(len(tokens))
    passes = pack_examples(everything, lengths, max_tokens, packing, tokens.__getitem__)
    plain = {"padded": plain_padded, "packed": plain_best_fit, "tree": plain_tree}[packing]
    assert [list(micro.examples) for micro in passes] == plain(tokens, max_tokens)
    single = [(example,) for example in everything]
    assert pack_groups(single, lengths, max_tokens, packing, tokens.__getitem__) == passes


def plain_padded(rows: list[np.ndarray], max_tokens: int) -> list[list[int]]:
    passes: list[list[int]] = []
    for example in sorted(range(len(rows)), key=lambda i: (-len(rows[i]), i)):
        if not passes or len(rows[passes[-1][0]]) * (len(passes[-1]) + 1) > max_tokens:
            passes.append([])
        passes[-1].append(example)
    return passes


def plain_best_fit(rows: list[np.ndarray], max_tokens: int) -> list[list[int]]:
    passes: list[list[int]] = []
    for example in sorted(range(len(rows)), key=lambda i: (-len(rows[i]), i)):
        free = [(max_tokens - sum(len(rows[i]) for i in micro), number) for number, micro in enumerate(passes)]
        fits = [(room, number) for room, number in free if room >= len(rows[example])]
        if fits:
            passes[min(fits)[1]].append(example)
        else:
            passes.append([example])
    return passes


def plain_tree(rows: list[np.ndarray], max_tokens: int) -> list[list[int]]:
    passes: list[list[int]] = []
    size = 0
    for example in sorted(range(len(rows)), key=lambda i: (rows[i].tolist(), i)):
        new = len(rows[example]) - (shared_prefix(rows[passes[-1][-1]], rows[example]) if passes else 0)
        if not passes or size + new > max_tokens:
            passes.append([])
            size, new = 0, len(rows[example])
        passes[-1].append(example)
        size += new
    return passes


@given(corpora, st.sampled_from(LAYOUTS), st.integers(1, 5), st.integers(1, 40), st.integers(1, 3))
def test_a_group_is_in_one_step_on_one_rank_and_counts_as_one_example(
    corpus: list[Rows], packing: Packing, batch_size: int, max_tokens: int, ranks: int
) -> None:
    groups, tokens, lengths = flat(corpus)
    starts = np.array([group[0] for group in groups])
    plan = plan_epoch(
        lengths,
        lengths,
        seed=3,
        epoch=1,
        batch_size=batch_size,
        max_tokens=max_tokens,
        world_size=ranks,
        packing=packing,
        tokens=tokens.__getitem__,
        starts=starts,
    )
    seen: list[int] = []
    for number, step in enumerate(plan):
        due = plan.order[number * batch_size :][:batch_size]
        assert sorted(step.examples) == sorted(example for index in due for example in groups[index])
        for rank in step.ranks:
            here = {example for micro in rank for example in micro.examples}
            assert all(here >= set(groups[index]) or not here & set(groups[index]) for index in due)
        assert step.target_tokens == lengths[list(step.examples)].sum()
        seen += step.examples
    assert sorted(seen) == list(range(len(tokens)))


def test_groups_of_the_tree_layout_need_tokens() -> None:
    with pytest.raises(ValueError, match="token ids"):
        pack_groups([(0, 1)], np.array([1, 1], np.int32), 8, "tree")
