"""Generate the answers of a split, and add them to its scores table."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from torch import nn

from kamerton.data.encode.arrays import Encoded
from kamerton.data.encode.single_example import answer_ending
from kamerton.data.encode.tokenize import StretchTokenizer
from kamerton.model.ends import end_tokens
from kamerton.score.divide import ALONE, Ranks
from kamerton.score.generate.batched import Prompt, generate, plan_batches
from kamerton.score.generate.read import AnswerReader, last_turn
from kamerton.score.generate.sampling import Decoding
from kamerton.score.partial import Partial
from kamerton.score.table import scores_table

GeneratedRow = dict[str, Any]  # prediction, finish_reason; also predicted_calls, prediction_reasoning, generated


def answer_all(  # noqa: PLR0913 - by keyword
    model: Any,
    tokenizer: Any,
    data: Encoded,
    *,
    labels: Sequence[str] | None,
    decoding: Decoding,
    max_tokens: int,
    partial: Path | None,
    device: torch.device | str = "cpu",
    progress: Callable[[int], None] = lambda done: None,
    ranks: Ranks = ALONE,
) -> list[GeneratedRow]:
    """Return the answer to each example's prompt, in order; with `labels` always one of them.

    Finished batches are stored in the file `partial`, if given, and not run again, so a repeated call returns the same
    answers as an uninterrupted one, bit for bit. The batches are divided over `ranks`; several have no such file.
    """
    prompts, ends = make_prompts(model, tokenizer, data, labels)
    read = AnswerReader(tokenizer, data, prompts, ends)
    batches = plan_batches(model, prompts, decoding, max_tokens)
    data_fingerprints = (data.fingerprint, data.examples.fingerprint)
    digest = None if partial is None else weights_digest(model)
    fingerprint = fingerprint_of(
        digest, data_fingerprints, labels, decoding, sorted(ends), *filter(None, [decoding.quantize])
    )
    with Partial(partial, fingerprint) as done:
        pending = [batch for batch in batches if not all(position in done.rows for position in batch.examples)]
        progress(len(prompts) - sum(len(batch.examples) for batch in pending))
        pad = tokenizer.pad_token_id
        for answers in generate(model, prompts, pending, decoding, ends=ends, pad=pad, device=device, ranks=ranks):
            rows = {}
            for position, answer in answers.items():
                if labels is not None and answer.choice is not None:
                    parts: GeneratedRow = {"prediction": labels[answer.choice]}
                else:
                    parts = read(position, answer.tokens)
                rows[position] = {**parts, "finish_reason": answer.finish_reason}
            done.add(rows)
            progress(len(answers))
        return [done.rows[position] for position in range(len(prompts))]


def with_answers(table: pa.Table, generated: Sequence[GeneratedRow], labels: Sequence[str] | None) -> pa.Table:
    """Return the table with generated answers; with `labels`, answers equal to a label are the predicted label.

    Surrounding space is ignored; the predicted label of any other answer is null.
    """
    rows = []
    for row, answer in zip(table.to_pylist(), generated, strict=True):
        row |= answer
        if labels is not None:
            text = answer["prediction"].strip()
            row |= {"label": row["target"], "predicted_label": text if text in labels else None}
        rows.append(row)
    return scores_table(rows, labels)


def weights_digest(model: nn.Module) -> str:
    """Return a hash of all weights of the model with their names."""
    digest = hashlib.blake2b(digest_size=16)
    for name, weight in sorted(model.state_dict().items()):
        digest.update(name.encode())
        whole = weight.to_local() if hasattr(weight, "to_local") else weight  # sharded over this process alone
        digest.update(whole.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def fingerprint_of(*parts: Any) -> str:
    """Return a hash of everything that the answers depend on."""
    return hashlib.blake2b(repr(parts).encode(), digest_size=16).hexdigest()


def make_prompts(
    model: Any, tokenizer: Any, data: Encoded, labels: Sequence[str] | None
) -> tuple[list[Prompt], frozenset[int]]:
    """Return every example's tokens before its last turn, as in training, and the tokens that end a turn."""
    stretches = StretchTokenizer(tokenizer, data.control_tokens, data.trained)
    ending = answer_ending(tokenizer)
    ends: frozenset[int] = frozenset()
    prompts = []
    for position, (example, key) in enumerate(zip(data.examples, data.ids.to_pylist(), strict=True)):
        if not position:
            ends = end_tokens(
                model, tokenizer, ending or stretches.completions(example.prompt, [example.completion])[0][1]
            )
        choices = []
        for label in labels or ():  # up to the end of turn, so that no label is the beginning of another
            completion = stretches.completions(example.prompt, [label])[0][1]
            size = next((index + 1 for index, token in enumerate(completion) if token in ends), len(completion))
            choices.append(tuple(completion[:size]))
        prompts.append(Prompt(key, data.tokens(position)[: last_turn(data, position, stretches)], tuple(choices)))
    return prompts, ends
