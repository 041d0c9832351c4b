"""The epoch plan: which examples form each optimizer step, and how a step is cut into micro-batches.

Membership (what a step holds) is a permutation keyed by seed and epoch and nothing else. The cut (how a step's
examples are laid out for the hardware) never changes a result, so it is free to be the fastest one:

- `padded`: rows as they come, padded to the longest; the reference the other cuts are tested against.
- `packed`: rows concatenated, no padding.
- `tree`: as packed, and a prefix shared by several rows is computed once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Cut = Literal["padded", "packed", "tree"]
Tokens = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """Examples that go through the model in one forward pass; `tokens` is what that pass computes."""

    examples: tuple[int, ...]
    tokens: int


@dataclass(frozen=True, slots=True)
class Step:
    """One optimizer step: its target tokens over all ranks, and the micro-batches of each rank."""

    target_tokens: int
    ranks: tuple[tuple[MicroBatch, ...], ...]

    @property
    def examples(self) -> tuple[int, ...]:
        """Every example of the step, each once."""
        return tuple(example for rank in self.ranks for micro in rank for example in micro.examples)


@dataclass(frozen=True, slots=True)
class EpochPlan:
    """A whole epoch. `useful_tokens` are those of the examples, `computed_tokens` those that run."""

    steps: tuple[Step, ...]
    useful_tokens: int

    @property
    def computed_tokens(self) -> int:
        """Tokens that run through the model: more than useful with padding, fewer with shared prefixes."""
        return sum(micro.tokens for step in self.steps for rank in step.ranks for micro in rank)


def plan_epoch(
    lengths: npt.NDArray[np.int32],
    targets: npt.NDArray[np.int32],
    *,
    seed: int,
    epoch: int,
    batch_size: int,
    max_tokens: int,
    world_size: int = 1,
    cut: Cut = "packed",
    tokens: Callable[[int], Tokens] | None = None,
) -> EpochPlan:
    """Plan one epoch; a pure function of its arguments.

    `lengths` and `targets` are the input tokens and target tokens of each example; `batch_size` is global (examples per
    optimizer step, over all ranks); `max_tokens` bounds what one forward pass computes, except that a single longer
    example still gets a pass of its own. `tokens(i)` gives the input tokens of example `i`; only `tree` asks for it.
    """
    order = membership(len(lengths), seed=seed, epoch=epoch)
    steps = []
    for start in range(0, len(order), batch_size):
        members = [int(example) for example in order[start : start + batch_size]]
        shares = _share(members, lengths, world_size, cut, tokens)
        ranks = tuple(tuple(cut_examples(share, lengths, max_tokens, cut, tokens)) for share in shares)
        steps.append(Step(int(targets[members].sum()), ranks))
    return EpochPlan(tuple(steps), int(lengths.sum()))


def membership(size: int, *, seed: int, epoch: int) -> npt.NDArray[np.int64]:
    """A uniform random permutation of `range(size)`; NumPy guarantees Philox's raw stream across versions."""
    keys = np.random.Philox(key=[seed, epoch]).random_raw(size)
    return np.argsort(keys, kind="stable")


def cut_examples(
    examples: Sequence[int],
    lengths: npt.NDArray[np.int32],
    max_tokens: int,
    cut: Cut,
    tokens: Callable[[int], Tokens] | None = None,
) -> list[MicroBatch]:
    """Lay `examples` out in forward passes of at most `max_tokens` computed tokens each."""
    if cut == "padded":
        return _cut_padded(examples, lengths, max_tokens)
    if cut == "packed":
        return _cut_packed(examples, lengths, max_tokens)
    if tokens is None:
        raise ValueError("the tree cut needs the token ids")
    return _cut_tree(examples, lengths, max_tokens, tokens)


def shared_prefix(first: Tokens, second: Tokens) -> int:
    """Number of leading tokens that both sequences have in common."""
    size = min(len(first), len(second))
    differs = np.flatnonzero(first[:size] != second[:size])
    return int(differs[0]) if len(differs) else size


def lexicographic(examples: Sequence[int], tokens: Callable[[int], Tokens]) -> list[int]:
    """Examples ordered so that those with a common prefix are neighbours."""
    return sorted(examples, key=lambda example: (tokens(example).astype(">i4").tobytes(), example))


def _cut_padded(examples: Sequence[int], lengths: npt.NDArray[np.int32], max_tokens: int) -> list[MicroBatch]:
    batches: list[list[int]] = []
    longest = 0
    for example in examples:
        longest = max(longest, int(lengths[example]))
        if not batches or longest * (len(batches[-1]) + 1) > max_tokens:
            batches.append([])
            longest = int(lengths[example])
        batches[-1].append(example)
    return [MicroBatch(tuple(batch), int(lengths[batch].max()) * len(batch)) for batch in batches]


def _cut_packed(examples: Sequence[int], lengths: npt.NDArray[np.int32], max_tokens: int) -> list[MicroBatch]:
    """First fit, longest first: at most 11/9 of the fewest possible passes (Johnson 1973)."""
    batches: list[list[int]] = []
    room: list[int] = []
    for example in sorted(examples, key=lambda example: (-int(lengths[example]), example)):
        size = int(lengths[example])
        fit = next((index for index, free in enumerate(room) if free >= size), None)
        if fit is None:
            batches.append([])
            room.append(max_tokens)
            fit = len(batches) - 1
        batches[fit].append(example)
        room[fit] -= size
    return [MicroBatch(tuple(batch), int(lengths[batch].sum())) for batch in batches]


def _cut_tree(
    examples: Sequence[int], lengths: npt.NDArray[np.int32], max_tokens: int, tokens: Callable[[int], Tokens]
) -> list[MicroBatch]:
    batches: list[list[int]] = []
    sizes: list[int] = []
    previous = None
    for example in lexicographic(examples, tokens):
        size = int(lengths[example])
        shared = 0 if previous is None else shared_prefix(tokens(previous), tokens(example))
        if not batches or sizes[-1] + size - shared > max_tokens:
            batches.append([])
            sizes.append(0)
            shared = 0
        batches[-1].append(example)
        sizes[-1] += size - shared
        previous = example
    return [MicroBatch(tuple(batch), size) for batch, size in zip(batches, sizes, strict=True)]


def _share(
    members: list[int],
    lengths: npt.NDArray[np.int32],
    world_size: int,
    cut: Cut,
    tokens: Callable[[int], Tokens] | None,
) -> list[list[int]]:
    """A step's examples dealt to the ranks, about equal in tokens; a rank may get none."""
    if world_size == 1:
        return [members]
    if cut == "tree" and tokens is not None:
        members = lexicographic(members, tokens)
    cumulative = np.cumsum(lengths[members])
    owner = np.minimum((cumulative - lengths[members] / 2) * world_size // cumulative[-1], world_size - 1)
    return [
        [member for member, rank in zip(members, owner, strict=True) if rank == chosen] for chosen in range(world_size)
    ]
