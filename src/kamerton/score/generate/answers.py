"""Generated answers of a split, and the scores table that they complete."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import nn

from kamerton.data.encode.arrays import Encoded
from kamerton.data.encode.tokenize import renderer
from kamerton.model.ends import end_tokens
from kamerton.score.generate.batched import Answer, Prompt, generate, plan_batches
from kamerton.score.generate.sampling import Decoding
from kamerton.score.partial import Partial
from kamerton.score.table import scores_table

GeneratedRow = dict[str, Any]  # prediction, finish_reason


def answer_all(  # noqa: PLR0913 - by keyword
    model: Any,
    tokenizer: Any,
    data: Encoded,
    *,
    labels: Sequence[str] | None,
    decoding: Decoding,
    max_tokens: int,
    partial: Path,
    device: torch.device | str = "cpu",
    progress: Callable[[int], None] = lambda done: None,
) -> list[GeneratedRow]:
    """The answer to each example's prompt, in order; with `labels` always one of them.

    Batches are kept in the file `partial` as they are done. One that is there already is not run again, so a repeated
    call gives what an undisturbed one gives, to the bit.
    """
    prompts, ends = make_prompts(model, tokenizer, data, labels)
    batches = plan_batches(prompts, decoding, max_tokens)
    of_data = (data.fingerprint, data.examples.fingerprint)
    fingerprint = fingerprint_of(weights_digest(model), of_data, labels, decoding, sorted(ends))
    with Partial(partial, fingerprint) as done:
        left = [batch for batch in batches if not all(at in done.rows for at in batch.examples)]
        progress(len(prompts) - sum(len(batch.examples) for batch in left))
        pad = tokenizer.pad_token_id
        for answers in generate(model, prompts, left, decoding, ends=ends, pad=pad, device=device):
            done.add({at: _said(answer, tokenizer, labels) for at, answer in answers.items()})
            progress(len(answers))
        return [done.rows[at] for at in range(len(prompts))]


def with_answers(table: pa.Table, generated: Sequence[GeneratedRow], labels: Sequence[str] | None) -> pa.Table:
    """The table with what was said; with `labels` an answer that is one of them (but for the space around it) is the
    predicted label, and any other is none."""
    rows = []
    for row, answer in zip(table.to_pylist(), generated, strict=True):
        row |= answer
        if labels is not None:
            text = answer["prediction"].strip()
            row |= {"label": row["target"], "predicted_label": text if text in labels else None}
        rows.append(row)
    return scores_table(rows, labels)


def weights_digest(model: nn.Module) -> str:
    """A hash of every weight of the model, by name."""
    digest = hashlib.blake2b(digest_size=16)
    for name, weight in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(weight.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def fingerprint_of(*parts: Any) -> str:
    """A hash of what answers depend on."""
    return hashlib.blake2b(repr(parts).encode(), digest_size=16).hexdigest()


def make_prompts(
    model: Any, tokenizer: Any, data: Encoded, labels: Sequence[str] | None
) -> tuple[list[Prompt], frozenset[int]]:
    """Every example's tokens up to its last turn, as training laid them out; and the tokens that end a turn."""
    render = renderer(tokenizer, data.control_tokens)
    ends: frozenset[int] = frozenset()
    prompts = []
    for at, (example, key) in enumerate(zip(data.examples, data.ids.to_pylist(), strict=True)):
        if not at:
            ends = end_tokens(model, tokenizer, render(example.prompt, example.completion)[1])
        choices = tuple(_choice(render(example.prompt, label)[1], ends) for label in labels or ())
        prompts.append(Prompt(key, _before_last_turn(data, at), choices))
    return prompts, ends


def _before_last_turn(data: Encoded, at: int) -> Any:
    """The tokens before the last stretch of targets: earlier turns that are trained on are read here."""
    read = np.flatnonzero(~data.targets(at))
    return data.tokens(at)[: int(read[-1]) + 1]


def _choice(completion: Sequence[int], ends: frozenset[int]) -> tuple[int, ...]:
    """A label's tokens up to the one that ends the turn: no label is then the beginning of another."""
    size = next((at + 1 for at, token in enumerate(completion) if token in ends), len(completion))
    return tuple(completion[:size])


def _said(answer: Answer, tokenizer: Any, labels: Sequence[str] | None) -> GeneratedRow:
    if labels is not None and answer.choice is not None:
        return {"prediction": labels[answer.choice], "finish_reason": answer.finish_reason}
    text = tokenizer.decode(list(answer.tokens), skip_special_tokens=True)
    return {"prediction": text, "finish_reason": answer.finish_reason}
