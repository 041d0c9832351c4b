"""From a model and examples to a scores table."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pyarrow as pa
import torch
from torch import nn

from kamerton.data.encode.arrays import Encoded
from kamerton.data.example import DataExample
from kamerton.plan.cut import Cut
from kamerton.score.labels import Answer, Mode, Question, label_row, reference_row, score
from kamerton.score.labels_tokens import LabelTokens, Normalization, calibrated
from kamerton.score.normalizations import LABEL_TOKENS
from kamerton.score.table import scores_table


def evaluate(
    model: nn.Module,
    tokenizer: Any,
    data: Encoded,
    *,
    labels: Sequence[str] | None,
    max_tokens: int,
    cut: Cut,
    mode: Mode = "exact",
    normalization: Normalization = "sum",
    content_free: str | None = None,
    device: torch.device | str = "cpu",
    progress: Callable[[int], None] = lambda done: None,
) -> pa.Table:
    """Score every example; with `labels` each of them, otherwise the reference completion alone.

    The predicted label has the highest log-probability, after `normalization` by its tokens or bytes, and less its
    log-probability after the prompt `content_free`, if one is given. `label_logprobs` are as the model gives them in
    any case; with `mode` argmax, which finds the predicted label alone, there are none.
    """
    examples = list(data.examples)
    tokens = None if labels is None else LabelTokens(tokenizer, labels, normalization, data.control_tokens)
    questions = [
        Question(data.tokens(index), data.targets(index), None if tokens is None else tokens(example.prompt))
        for index, example in enumerate(examples)
    ]
    ask = partial(score, model, max_tokens=max_tokens, cut=cut, pad=tokenizer.pad_token_id, device=device)
    if tokens is not None and content_free is not None:
        neutral = [tokens.without_content(example.prompt, content_free) for example in examples]
        questions = calibrated(questions, neutral, ask)
    answers = ask(questions, mode=mode, progress=progress)
    rows = [
        _row(example, example_id, answer, labels)
        for example, example_id, answer in zip(examples, data.ids.to_pylist(), answers, strict=True)
    ]
    table = scores_table(rows, labels)
    return table if tokens is None else _with_lengths(table, questions)


def _with_lengths(table: pa.Table, questions: Sequence[Question]) -> pa.Table:
    """The table with the number of tokens of each label, where that is the same after every prompt."""
    sizes = {tuple(map(len, question.candidates.trie.labels)) for question in questions if question.candidates}
    if len(sizes) != 1:
        return table
    return table.replace_schema_metadata({**(table.schema.metadata or {}), LABEL_TOKENS: json.dumps(sizes.pop())})


def example_row(example: DataExample, example_id: str) -> dict[str, Any]:
    """The part of a scores row that no model changes."""
    return {
        "example_id": example_id,
        "prompt": example.prompt_text,
        "target": example.completion,
        "metadata": json.dumps(dict(example.metadata), ensure_ascii=False, default=str),
    }


def _row(example: DataExample, example_id: str, answer: Answer, labels: Sequence[str] | None) -> dict[str, Any]:
    part = label_row(answer, example.completion, labels) if labels is not None else reference_row(answer)
    return {**example_row(example, example_id), **part}
