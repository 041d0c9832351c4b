"""Score the examples of a split the way that the options ask for and the data allow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import torch

from kamerton.config.schema import ScoreOptions
from kamerton.data.encode.arrays import Encoded
from kamerton.errors import Fault, UserError
from kamerton.plan.cut import Cut
from kamerton.score.answers import answer_all, with_answers
from kamerton.score.evaluate import evaluate
from kamerton.score.sampling import Decoding

Mode = Literal["labels", "reference", "generate"]


def score_split(
    model: Any,
    tokenizer: Any,
    data: Encoded,
    *,
    labels: Sequence[str] | None,
    options: ScoreOptions,
    max_tokens: int,
    cut: Cut,
    partial: Path,
    device: torch.device | str = "cpu",
    progress: Callable[[int], None] = lambda done: None,
) -> pa.Table:
    """The scores table; `progress` is told of every example once for each of `passes`.

    Generated answers are kept in the file `partial` until the caller has the table and deletes it.
    """
    mode = choose_mode(options, labels)
    own: dict[str, Any] = {"max_tokens": max_tokens, "device": device, "progress": progress}
    table = evaluate(
        model,
        tokenizer,
        data,
        labels=labels if mode == "labels" else None,
        cut=cut,
        mode=options.labels,
        normalization=options.normalization,
        content_free=options.content_free,
        **own,
    )
    if mode != "generate":
        return table
    allowed = labels if options.constrain else None
    said = answer_all(model, tokenizer, data, labels=allowed, decoding=decoding_of(options), partial=partial, **own)
    return with_answers(table, said, labels)


def choose_mode(options: ScoreOptions, labels: Sequence[str] | None) -> Mode:
    """What `score.mode` comes to for data with these labels; raises `UserError` where it needs labels and has none."""
    needs = "score.mode=labels" if options.mode == "labels" else "score.constrain=true" if options.constrain else None
    if needs and not labels:
        message, column = f"{needs} needs labels, and these completions are free text", needs.partition("=")[0]
        raise UserError([Fault("score.labels", message, "name the labels in data.labels, or leave it", column=column)])
    if options.mode == "auto":
        return "labels" if labels else "reference"
    return options.mode


def passes(mode: Mode) -> int:
    """How often each example goes through the model."""
    return 2 if mode == "generate" else 1


def decoding_of(options: ScoreOptions) -> Decoding:
    """The options of generating, as plain values."""
    return Decoding(options.max_new_tokens, options.temperature, options.top_p, options.seed)
