"""From a model and examples to a scores table."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import nn

from kamerton.data.encode import Encoded
from kamerton.data.example import DataExample
from kamerton.data.tokenize import renderer
from kamerton.plan.cut import Cut
from kamerton.score.labels import Answer, Question, label_row, reference_row, score
from kamerton.score.table import scores_table


def evaluate(
    model: nn.Module,
    tokenizer: Any,
    data: Encoded,
    *,
    labels: Sequence[str] | None,
    max_tokens: int,
    cut: Cut,
    device: torch.device | str = "cpu",
    progress: Callable[[int], None] = lambda done: None,
) -> pa.Table:
    """Score every example; with `labels` each of them, otherwise the reference completion alone."""
    render = renderer(tokenizer)
    examples = list(data.examples)
    questions = [
        Question(data.tokens(index), data.targets(index), _labels(render, example, labels or ()))
        for index, example in enumerate(examples)
    ]
    answers = score(
        model,
        questions,
        max_tokens=max_tokens,
        cut=cut,
        pad=tokenizer.pad_token_id,
        device=device,
        progress=progress,
    )
    rows = [
        _row(example, example_id, answer, labels)
        for example, example_id, answer in zip(examples, data.ids.to_pylist(), answers, strict=True)
    ]
    return scores_table(rows, labels)


def _labels(render: Any, example: DataExample, labels: Sequence[str]) -> tuple[npt.NDArray[np.int32], ...]:
    """Each label's tokens as the completion of this example's prompt."""
    return tuple(np.asarray(render(example.prompt, label)[1], dtype=np.int32) for label in labels)


def _row(example: DataExample, example_id: str, answer: Answer, labels: Sequence[str] | None) -> dict[str, Any]:
    prompt = example.prompt
    text = prompt if isinstance(prompt, str) else "\n".join(f"{turn.role}: {turn.content}" for turn in prompt)
    common = {
        "example_id": example_id,
        "prompt": text,
        "target": example.completion,
        "metadata": json.dumps(dict(example.metadata), ensure_ascii=False, default=str),
    }
    part = label_row(answer, example.completion, labels) if labels is not None else reference_row(answer)
    return {**common, **part}
