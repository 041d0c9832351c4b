"""Score examples: the exact log-probability of every label, or of the reference completion alone.

Each label's whole completion (with the template's end of turn) is scored given the prompt; the predicted label is the
most likely one. Prompt and labels go through the tree engine: the prompt once, then the trie of label tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from kamerton.model.loss import build_padded, predict
from kamerton.model.tree import build_row
from kamerton.plan.epoch import Cut, cut_examples

Tokens = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Question:
    """A prompt's tokens and the completions to be scored after it, the reference completion first."""

    prompt: Tokens
    completions: tuple[Tokens, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """Per completion: summed negative log-likelihood in nats, tokens, and tokens that were the most likely one."""

    nll: npt.NDArray[np.float64]
    tokens: npt.NDArray[np.int32]
    correct: npt.NDArray[np.int32]


def score(
    model: nn.Module,
    questions: Sequence[Question],
    *,
    max_tokens: int,
    cut: Cut,
    pad: int,
    device: torch.device | str = "cpu",
    progress: Callable[[int], None] = lambda done: None,
) -> list[Answer]:
    """An answer for each question, in order; how questions are batched does not change the answers.

    `progress` is called with the number of questions that each forward pass finished.
    """
    answers: list[Answer | None] = [None] * len(questions)
    training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            for members in _batches(questions, max_tokens, cut):
                for member, answer in zip(
                    members, _run(model, [questions[m] for m in members], cut, pad, device), strict=True
                ):
                    answers[member] = answer
                progress(len(members))
    finally:
        model.train(training)
    return [answer for answer in answers if answer is not None]


def label_row(answer: Answer, target: str, labels: Sequence[str]) -> dict[str, Any]:
    """The labelled part of a scores row, for completions scored in the order reference, then `labels`."""
    logprobs = -answer.nll[1:]
    predicted = labels[int(np.argmax(logprobs))]
    return {
        "label": target,
        "prediction": predicted,
        "predicted_label": predicted,
        "label_logprobs": logprobs.tolist(),
        **reference_row(answer),
    }


def reference_row(answer: Answer) -> dict[str, Any]:
    """The part of a scores row that speaks of the reference completion."""
    return {
        "nll": float(answer.nll[0]),
        "target_tokens": int(answer.tokens[0]),
        "correct_tokens": int(answer.correct[0]),
    }


def _batches(questions: Sequence[Question], max_tokens: int, cut: Cut) -> Iterable[tuple[int, ...]]:
    """Groups of questions for one forward pass each; completions count in full, shared prompts once with `tree`."""
    if cut == "padded":
        size = [max(map(len, q.completions)) + len(q.prompt) - 1 for q in questions]
        lengths = np.array([s * len(q.completions) for s, q in zip(size, questions, strict=True)], dtype=np.int32)
        return [micro.examples for micro in cut_examples(range(len(questions)), lengths, max_tokens, "packed")]
    inputs = [len(q.prompt) + sum(len(completion) - 1 for completion in q.completions) for q in questions]
    lengths = np.array(inputs, dtype=np.int32)
    micros = cut_examples(range(len(questions)), lengths, max_tokens, "tree", lambda i: questions[i].prompt)
    return [micro.examples for micro in micros]


def _run(
    model: nn.Module, questions: Sequence[Question], cut: Cut, pad: int, device: torch.device | str
) -> Iterator[Answer]:
    sequences, targets = [], []
    for question in questions:
        for completion in question.completions:
            sequence = np.concatenate([question.prompt, completion])
            sequences.append(sequence)
            targets.append(np.arange(len(sequence)) >= len(question.prompt))
    batch = build_padded(sequences, targets, pad=pad) if cut == "padded" else build_row(sequences, targets, share=True)
    result = predict(model, batch.to(torch.device(device)))
    owner = result.sequence.cpu().numpy()
    nll = np.bincount(owner, result.nll.double().cpu().numpy(), len(sequences)).astype(np.float64)
    correct = np.bincount(owner, result.correct.cpu().numpy(), len(sequences)).astype(np.int32)
    tokens = np.bincount(owner, minlength=len(sequences)).astype(np.int32)
    start = 0
    for question in questions:
        part = slice(start, start + len(question.completions))
        yield Answer(nll[part], tokens[part], correct[part])
        start = part.stop
