"""Batched generation with a key-value cache, greedy or sampled, of free text or one of given choices.

An answer depends only on its prompt, the model and the options. Batching changes logits only by rounding: rows are
padded on the left, padding is never attended to, and positions count from a row's first token. If the model's attention
is the tree's, a prefix shared by prompts of a batch runs once.

Shapes: B rows, L padded length.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from kamerton.errors import Fault, UserError
from kamerton.model.int8 import new_tokens, quantized
from kamerton.model.layers import base_of
from kamerton.model.limits import positions_of
from kamerton.model.switches import evaluation_mode
from kamerton.plan.packing import MicroBatch, pack_examples
from kamerton.score.divide import ALONE, Ranks, divided
from kamerton.score.generate.growing_cache import grow_in_place
from kamerton.score.generate.prompt_tree import cached_attention, read_tree, reads_trees
from kamerton.score.generate.sampling import Decoding, choose, restrict, token_logprobs

_CACHED = 8  # cached tokens take at most the memory of one token in a training pass

Choices = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class Prompt:
    """An example's id and prompt tokens; `choices` are the only token sequences that may follow, if there are any."""

    key: str
    tokens: npt.NDArray[np.int32]
    choices: Choices = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """Generated tokens without the end token, which is `end`; `choice` is the index of the generated choice.

    `finish_reason` is "stop" (an end token, or a complete choice) or "length". If the decoding has them, `logprobs` are
    those of the tokens and of `end`, in nats.
    """

    tokens: tuple[int, ...]
    finish_reason: str
    choice: int | None = None
    end: int | None = None
    logprobs: tuple[float, ...] = ()


@dataclass(slots=True)
class _Row:
    """The state of one prompt: its index, id, maximum number of new tokens, choices and tokens so far."""

    prompt: int
    key: str
    max_tokens: int
    choices: Choices
    tokens: list[int] = field(default_factory=list)
    ended: bool = False
    end: int | None = None
    logprobs: list[float] = field(default_factory=list)

    def possible(self) -> list[int]:
        """Return the indices of the choices that begin with the tokens so far."""
        size = len(self.tokens)
        return [i for i, choice in enumerate(self.choices) if choice[:size] == tuple(self.tokens)]

    def allowed(self) -> list[int]:
        """Return the tokens that continue a possible choice."""
        return sorted({self.choices[i][len(self.tokens)] for i in self.possible()})


