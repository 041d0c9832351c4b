"""Batches divided over ranks: each computed once, and every rank has all results. The ranks are threads here."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from threading import Barrier
from typing import Any

import numpy as np
import pytest

from kamerton.errors import Interrupted
from kamerton.model.attention import ATTENTION, register_attention
from kamerton.model.tiny import tiny_model
from kamerton.score.divide import Ranks, divided
from kamerton.score.generate.batched import Prompt, generate, plan_batches
from kamerton.score.generate.sampling import Decoding
from kamerton.score.labels.scores import Question, score
from kamerton.score.labels.trie import Candidates, build_trie


def on_ranks(size: int, function: Callable[[Ranks], Any]) -> list[Any]:
    """Run a function on every rank; return its results, or the exceptions it raised."""
    barrier, values = Barrier(size, timeout=60), [None] * size

    def run(rank: int) -> Any:
        def exchange(value: Any) -> list[Any]:
            values[rank] = value
            barrier.wait()
            exchanged = list(values)
            barrier.wait()
            return exchanged

        try:
            return function(Ranks(rank, size, exchange))
        except Exception as error:
            return error

    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(run, range(size)))


@pytest.mark.parametrize("size", [1, 2, 3, 8])
def test_every_item_is_computed_once_and_every_rank_gets_all(size: int) -> None:
    computed: list[tuple[int, int]] = []

    def squares(ranks: Ranks) -> list[tuple[int, int]]:
        def square(item: int) -> int:
            computed.append((item, ranks.rank))
            return item * item

        return list(divided(range(7), square, ranks))

    assert on_ranks(size, squares) == [[(item, item * item) for item in range(7)]] * size
    assert sorted(computed) == [(item, item % size) for item in range(7)]


def test_no_items_need_no_exchange() -> None:
    assert not list(divided([], abs, Ranks(0, 2, lambda value: pytest.fail("the other rank has nothing to send"))))


@pytest.mark.parametrize("fails", [0, 1])
def test_a_failure_of_one_rank_is_raised_on_rank_0_and_stops_the_others(fails: int) -> None:
    def failing(ranks: Ranks) -> Any:
        def invert(item: int) -> float:
            return 1 / (item - 3 - fails)

        return list(divided(range(9), invert, ranks))

    first, *others = on_ranks(3, failing)
    assert all(isinstance(error, Interrupted) for error in others)
    if fails == 0:
        assert isinstance(first, ZeroDivisionError)
    else:
        assert str(first) == "scoring failed on rank 1: ZeroDivisionError: division by zero"
        assert "in invert" in first.__notes__[0]


@pytest.mark.parametrize("mode", ["exact", "argmax"])
def test_label_scores_of_divided_batches_are_those_of_one_process(mode: Any) -> None:
    register_attention()
    trie = build_trie([np.array(tokens, dtype=np.int32) for tokens in ([40, 41, 2], [40, 50, 2], [60, 2])])
    labels = Candidates(trie, np.ones(3), np.zeros(3))
    questions = []
    for number in range(20):
        tokens = np.array([5 + number, *range(100, 104 + number % 5), 40, 41, 2], dtype=np.int32)
        questions.append(Question(tokens, np.arange(len(tokens)) >= len(tokens) - 3, labels))
    model: Any = tiny_model(3)
    model.set_attn_implementation(ATTENTION)
    models = [deepcopy(model) for _ in range(3)]

    def answers(ranks: Ranks) -> Any:
        finished: list[int] = []
        scored = score(
            models[ranks.rank],
            questions,
            max_tokens=40,
            packing="tree",
            pad=0,
            mode=mode,
            progress=finished.append,
            ranks=ranks,
        )
        return finished, [(answer.nll, answer.correct, answer.predicted, _list(answer.logprobs)) for answer in scored]

    alone = answers(Ranks())
    assert sum(alone[0]) == 20
    assert len(alone[0]) > 3  # batches
    assert on_ranks(3, answers) == [alone] * 3


def test_generated_answers_of_divided_batches_are_those_of_one_process() -> None:
    prompts = [Prompt(f"{i:016x}", np.arange(5, 6 + i % 6, dtype=np.int32)) for i in range(20)]
    decoding = Decoding(6, temperature=1.0, seed=4)
    batches = plan_batches(tiny_model(3), prompts, decoding, 12)
    models = [tiny_model(3).eval() for _ in range(2)]

    def answers(ranks: Ranks) -> Any:
        model = models[ranks.rank]
        return list(generate(model, prompts, batches, decoding, ends=frozenset({2}), pad=0, ranks=ranks))

    alone = answers(Ranks())
    assert len(alone) > 4
    assert on_ranks(2, answers) == [alone] * 2


def _list(logprobs: Any) -> Any:
    return None if logprobs is None else logprobs.tolist()
