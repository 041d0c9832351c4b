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
from kamerton.plan.cut import Cut, cut_examples

Tokens = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Question:
    """An example's tokens with its targets, and the labels to be scored in place of its completion."""

    tokens: Tokens
    targets: npt.NDArray[np.bool_]
    labels: tuple[Tokens, ...] = ()

    @property
    def prompt(self) -> Tokens:
        """The tokens before the first target."""
        return self.tokens[: int(np.argmax(self.targets))]

    def sequences(self) -> list[tuple[Tokens, npt.NDArray[np.bool_]]]:
        """What runs through the model, the reference first: token ids and targets."""
        prompt = self.prompt
        ended = [np.concatenate([prompt, label]) for label in self.labels]
        return [(self.tokens, self.targets), *((row, np.arange(len(row)) >= len(prompt)) for row in ended)]


@dataclass(frozen=True, slots=True)
class Answer:
    """For the reference, then each label: summed nll in nats, target tokens, and those that were the most likely."""

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
    """The labelled part of a scores row; `labels` in the order in which they were scored."""
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
    """Groups of questions for one forward pass each; labels count in full, shared prompts once with `tree`."""
    everything = range(len(questions))
    if cut == "padded":
        longest = [max(len(tokens) for tokens, _ in question.sequences()) - 1 for question in questions]
        rows = [1 + len(question.labels) for question in questions]
        lengths = np.array(longest, dtype=np.int32) * np.array(rows, dtype=np.int32)
        return [micro.examples for micro in cut_examples(everything, lengths, max_tokens, "packed")]
    inputs = [len(one.tokens) - 1 + sum(len(label) - 1 for label in one.labels) for one in questions]
    lengths = np.array(inputs, dtype=np.int32)
    micros = cut_examples(everything, lengths, max_tokens, "tree", lambda index: questions[index].prompt)
    return [micro.examples for micro in micros]


def _run(
    model: nn.Module, questions: Sequence[Question], cut: Cut, pad: int, device: torch.device | str
) -> Iterator[Answer]:
    rows = [row for question in questions for row in question.sequences()]
    sequences, targets = [tokens for tokens, _ in rows], [marks for _, marks in rows]
    batch = build_padded(sequences, targets, pad=pad) if cut == "padded" else build_row(sequences, targets, share=True)
    result = predict(model, batch.to(torch.device(device)))
    owner = result.sequence.cpu().numpy()
    nll = np.bincount(owner, result.nll.double().cpu().numpy(), len(sequences)).astype(np.float64)
    correct = np.bincount(owner, result.correct.cpu().numpy(), len(sequences)).astype(np.int32)
    tokens = np.bincount(owner, minlength=len(sequences)).astype(np.int32)
    start = 0
    for question in questions:
        part = slice(start, start + 1 + len(question.labels))
        yield Answer(nll[part], tokens[part], correct[part])
        start = part.stop
