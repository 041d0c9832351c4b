"""The exact log-probability of every label: prompts, references and all labels of a batch in one forward pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from kamerton.model.head import find_head
from kamerton.model.loss import build_padded, predict
from kamerton.model.tree import TreeRow, build_row
from kamerton.plan.packing import Packing, pack_examples
from kamerton.score.labels.head import token_logprobs
from kamerton.score.labels.question import Answer, Question


def exact_batches(
    questions: Sequence[Question], members: Sequence[int], max_tokens: int, packing: Packing
) -> list[list[int]]:
    """Group `members` into forward passes of at most `max_tokens` computed tokens; a single one may have more.

    With `padded` each label is a separate row; otherwise tokens that labels or prompts share are computed once.
    """
    lengths = np.zeros(len(questions), dtype=np.int32)
    if packing == "padded":
        for member in members:
            sequences = questions[member].sequences()
            lengths[member] = len(sequences) * (max(len(tokens) for tokens, _ in sequences) - 1)
        return [list(micro.examples) for micro in pack_examples(members, lengths, max_tokens, "packed")]
    for member in members:
        question = questions[member]
        nodes = 0 if question.candidates is None else len(question.candidates.trie.token) - 1
        lengths[member] = len(question.tokens) - 1 + nodes
    micros = pack_examples(members, lengths, max_tokens, "tree", lambda member: questions[member].prompt)
    return [list(micro.examples) for micro in micros]


def exact(
    model: nn.Module, questions: Sequence[Question], packing: Packing, pad: int, device: torch.device | str
) -> Iterator[Answer]:
    """Yield an answer for each question, with the log-probabilities of all its labels."""
    rows = [row for question in questions for row in question.sequences()]
    starts = np.cumsum([0, *(1 + question.size for question in questions)])
    sequences, targets = [tokens for tokens, _ in rows], [marks for _, marks in rows]
    nll, correct, owner = _predict(model, sequences, targets, starts, packing, pad, torch.device(device))
    summed = np.bincount(owner, nll, len(rows))
    hits = np.bincount(owner, correct, len(rows)).astype(np.int64)
    counts = np.bincount(owner, minlength=len(rows))
    for question, start in zip(questions, starts[:-1].tolist(), strict=True):
        reference = float(summed[start]), int(counts[start]), int(hits[start])
        if question.candidates is None:
            yield Answer(*reference)
            continue
        logprobs = -summed[start + 1 : start + 1 + question.size].astype(np.float64)
        yield Answer(*reference, logprobs, int(np.argmax(question.candidates.judge(logprobs))))


def _predict(
    model: nn.Module,
    sequences: Sequence[npt.NDArray[np.int32]],
    targets: Sequence[npt.NDArray[np.bool_]],
    references: npt.NDArray[np.int64],
    packing: Packing,
    pad: int,
    device: torch.device,
) -> tuple[Any, Any, Any]:
    """Return for each target its nll, whether it was the most likely token (references only), and its sequence."""
    head = find_head(model)
    if packing == "padded" or head is None:
        batch = build_padded(sequences, targets, pad=pad) if packing == "padded" else _row(sequences, targets)
        result = predict(model, batch.to(device))
        return result.nll.double().cpu().numpy(), result.correct.cpu().numpy(), result.sequence.cpu().numpy()
    row = _row(sequences, targets).to(device)
    hidden = head.hidden(input_ids=row.input_ids, position_ids=row.position_ids, tree=row.tree)[0]
    owner = row.sequence.cpu().numpy()
    judged = torch.from_numpy(np.isin(owner, references)).to(device)
    columns, at = torch.unique(row.at, return_inverse=True)
    logprob, correct = token_logprobs(head, hidden[columns], at, row.token, judged)
    return -logprob.double().cpu().numpy(), correct.cpu().numpy(), owner


def _row(sequences: Sequence[npt.NDArray[np.int32]], targets: Sequence[npt.NDArray[np.bool_]]) -> TreeRow:
    return build_row(sequences, targets, share=True)
