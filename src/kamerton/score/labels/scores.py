"""Score examples: the exact log-probability of every label, the most likely label only, or the reference only.

A label is scored as a complete completion of the prompt: its tokens and the end of turn. (Tokens that a template writes
after the end of turn are never generated, so they are not part of a label; they are part of the reference's loss.)
Prompt and labels go through the tree engine: the prompt once, then the trie of label tokens.

Modules: `trie` has the labels as a tree, `question` the questions and answers, `exact` and `search` the two methods to
answer, `head` log-probabilities of single tokens, `tokens` the tokens of label texts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import nn

from kamerton.model.head import find_head
from kamerton.model.switches import evaluation_mode
from kamerton.plan.packing import Packing
from kamerton.score.divide import ALONE, Ranks, divided
from kamerton.score.labels.exact import exact, exact_batches
from kamerton.score.labels.question import Answer, Question
from kamerton.score.labels.search import search, search_batches

Mode = Literal["exact", "argmax"]
__all__ = ["Answer", "Mode", "Question", "label_row", "reference_row", "score"]


def score(  # noqa: PLR0913 - by keyword
    model: nn.Module,
    questions: Sequence[Question],
    *,
    max_tokens: int,
    packing: Packing,
    pad: int,
    mode: Mode = "exact",
    device: torch.device | str = "cpu",
    progress: Callable[[int], None] = lambda done: None,
    ranks: Ranks = ALONE,
) -> list[Answer]:
    """Return an answer for each question, in order; the answers do not depend on batching.

    `argmax` only finds the predicted label, the same as `exact` does (the first one of a tie). Models that only support
    padded rows are scored exactly for it. `progress` is called with the number of questions that a batch finished. The
    batches are divided over `ranks`, which all return all answers.
    """
    answers: list[Answer | None] = [None] * len(questions)
    with evaluation_mode(model), torch.inference_mode():
        head = find_head(model) if mode == "argmax" and packing != "padded" else None
        searched = [i for i, question in enumerate(questions) if head is not None and question.size > 1]
        rest = sorted(set(range(len(questions))) - set(searched))
        batches = [(True, members) for members in search_batches(questions, searched, max_tokens)]
        batches += [(False, members) for members in exact_batches(questions, rest, max_tokens, packing)]

        def answer(batch: tuple[bool, list[int]]) -> list[Answer]:
            by_search, members = batch
            chosen = [questions[member] for member in members]
            if by_search:
                assert head is not None
                return list(search(head, chosen, max_tokens, device))
            exactly = exact(model, chosen, packing, pad, device)
            # Without log-probabilities, as from the search.
            return [replace(each, logprobs=None) if mode == "argmax" else each for each in exactly]

        for (_, members), batch_answers in divided(batches, answer, ranks):
            for member, member_answer in zip(members, batch_answers, strict=True):
                answers[member] = member_answer
            progress(len(members))
    return [answer for answer in answers if answer is not None]


def label_row(answer: Answer, target: str, labels: Sequence[str]) -> dict[str, Any]:
    """Return the answer's part of a scores row with labels; `labels` in the order in which they were scored."""
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
    """Return the part of a scores row about the reference completion."""
    return {"nll": answer.nll, "target_tokens": answer.tokens, "correct_tokens": answer.correct}
