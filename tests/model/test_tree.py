"""The tree engine: every sequence is scored as if alone, whatever prefixes are shared."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kamerton.model.attention import ATTENTION, register_attention
from kamerton.model.loss import build_padded, predict
from kamerton.model.tiny import tiny_model
from kamerton.model.tree import build_row

Rows = list[list[int]]
# A small alphabet makes shared prefixes, equal rows and rows that are prefixes of others frequent.
corpora = st.lists(st.lists(st.integers(3, 5), min_size=2, max_size=60), min_size=1, max_size=7)


@pytest.fixture(scope="module", autouse=True)
def attention() -> None:
    register_attention()


MODEL = tiny_model().eval()


def alone(row: list[int], first_target: int) -> float:
    """Plain transformers: one row, its own attention, the loss by hand."""
    MODEL.set_attn_implementation("sdpa")
    logits = MODEL(input_ids=torch.tensor([row])).logits[0]
    logprobs = logits.log_softmax(-1)
    return -sum(float(logprobs[t - 1, row[t]]) for t in range(first_target, len(row)))


def together(rows: Rows, firsts: list[int], *, share: bool) -> list[float]:
    MODEL.set_attn_implementation(ATTENTION)
    tokens = [np.array(row, dtype=np.int32) for row in rows]
    targets = [np.arange(len(row)) >= first for row, first in zip(rows, firsts, strict=True)]
    result = predict(MODEL, build_row(tokens, targets, share=share))
    return [float(result.nll[result.sequence == index].sum()) for index in range(len(rows))]


@given(corpora, st.data(), st.booleans())
@settings(max_examples=60, deadline=None)
def test_every_sequence_is_scored_as_if_alone(rows: Rows, data: st.DataObject, share: bool) -> None:
    firsts = [data.draw(st.integers(1, len(row) - 1)) for row in rows]
    with torch.inference_mode():
        expected = [alone(row, first) for row, first in zip(rows, firsts, strict=True)]
        assert together(rows, firsts, share=share) == pytest.approx(expected, rel=1e-5, abs=1e-5)


@given(corpora)
def test_a_shared_row_computes_each_distinct_prefix_once(rows: Rows) -> None:
    tokens = [np.array(row, dtype=np.int32) for row in rows]
    targets = [np.arange(len(row)) >= 1 for row in rows]
    distinct = {tuple(row[:size]) for row in rows for size in range(1, len(row))}  # the last token is not an input
    assert build_row(tokens, targets, share=True).input_ids.shape[1] == len(distinct)
    assert build_row(tokens, targets, share=False).input_ids.shape[1] == sum(len(row) - 1 for row in rows)


@given(corpora)
@settings(max_examples=30, deadline=None)
def test_padded_rows_are_scored_as_if_alone(rows: Rows) -> None:
    MODEL.set_attn_implementation("sdpa")
    tokens = [np.array(row, dtype=np.int32) for row in rows]
    targets = [np.arange(len(row)) >= 1 for row in rows]
    with torch.inference_mode():
        result = predict(MODEL, build_padded(tokens, targets, pad=0))
        for index, row in enumerate(rows):
            results = float(result.nll[result.sequence == index].sum())
            assert results == pytest.approx(alone(row, 1), rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("parting", [False, True])
def test_far_more_levels_than_functions_can_call_themselves_are_laid_out(parting: bool) -> None:
    """Every row is a prefix of the next; or it parts from the next after that."""
    chain = np.arange(3, 5004, dtype=np.int32)
    rows = [chain[:size] for size in range(2, 1200 if parting else 5002)]
    if parting:
        rows = [np.append(row, [2, 2]).astype(np.int32) for row in rows]
    row = build_row(rows, [np.arange(len(tokens)) == len(tokens) - 1 for tokens in rows], share=True)
    size = row.input_ids.shape[1]
    assert size == (len(rows) + len(rows) + 1 if parting else len(rows))
    at = row.at[torch.argsort(row.sequence)]
    assert row.position_ids[0, at].tolist() == [len(tokens) - 2 for tokens in rows]
    assert row.input_ids[0, at].tolist() == [tokens[-2] for tokens in rows]
    assert [index for block in row.tree.blocks for index in range(block.start, block.end)] == list(range(size))
