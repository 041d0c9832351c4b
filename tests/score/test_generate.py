"""Generated answers: independent of batching, ended by the end of turn, constrained to the labels on request."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kamerton.errors import UserError
from kamerton.model.attention import ATTENTION
from kamerton.model.capabilities import use_packing
from kamerton.model.ends import end_tokens
from kamerton.model.tiny import tiny_model, tiny_tokenizer
from kamerton.plan.packing import Packing
from kamerton.score.generate.batched import Answer, Prompt, generate, plan_batches
from kamerton.score.generate.sampling import Decoding, choose, uniform
from kamerton.score.partial import Partial
from support.families import FAMILIES, build

MODEL, TOKENIZER = tiny_model(3).eval(), tiny_tokenizer()
ENDS = frozenset({2})
SAMPLED = Decoding(12, temperature=1.3, top_p=0.9, seed=5)

prompts_of = st.lists(st.lists(st.integers(3, 258), min_size=1, max_size=20), min_size=1, max_size=12)


def prompts(rows: list[list[int]], choices: tuple[tuple[int, ...], ...] = ()) -> list[Prompt]:
    return [Prompt(f"{i:016x}", np.array(row, dtype=np.int32), choices) for i, row in enumerate(rows)]


def answers(inputs: list[Prompt], decoding: Decoding, max_tokens: int, ends: frozenset[int] = ENDS) -> list[Answer]:
    batches = plan_batches(MODEL, inputs, decoding, max_tokens)
    result: dict[int, Answer] = {}
    for part in generate(MODEL, inputs, batches, decoding, ends=ends, pad=0):
        result |= part
    return [result[i] for i in range(len(inputs))]


def one_by_one(row: list[int], size: int, ends: frozenset[int] = ENDS, model: Any = MODEL) -> Answer:
    """Greedy decoding without padding, batches or a cache."""
    ids = list(row)
    for _ in range(size):
        with torch.inference_mode():
            token = int(model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].argmax())
        if token in ends:
            return Answer(tuple(ids[len(row) :]), "stop", end=token)
        ids.append(token)
    return Answer(tuple(ids[len(row) :]), "length")


@given(prompts_of, st.integers(1, 300))
@settings(max_examples=15, deadline=None)
def test_greedy_answers_are_those_of_a_loop_over_single_prompts(rows: list[list[int]], max_tokens: int) -> None:
    ends = ENDS | {one_by_one(rows[0], 4).tokens[-1]}  # so that some rows finish while others continue
    assert answers(prompts(rows), Decoding(8), max_tokens, ends) == [one_by_one(row, 8, ends) for row in rows]


@pytest.mark.parametrize("packing", ["padded", "tree"])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_answers_a_batch_as_it_answers_single_prompts(family: str, packing: Packing) -> None:
    model = build(family).eval()
    start = [7, 8, 9, 10, 11, 12, 13, 14, 15, 16]
    rows = [[5], [*start, 17, 18], [*start, 17, 19, 20, 21], [*start, 17, 18], [20, 21, 22, 23, 24], start]
    expected = [one_by_one(row, 9, ENDS, model) for row in rows]
    use_packing(model, packing)
    inputs = prompts(rows)
    (result,) = generate(model, inputs, plan_batches(model, inputs, Decoding(9), 1000), Decoding(9), ends=ENDS, pad=0)
    assert [result[i] for i in range(len(rows))] == expected


def test_a_shared_prefix_counts_once_and_batches_fit_the_budget() -> None:
    inputs = prompts([[*range(3, 103), 3 + i] for i in range(40)])
    model = tiny_model(3)
    before = plan_batches(model, inputs, Decoding(4), 300)
    use_packing(model, "tree")
    shared = plan_batches(model, inputs, Decoding(4), 300)
    assert [len(batch.examples) for batch in before] == [2] * 20
    assert sorted(len(batch.examples) for batch in shared) == [20, 20]  # 8 x 300 cached tokens, 105 a row
    assert sorted(i for batch in shared for i in batch.examples) == list(range(40))


@given(prompts_of, st.integers(1, 300))
@settings(max_examples=15, deadline=None)
def test_sampled_answers_do_not_depend_on_the_batches(rows: list[list[int]], max_tokens: int) -> None:
    inputs = prompts(rows)
    assert answers(inputs, SAMPLED, max_tokens) == answers(inputs, SAMPLED, 10_000)


def test_samples_differ_by_seed_and_example_and_follow_the_distribution() -> None:
    inputs = [Prompt(f"{i:016x}", np.array([40, 41], dtype=np.int32)) for i in range(3000)]
    decoding = Decoding(1, temperature=0.7, top_p=0.6, seed=1)
    first = np.array([answer.tokens[0] for answer in answers(inputs, decoding, 6000, frozenset())])
    other = np.array(
        [answer.tokens[0] for answer in answers(inputs[:300], Decoding(1, 0.7, 0.6, 2), 6000, frozenset())]
    )
    assert (first[:300] != other).any()
    with torch.inference_mode():
        likely = (MODEL(input_ids=torch.tensor([[40, 41]])).logits[0, -1].double() / 0.7).softmax(0)
    ordered = likely.sort(descending=True)
    size = int((ordered.values.cumsum(0) < 0.6).sum()) + 1
    nucleus = set(ordered.indices[:size].tolist())
    assert set(first.tolist()) == nucleus
    expected = ordered.values[:size] / ordered.values[:size].sum()
    shares = np.array([(first == token).mean() for token in ordered.indices[:size].tolist()])
    assert np.abs(shares - expected.numpy()).max() < 5 * np.sqrt(0.25 / len(first))


@pytest.mark.parametrize("spread", [0.0, 0.5, 3.0, 40.0])
@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.7, 0.6), (1.3, 0.999)])
def test_a_large_vocabulary_is_sampled_as_by_sorting_all_of_it(spread: float, temperature: float, top_p: float) -> None:
    draw = torch.Generator().manual_seed(5)
    logits = (torch.randn(60, 3000, generator=draw) * spread).round(decimals=1)  # with many equal ones
    logits[:20, 7:] = -torch.inf
    decoding = Decoding(4, temperature, top_p, seed=2)
    places = [(f"{row}", row % 3) for row in range(60)]
    numbers = torch.tensor([uniform(2, *place) for place in places], dtype=torch.float64)
    ordered, order = (logits.double() / temperature).softmax(dim=-1).sort(dim=-1, descending=True, stable=True)
    cumulative = ordered.cumsum(dim=-1)
    nucleus = ordered.where(cumulative - ordered < top_p, 0.0).cumsum(dim=-1)
    ranks = [int((row <= number * row[-1]).sum()) for row, number in zip(nucleus, numbers, strict=True)]
    assert choose(logits, decoding, places) == [int(order[row, rank]) for row, rank in enumerate(ranks)]


def test_uniform_numbers_are_spread_evenly() -> None:
    numbers = np.array([uniform(0, "a", position) for position in range(4000)])
    assert 0 <= numbers.min() < numbers.max() < 1
    assert np.abs(np.histogram(numbers, 10, (0, 1))[0] - 400).max() < 5 * np.sqrt(400)


@given(prompts_of, st.sampled_from([0.0, 1.0]))
@settings(max_examples=15, deadline=None)
def test_constrained_answers_are_always_a_choice(rows: list[list[int]], temperature: float) -> None:
    choices = ((50, 51, 2), (50, 51, 52, 2), (50, 60, 2), (99, 2))
    inputs = prompts(rows, choices)
    result = answers(inputs, Decoding(1, temperature, seed=3), 100)
    assert all(answer.choice is not None and choices[answer.choice] == answer.tokens for answer in result)
    assert {answer.finish_reason for answer in result} == {"stop"}
    if not temperature:
        for row, answer in zip(rows, result, strict=True):
            first = best(row, sorted({choice[0] for choice in choices}))
            assert answer.tokens[0] == first


def best(row: list[int], allowed: list[int]) -> int:
    with torch.inference_mode():
        logits = MODEL(input_ids=torch.tensor([row])).logits[0, -1]
    return allowed[int(logits[allowed].argmax())]


def test_a_prompt_that_fills_the_model_is_named() -> None:
    with pytest.raises(UserError, match="fill all 2048 positions"):
        answers(prompts([[5] * 2048]), Decoding(4), 10_000)


def test_an_answer_ends_at_the_models_last_position() -> None:
    (answer,) = answers(prompts([[5] * 2045]), Decoding(10), 10_000, frozenset())
    assert (len(answer.tokens), answer.finish_reason) == (3, "length")


def test_end_tokens_are_the_models_the_tokenizers_and_the_templates() -> None:
    class Own:
        generation_config = type("Config", (), {"eos_token_id": [7, 8]})()

    assert end_tokens(Own(), TOKENIZER, [104, 105, 1, 13]) == {7, 8, 2, 1}


def test_the_tree_attention_of_training_is_put_back() -> None:
    model: Any = tiny_model(3).train()
    use_packing(model, "tree")
    inputs = prompts([[5, 6, 7], [8]])
    (result,) = generate(model, inputs, plan_batches(model, inputs, Decoding(3), 9), Decoding(3), ends=ENDS, pad=0)
    assert [result[0], result[1]] == [one_by_one([5, 6, 7], 3), one_by_one([8], 3)]
    assert model.config._attn_implementation == ATTENTION
    assert model.training


def test_a_partial_file_keeps_whole_lines_and_belongs_to_one_fingerprint(tmp_path: Path) -> None:
    path = tmp_path / "test.partial"
    with Partial(path, "a") as partial:
        partial.add({3: {"prediction": "ż"}, 1: {"prediction": "\n"}})
    with path.open("ab") as file:
        file.write(b'{"row": 2, "predic')
    with Partial(path, "a") as partial:
        assert partial.rows == {3: {"prediction": "ż"}, 1: {"prediction": "\n"}}
        partial.add({2: {"prediction": "x"}})
    with Partial(path, "a") as partial:
        assert set(partial.rows) == {1, 2, 3}
    with Partial(path, "b") as partial:
        assert partial.rows == {}
    assert [json.loads(line) for line in path.read_text().splitlines()] == [{"fingerprint": "b"}]