def plan_batches(model: Any, prompts: Sequence[Prompt], decoding: Decoding, max_tokens: int) -> list[MicroBatch]:
    """Batch prompts, at most `max_tokens` computed per batch; deterministic.

    `max_tokens` is the budget of a training pass, of which a cached token takes a small part. Prompts with a common
    prefix are neighbours if the model's attention is the tree's; otherwise those of similar length are.
    """
    lengths = np.array([len(prompt.tokens) for prompt in prompts], dtype=np.int32)
    cached = lengths + decoding.max_new_tokens
    if not reads_trees(model):
        sizes = np.maximum(lengths, -(-cached // _CACHED))
        return pack_examples(range(len(prompts)), sizes, max_tokens, "padded")
    batches = []
    for batch in pack_examples(range(len(prompts)), lengths, max_tokens, "tree", lambda index: prompts[index].tokens):
        members = list(batch.examples)
        largest = max(1, _CACHED * max_tokens // int(cached[members].max()))
        batches += [
            MicroBatch(tuple(map(int, part)), batch.tokens)
            for part in np.array_split(members, -(-len(members) // largest))
        ]
    return batches


def generate(
    model: Any,
    prompts: Sequence[Prompt],
    batches: Sequence[MicroBatch],
    decoding: Decoding,
    *,
    ends: frozenset[int],
    pad: int,
    device: torch.device | str = "cpu",
    ranks: Ranks = ALONE,
) -> Iterator[dict[int, Answer]]:
    """Yield the answers of each batch by index of their prompt. `ends` are the tokens that end a turn.

    The batches are divided over `ranks`, which all yield all answers. Raises `UserError` for prompts that leave
    no position for an answer.
    """
    limits = _token_limits(model, prompts, decoding.max_new_tokens)

    def answer(batch: MicroBatch) -> dict[int, Answer]:
        rows = [_Row(i, prompts[i].key, limits[i], prompts[i].choices) for i in batch.examples]
        tokens = [prompts[i].tokens for i in batch.examples]
        with torch.inference_mode():
            _run(model, rows, tokens, decoding, ends, pad, torch.device(device))
        answers = {}
        for row in rows:
            possible = row.possible()
            if row.choices and len(possible) == 1:
                answers[row.prompt] = Answer(row.choices[possible[0]], "stop", possible[0])
            else:
                answers[row.prompt] = _answer(row)
        return answers

    with evaluation_mode(model), quantized(model, decoding.quantize):
        for _, answers in divided(batches, answer, ranks):
            yield answers


def _answer(row: _Row) -> Answer:
    reason = "stop" if row.ended else "length"
    return Answer(tuple(row.tokens), reason, end=row.end, logprobs=tuple(row.logprobs))


def _token_limits(model: Any, prompts: Sequence[Prompt], max_new_tokens: int) -> list[int]:
    """Return the maximum number of tokens of each answer; choices may always be completed."""
    limits = [max(map(len, prompt.choices), default=max_new_tokens) for prompt in prompts]
    positions = positions_of(base_of(model).config)
    if positions is None:
        return limits
    limits = [min(limit, positions - len(prompt.tokens)) for prompt, limit in zip(prompts, limits, strict=True)]
    if full := [prompt for prompt, limit in zip(prompts, limits, strict=True) if limit < 1]:
        message = f"{len(full)} prompts fill all {positions} positions of the model (first: example {full[0].key})"
        raise UserError([Fault("generate.too-long", message, "lower data.max_length", column="data.max_length")])
    return limits


def forward(model: Any, ids: Tensor, mask: Tensor, positions: Tensor, cache: Any) -> tuple[Tensor, Any]:
    """Return the logits (B, V) of the token after `ids` (B, L), and the updated cache; `mask` is (B, all so far)."""
    out = model(
        input_ids=ids,
        attention_mask=mask,
        position_ids=positions,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    return out.logits[:, -1].float(), out.past_key_values


def _run(
    model: Any,
    rows: Sequence[_Row],
    tokens: Sequence[npt.NDArray[np.int32]],
    decoding: Decoding,
    ends: frozenset[int],
    pad: int,
    device: torch.device,
) -> None:
    """Generate the tokens of each row; finished rows leave the batch."""
    alive = [row for row in rows if not _is_done(row)]
    unfinished = [row_tokens for row, row_tokens in zip(rows, tokens, strict=True) if not row.ended]
    if not alive:
        return
    last, cache, mask = _read(model, unfinished, pad, device)
    cache = grow_in_place(cache)
    positions = mask.sum(dim=1, keepdim=True) - 1
    with cached_attention(model):
        while True:
            logits = restrict(last, [row.allowed() if row.choices else None for row in alive])
            chosen = choose(logits, decoding, [(row.key, len(row.tokens)) for row in alive])
            if decoding.logprobs:
                for row, value in zip(alive, token_logprobs(logits, chosen), strict=True):
                    row.logprobs.append(value)
            for row, token in zip(alive, chosen, strict=True):
                row.ended = token in ends and not row.choices
                if row.ended:
                    row.end = token
                else:
                    row.tokens.append(token)
            remaining = [i for i, row in enumerate(alive) if not _is_done(row)]
            if not remaining:
                return
            if len(remaining) < len(alive):
                indices = torch.tensor(remaining, device=device)
                cache.batch_select_indices(indices)
                mask, positions = mask[indices], positions[indices]
                alive, chosen = [alive[i] for i in remaining], [chosen[i] for i in remaining]
            ids = torch.tensor(chosen, device=device)[:, None]
            mask = torch.cat([mask, mask.new_ones(len(remaining), 1)], dim=1)
            positions = positions + 1
            with new_tokens():
                last, cache = forward(model, ids, mask, positions, cache)


def _read(
    model: Any, prompts: Sequence[npt.NDArray[np.int32]], pad: int, device: torch.device
) -> tuple[Tensor, Any, Tensor]:
    """Return the logits (B, V) after each prompt, their cache, and the mask (B, L) of a batch padded on the left."""
    if reads_trees(model):
        return read_tree(model, prompts, device)
    ids, mask = (part.to(device) for part in _left_padded(prompts, pad))
    return *forward(model, ids, mask, (mask.cumsum(dim=1) - 1).clamp(min=0), None), mask


def _is_done(row: _Row) -> bool:
    row.ended = row.ended or (bool(row.choices) and len(row.possible()) == 1)
    return row.ended or len(row.tokens) >= row.max_tokens


def _left_padded(tokens: Sequence[npt.NDArray[np.int32]], pad: int) -> tuple[Tensor, Tensor]:
    """Return token ids and mask, both (B, L)."""
    longest = max(len(part) for part in tokens)
    ids = np.full((len(tokens), longest), pad, dtype=np.int64)
    mask = np.zeros((len(tokens), longest), dtype=np.int64)
    for row, part in enumerate(tokens):
        ids[row, longest - len(part) :] = part
        mask[row, longest - len(part) :] = 1
    return torch.from_numpy(ids), torch.from_numpy(mask)
