"""Score examples with a model: from encoded data to a scores table."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import nn

from kamerton.config.schema import Config, ScoreOptions
from kamerton.data.encode.arrays import Encoded
from kamerton.data.encode.each_turn import encode_each_turn, has_functions
from kamerton.data.encode.tokenize import StretchTokenizer
from kamerton.data.options import COMPARED
from kamerton.data.store import Examples
from kamerton.errors import Fault, UserError
from kamerton.objective.sequences import Mismatched
from kamerton.plan.packing import Packing
from kamerton.score.divide import ALONE, Ranks
from kamerton.score.generate.answers import answer_all, with_answers
from kamerton.score.generate.sampling import Decoding
from kamerton.score.labels.scores import Mode, Question, label_row, reference_row, score
from kamerton.score.labels.tokens import LabelTokens, Normalization, calibrated
from kamerton.score.normalizations import LABEL_TOKENS
from kamerton.score.table import example_row, scores_table


def evaluate(  # noqa: PLR0913 - by keyword
    model: nn.Module,
    tokenizer: Any,
    data: Encoded,
    *,
    labels: Sequence[str] | None,
    max_tokens: int,
    packing: Packing,
    mode: Mode = "exact",
    normalization: Normalization = "sum",
    content_free: str | None = None,
    device: torch.device | str = "cpu",
    progress: Callable[[int], None] = lambda done: None,
    ranks: Ranks = ALONE,
) -> pa.Table:
    """Score every example: all `labels` if given, otherwise only the reference completion.

    The predicted label has the highest log-probability, normalised by its number of tokens or bytes (`normalization`),
    minus its log-probability after the prompt `content_free`, if given. `label_logprobs` are not normalised; there are
    none with `mode="argmax"`, which only finds the predicted label. Each of the `ranks` returns the whole table.
    """
    examples = list(data.examples)
    tokens = None if labels is None else LabelTokens(tokenizer, labels, normalization, data.control_tokens)
    questions = [
        Question(data.tokens(index), data.targets(index), None if tokens is None else tokens(example.prompt))
        for index, example in enumerate(examples)
    ]
    ask = partial(
        score,
        model,
        max_tokens=max_tokens,
        packing=packing,
        pad=tokenizer.pad_token_id,
        device=device,
        ranks=ranks,
    )
    if tokens is not None and content_free is not None:
        neutral = [tokens.without_content(example.prompt, content_free) for example in examples]
        questions = calibrated(questions, neutral, ask)
    answers = ask(questions, mode=mode, progress=progress)
    rows = []
    for example, example_id, answer in zip(examples, data.ids.to_pylist(), answers, strict=True):
        scores = reference_row(answer) if labels is None else label_row(answer, example.completion, labels)
        if not example.is_answered:  # there is no reference to score
            scores = {"nll": None, "target_tokens": 0, "correct_tokens": None}
        rows.append({**example_row(example, example_id), **scores})
    table = scores_table(rows, labels)
    sizes = {tuple(map(len, question.candidates.trie.labels)) for question in questions if question.candidates}
    if len(sizes) != 1:  # the numbers of tokens of the labels depend on the prompt
        return table
    return table.replace_schema_metadata({**(table.schema.metadata or {}), LABEL_TOKENS: json.dumps(sizes.pop())})


def score_mismatched(
    model: nn.Module,
    tokenizer: Any,
    data: Encoded,
    *,
    max_tokens: int,
    packing: Packing,
    device: torch.device | str = "cpu",
    progress: Callable[[int], None] = lambda done: None,
) -> NDArray[np.float64]:
    """Return the log-probability of each prompt with the completion of another example, in nats: (sequences,)."""
    others = Mismatched(data, data.starts)
    questions = [Question(others.tokens(index), others.targets(index), None) for index in range(len(others))]
    pad = tokenizer.pad_token_id
    answers = score(model, questions, max_tokens=max_tokens, packing=packing, pad=pad, device=device, progress=progress)
    return np.array([-answer.nll for answer in answers])


def by_turn(data: Encoded, tokenizer: Any) -> Encoded:
    """Return the data to score: conversations with functions turn by turn, so that the calls of each are judged."""
    if not has_functions(data.examples):
        return data
    return encode_each_turn(data, StretchTokenizer(tokenizer, data.control_tokens, data.trained))


ScoreMode = Literal["labels", "reference", "generate"]


def score_split(  # noqa: PLR0913 - by keyword
    model: Any,
    tokenizer: Any,
    data: Encoded,
    *,
    labels: Sequence[str] | None,
    options: ScoreOptions,
    max_tokens: int,
    packing: Packing,
    partial: Path | None,
    device: torch.device | str = "cpu",
    progress: Callable[[int], None] = lambda done: None,
    ranks: Ranks = ALONE,
) -> pa.Table:
    """Return the scores table; `progress` is called for every example once per pass (`passes`).

    Generated answers are kept in the file `partial`, which the caller deletes after storing the table; None if there
    are several `ranks`, each of which returns the whole table.
    """
    mode = choose_mode(options, labels, data.examples)
    data = data.without_parts() if labels else data  # an earlier turn of a conversation is no label
    shared: dict[str, Any] = {"max_tokens": max_tokens, "device": device, "progress": progress, "ranks": ranks}
    table = evaluate(
        model,
        tokenizer,
        data,
        labels=labels if mode == "labels" else None,
        packing=packing,
        mode=options.labels,
        normalization=options.normalization,
        content_free=options.content_free,
        **shared,
    )
    if mode != "generate":
        return table
    allowed = labels if options.constrain else None
    decoding = decoding_of(options)
    answers = answer_all(model, tokenizer, data, labels=allowed, decoding=decoding, partial=partial, **shared)
    return with_answers(table, answers, labels)


def choose_mode(options: ScoreOptions, labels: Sequence[str] | None, examples: Examples | None = None) -> ScoreMode:
    """Resolve `score.mode` for data with these labels; raises `UserError` if the options need labels and have none.

    `auto` is labels if there are any, generate if the examples have functions, so that calls are judged, and otherwise
    reference.
    """
    needs = "score.mode=labels" if options.mode == "labels" else "score.constrain=true" if options.constrain else None
    if needs and not labels:
        message, column = f"{needs} needs labels, and these completions are free text", needs.partition("=")[0]
        fix = f"name the labels in data.labels, or remove {column}"
        raise UserError([Fault("score.labels", message, fix, column=column)])
    if options.mode == "auto":
        return "labels" if labels else "generate" if examples and has_functions(examples) else "reference"
    return options.mode


def scoring(config: Config) -> ScoreOptions:
    """Return how the rows are scored: preferences always by the log-probabilities of their completions."""
    return ScoreOptions(mode="reference") if config.data.rows in COMPARED else config.score


def passes(mode: ScoreMode) -> int:
    """Return the number of passes of each example through the model."""
    return 2 if mode == "generate" else 1


def decoding_of(options: ScoreOptions) -> Decoding:
    """Return the decoding parameters of the options."""
    return Decoding(options.max_new_tokens, options.temperature, options.top_p, options.seed, quantize=options.quantize)
