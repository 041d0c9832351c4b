"""Score examples: the exact log-probability of every label, or which one is the most likely, or the reference alone.

A label is scored as a whole completion of the prompt: its tokens with the end of turn after them. (What a template
writes after the end of turn is never generated, so it is no part of a label; it is part of the reference's loss.)
Prompt and labels go through the tree engine: the prompt once, then the trie of label tokens.

The files: `labels_trie` the labels as a tree, `labels_question` what is asked and answered, `labels_exact` and
`labels_search` the two ways to answer, `labels_head` log-probabilities of single tokens, `labels_tokens` from texts to
tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import torch
from torch import nn

from kamerton.model.head import find_head
from kamerton.plan.packing import Packing
from kamerton.score.labels.exact import exact, exact_batches
from kamerton.score.labels.question import Answer, Question
from kamerton.score.labels.search import search, search_batches

Mode = Literal["exact", "argmax"]
__all__ = ["Answer", "Mode", "Question", "label_row", "reference_row", "score"]


def score(
    model: nn.Module,
    questions: Sequence[Question],
    *,
    max_tokens: int,
    packing: Packing,
    pad: int,
    mode: Mode = "exact",
    device: torch.device | str = "cpu",
    progress: Callable[[int], None] = lambda done: None,
) -> list[Answer]:
    """An answer for each question, in order; how questions are batched does not change the answers.

    With `argmax` only which label is predicted is found out, the same one as with `exact` (of equal ones the first).
    Models that only bear padded rows are scored exactly for it. `progress` is called with the number of questions
    that each batch finished.
    """
    answers: list[Answer | None] = [None] * len(questions)
    training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            for members, found in _answered(model, questions, max_tokens, packing, pad, mode, device):
                for member, answer in zip(members, found, strict=True):
                    answers[member] = answer
                progress(len(members))
    finally:
        model.train(training)
    return [answer for answer in answers if answer is not None]


def _answered(
    model: nn.Module,
    questions: Sequence[Question],
    max_tokens: int,
    packing: Packing,
    pad: int,
    mode: Mode,
    device: torch.device | str,
) -> Iterator[tuple[list[int], list[Answer]]]:
    """Batches of questions with their answers."""
    head = find_head(model) if mode == "argmax" and packing != "padded" else None
    searched = [i for i, question in enumerate(questions) if head is not None and question.size > 1]
    if head is not None and searched:
        for members in search_batches(questions, searched, max_tokens):
            yield members, list(search(head, [questions[member] for member in members], max_tokens, device))
    rest = sorted(set(range(len(questions))) - set(searched))
    for members in exact_batches(questions, rest, max_tokens, packing):
        found = exact(model, [questions[member] for member in members], packing, pad, device)
        yield members, [_without(answer) if mode == "argmax" else answer for answer in found]


def _without(answer: Answer) -> Answer:
    """The same answer for every way to find it."""
    return Answer(answer.nll, answer.tokens, answer.correct, None, answer.predicted)


def label_row(answer: Answer, target: str, labels: Sequence[str]) -> dict[str, Any]:
    """The labelled part of a scores row; `labels` in the order in which they were scored."""
    assert answer.predicted is not None
    predicted = labels[answer.predicted]
    return {
        "label": target,
        "prediction": predicted,
        "predicted_label": predicted,
        "label_logprobs": None if answer.logprobs is None else answer.logprobs.tolist(),
        **reference_row(answer),
    }


def reference_row(answer: Answer) -> dict[str, Any]:
    """The part of a scores row that speaks of the reference completion."""
    return {"nll": answer.nll, "target_tokens": answer.tokens, "correct_tokens": answer.correct}
