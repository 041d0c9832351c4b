"""Label scoring against brute force: each label scored singly with plain transformers, for any batch and mode."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kamerton.model.attention import ATTENTION, register_attention
from kamerton.model.tiny import tiny_model
from kamerton.score.labels.scores import Answer, Question, label_row, score
from kamerton.score.labels.trie import Candidates, build_trie


@pytest.fixture(scope="module", autouse=True)
def attention() -> None:
    register_attention()


def sharp_model(seed: int, scale: float = 3.0) -> Any:
    """A random model with large enough weights that labels differ by several nats."""
    model = tiny_model(seed).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(scale)
    return model


MODELS = [sharp_model(seed) for seed in range(3)]

# A small alphabet makes shared prefixes, equal labels and labels that are prefixes of others frequent.
label = st.lists(st.integers(3, 5), min_size=1, max_size=6)
label_sets = st.lists(label, min_size=1, max_size=12)
prompts = st.lists(st.lists(st.integers(3, 6), min_size=1, max_size=20), min_size=1, max_size=6)


def candidates(labels: Sequence[Sequence[int]], length: Any = None, prior: Any = None) -> Candidates:
    trie = build_trie([np.array(tokens, dtype=np.int32) for tokens in labels])
    size = len(labels)
    return Candidates(
        trie, np.ones(size) if length is None else np.array(length), np.zeros(size) if prior is None else prior
    )


def questions(rows: Sequence[Sequence[int]], chosen: Candidates, tail: Sequence[int] = (9,)) -> list[Question]:
    """Each prompt with one of the labels as reference, and what a template writes after it."""
    result = []
    for index, row in enumerate(rows):
        reference = chosen.trie.labels[index % len(chosen.trie.labels)]
        tokens = np.concatenate([row, reference, tail]).astype(np.int32)
        result.append(Question(tokens, np.arange(len(tokens)) >= len(row), chosen))
    return result


def ask(
    model: Any, batch: list[Question], packing: str = "tree", max_tokens: int = 2048, mode: str = "exact"
) -> list[Answer]:
    model.set_attn_implementation("sdpa" if packing == "padded" else ATTENTION)
    return score(model, batch, max_tokens=max_tokens, packing=packing, pad=0, mode=mode)  # type: ignore[arg-type]


@torch.inference_mode()
def alone(model: Any, prompt: Sequence[int], completion: Sequence[int]) -> tuple[float, int]:
    """Plain transformers: one completion of one prompt, its log-probability and its correct tokens, by hand."""
    model.set_attn_implementation("sdpa")
    row = [*prompt, *completion]
    logits = model(input_ids=torch.tensor([row])).logits[0]
    places = range(len(prompt), len(row))
    right = sum(int(logits[place - 1].argmax()) == row[place] for place in places)
    return sum(float(logits.log_softmax(-1)[place - 1, row[place]]) for place in places), right


@given(
    prompts, label_sets, st.sampled_from(MODELS), st.sampled_from(["tree", "padded"]), st.sampled_from([1, 60, 2048])
)
@settings(max_examples=25, deadline=None)
def test_every_label_has_the_log_probability_that_it_has_alone(
    rows: list[list[int]], labels: list[list[int]], model: Any, packing: str, max_tokens: int
) -> None:
    batch = questions(rows, candidates(labels))
    for row, question, answer in zip(rows, batch, ask(model, batch, packing, max_tokens), strict=True):
        expected = [alone(model, row, tokens)[0] for tokens in labels]
        assert answer.logprobs == pytest.approx(expected, abs=2e-4)
        assert answer.predicted == int(np.argmax(answer.logprobs))
        nll, right = alone(model, row, question.tokens[len(row) :].tolist())
        assert (answer.nll, answer.correct) == (pytest.approx(-nll, abs=2e-4), right)
        assert answer.tokens == len(question.tokens) - len(row)


@given(prompts, label_sets, st.sampled_from(MODELS), st.sampled_from([1, 40, 2048]), st.data())
@settings(max_examples=40, deadline=None)
def test_the_search_finds_what_scoring_every_label_finds(
    rows: list[list[int]], labels: list[list[int]], model: Any, max_tokens: int, data: st.DataObject
) -> None:
    lengths = data.draw(st.lists(st.sampled_from([1.0, 2.0, 5.0]), min_size=len(labels), max_size=len(labels)))
    priors = data.draw(st.lists(st.floats(-9, 0), min_size=len(labels), max_size=len(labels)))
    chosen = candidates(labels, lengths, np.array(priors))
    batch = questions(rows, chosen)
    exact, result = ask(model, batch), ask(model, batch, max_tokens=max_tokens, mode="argmax")
    for first, second in zip(exact, result, strict=True):
        assert first.logprobs is not None
        assert second.predicted is not None
        judged = chosen.judge(first.logprobs)
        if judged[second.predicted] < judged.max() - 1e-4:  # nearer than rounding either may win
            pytest.fail(f"{second.predicted} ({judged[second.predicted]}) for {first.predicted} ({judged.max()})")
        assert second.logprobs is None
        assert second.nll == pytest.approx(first.nll, abs=2e-4)
        assert (second.tokens, second.correct) == (first.tokens, first.correct)


@pytest.mark.parametrize("mode", ["exact", "argmax"])
def test_of_labels_with_the_same_tokens_the_first_is_predicted(mode: str) -> None:
    best = [3, 4]
    for labels in ([best, best], [best, [5], best], [[5], best, best, [6, 6, 6]]):
        for answer in ask(MODELS[0], questions([[7, 8], [8]], candidates(labels)), mode=mode):
            assert answer.predicted is not None
            assert labels.index(labels[answer.predicted]) == answer.predicted


@pytest.mark.parametrize("mode", ["exact", "argmax"])
@pytest.mark.parametrize("packing", ["tree", "padded"])
def test_one_label_is_always_predicted(mode: str, packing: str) -> None:
    result = ask(MODELS[0], questions([[7, 8], [8]], candidates([[3, 4, 5]])), packing, mode=mode)
    assert [answer.predicted for answer in result] == [0, 0]
    assert all((answer.logprobs is None) == (mode == "argmax") for answer in result)


def test_a_thousand_labels() -> None:
    draw = np.random.default_rng(0)
    labels = [[*draw.integers(3, 30, draw.integers(1, 5)).tolist(), 2] for _ in range(1000)]
    batch = questions([[7, 8, 9], [8, 10], [11]], candidates(labels))
    exact, result = ask(MODELS[1], batch), ask(MODELS[1], batch, mode="argmax")
    for row, first, second in zip([[7, 8, 9], [8, 10], [11]], exact, result, strict=True):
        assert first.logprobs is not None
        for number in (0, 500, 999, int(first.logprobs.argmax())):
            assert first.logprobs[number] == pytest.approx(alone(MODELS[1], row, labels[number])[0], abs=2e-4)
        assert second.predicted == first.predicted


def test_the_search_runs_few_tokens_where_the_model_is_sure() -> None:
    """A model that has learned one label runs little more than prompts and references."""
    model, draw = tiny_model(0), np.random.default_rng(0)
    labels = [[*draw.integers(3, 200, 4).tolist(), 2] for _ in range(50)]
    batch = questions([[7, 8, 9]], candidates(labels)) * 4
    row = torch.tensor([batch[0].tokens.tolist()])
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(30):
        optimizer.zero_grad()
        model(input_ids=row, labels=row).loss.backward()
        optimizer.step()
    ran: list[int] = []
    model.model.embed_tokens.register_forward_hook(lambda _, inputs, __: ran.append(inputs[0].numel()))
    answers = ask(model, batch, mode="argmax")
    assert {answer.predicted for answer in answers} == {0}
    assert sum(ran) < 30


def test_unused_metrics_are_not_in_the_row() -> None:
    answer = Answer(1.5, 3, 2, None, 1)
    assert label_row(answer, "no", ["yes", "no"]) == {
        "label": "no",
        "prediction": "no",
        "predicted_label": "no",
        "label_logprobs": None,
        "nll": 1.5,
        "target_tokens": 3,
        "correct_tokens": 2,
    }


def test_questions_without_labels_are_scored_beside_others() -> None:
    with_labels = questions([[7, 8]], candidates([[3, 4], [5]]))
    plain = [Question(with_labels[0].tokens, with_labels[0].targets)]
    for mode in ("exact", "argmax"):
        first, second = ask(MODELS[0], [*plain, *with_labels], mode=mode)
        assert (first.predicted, first.logprobs) == (None, None)
        assert first.nll == pytest.approx(second.nll, abs=1e-4)
