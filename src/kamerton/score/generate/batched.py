"""Generate answers: batched, with a cache of keys and values, greedily or sampled, free or one of given choices.

An answer depends on its prompt, the model and the options alone. How prompts are batched changes a logit by rounding
only: rows are padded on the left, padding is never attended to, and positions count from a row's own first token.

Shapes: B rows, L padded length.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from kamerton.errors import Fault, UserError
from kamerton.model.attention import ATTENTION
from kamerton.model.limits import positions_of
from kamerton.model.parts import base_of
from kamerton.plan.packing import MicroBatch, pack_examples
from kamerton.score.generate.sampling import Decoding, choose, restrict

_CACHED = 8  # cached tokens that take at most the memory of one token in a pass that is trained on

Choices = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class Prompt:
    """What is answered: an example's id and its tokens; `choices` are the only token sequences that may follow."""

    key: str
    tokens: npt.NDArray[np.int32]
    choices: Choices = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """Generated tokens without the one that ended them; `choice` numbers the prompt's choice they are.

    `finish_reason` is "stop" (an end token, or a whole choice) or "length".
    """

    tokens: tuple[int, ...]
    finish_reason: str
    choice: int | None = None


@dataclass(slots=True)
class _Row:
    """A prompt on its way: what it has so far, how much it may get, and the choices that are still possible."""

    prompt: int
    key: str
    room: int
    choices: Choices
    tokens: list[int] = field(default_factory=list)
    ended: bool = False

    def possible(self) -> list[int]:
        """The choices that begin with the tokens so far."""
        size = len(self.tokens)
        return [i for i, choice in enumerate(self.choices) if choice[:size] == tuple(self.tokens)]

    def allowed(self) -> list[int]:
        """The tokens that lead to a choice; none: any may follow."""
        return sorted({self.choices[i][len(self.tokens)] for i in self.possible()})


def plan_batches(prompts: Sequence[Prompt], decoding: Decoding, max_tokens: int) -> list[MicroBatch]:
    """Prompts of similar length together, as many as `max_tokens` holds; the same for the same arguments.

    A cached token takes a small part of what a token of a training pass takes, for which `max_tokens` is meant.
    """
    lengths = [len(prompt.tokens) for prompt in prompts]
    cached = [-(-(length + decoding.max_new_tokens) // _CACHED) for length in lengths]
    sizes = np.array([max(pair) for pair in zip(lengths, cached, strict=True)], dtype=np.int32)
    return pack_examples(range(len(prompts)), sizes, max_tokens, "padded")


def generate(
    model: Any,
    prompts: Sequence[Prompt],
    batches: Sequence[MicroBatch],
    decoding: Decoding,
    *,
    ends: frozenset[int],
    pad: int,
    device: torch.device | str = "cpu",
) -> Iterator[dict[int, Answer]]:
    """The answers of each batch by their prompt's position, as each is done. `ends` are the tokens that end a turn.

    Raises `UserError` for prompts that leave the model no position to answer in.
    """
    rooms = _rooms(model, prompts, decoding.max_new_tokens)
    with _answering(model):
        for batch in batches:
            rows = [_Row(i, prompts[i].key, rooms[i], prompts[i].choices) for i in batch.examples]
            tokens = [prompts[i].tokens for i in batch.examples]
            with torch.inference_mode():
                _run(model, rows, tokens, decoding, ends, pad, torch.device(device))
            yield {row.prompt: _answer(row) for row in rows}


def _rooms(model: Any, prompts: Sequence[Prompt], most: int) -> list[int]:
    """How many tokens each answer may have; a choice may always end."""
    wanted = [max(map(len, prompt.choices), default=most) for prompt in prompts]
    positions = positions_of(base_of(model).config)
    if positions is None:
        return wanted
    rooms = [min(room, positions - len(prompt.tokens)) for prompt, room in zip(prompts, wanted, strict=True)]
    if full := [prompt for prompt, room in zip(prompts, rooms, strict=True) if room < 1]:
        message = f"{len(full)} prompts fill all {positions} positions of the model (first: example {full[0].key})"
        raise UserError([Fault("generate.too-long", message, "lower data.max_length", column="data.max_length")])
    return rooms


@contextmanager
def _answering(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, and attention that knows a cache in place of the tree's."""
    training, inner = model.training, base_of(model)
    before = inner.config._attn_implementation
    model.eval()
    if before == ATTENTION:
        _set_plain_attention(inner)
    try:
        yield
    finally:
        if before == ATTENTION:
            inner.set_attn_implementation(before)
        model.train(training)


def _set_plain_attention(inner: Any) -> None:
    try:
        inner.set_attn_implementation("sdpa")
    except ValueError:  # the model has none
        inner.set_attn_implementation("eager")


def forward(model: Any, ids: Tensor, mask: Tensor, positions: Tensor, cache: Any) -> tuple[Tensor, Any]:
    """Logits (B, V) of the token after `ids` (B, L), and the cache with them; `mask` (B, all so far)."""
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
    """Adds to each row its tokens; rows that are done leave the batch."""
    alive = [row for row in rows if not _is_done(row)]
    kept = [part for row, part in zip(rows, tokens, strict=True) if not row.ended]
    if not alive:
        return
    ids, mask = (part.to(device) for part in _left_padded(kept, pad))
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
    cache = None
    while True:
        last, cache = forward(model, ids, mask, positions, cache)
        logits = restrict(last, [row.allowed() if row.choices else None for row in alive])
        chosen = choose(logits, decoding, [(row.key, len(row.tokens)) for row in alive])
        for row, token in zip(alive, chosen, strict=True):
            row.ended = token in ends and not row.choices
            if not row.ended:
                row.tokens.append(token)
        left = [i for i, row in enumerate(alive) if not _is_done(row)]
        if not left:
            return
        if len(left) < len(alive):
            at = torch.tensor(left, device=device)
            cache.batch_select_indices(at)
            mask, positions = mask[at], positions[at]
            alive, chosen = [alive[i] for i in left], [chosen[i] for i in left]
        ids = torch.tensor(chosen, device=device)[:, None]
        mask = torch.cat([mask, mask.new_ones(len(left), 1)], dim=1)
        positions = positions[:, -1:] + 1


def _is_done(row: _Row) -> bool:
    row.ended = row.ended or (bool(row.choices) and len(row.possible()) == 1)
    return row.ended or len(row.tokens) >= row.room


def _left_padded(tokens: Sequence[npt.NDArray[np.int32]], pad: int) -> tuple[Tensor, Tensor]:
    """Token ids and mask, both (B, L)."""
    longest = max(len(part) for part in tokens)
    ids = np.full((len(tokens), longest), pad, dtype=np.int64)
    mask = np.zeros((len(tokens), longest), dtype=np.int64)
    for row, part in enumerate(tokens):
        ids[row, longest - len(part) :] = part
        mask[row, longest - len(part) :] = 1
    return torch.from_numpy(ids), torch.from_numpy(mask)


def _answer(row: _Row) -> Answer:
    possible = row.possible()
    if row.choices and len(possible) == 1:
        return Answer(row.choices[possible[0]], "stop", possible[0])
    return Answer(tuple(row.tokens), "stop" if row.ended else "length")
