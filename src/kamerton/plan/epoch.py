"""The epoch plan: which examples form each optimizer step, and how the step is shared by the ranks.

Membership (what a step holds) is a permutation keyed by seed and epoch and nothing else, unless examples are grouped
by length on request. How a step is laid out for the hardware never changes a result: see `plan/packing.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kamerton.plan.packing import MicroBatch, Packing, Tokens, lexicographic, pack_examples


@dataclass(frozen=True, slots=True)
class Step:
    """One optimizer step: its target and input tokens over all ranks, and the micro-batches of each rank."""

    target_tokens: int
    useful_tokens: int
    ranks: tuple[tuple[MicroBatch, ...], ...]

    @property
    def examples(self) -> tuple[int, ...]:
        """Every example of the step, each once."""
        return tuple(example for rank in self.ranks for micro in rank for example in micro.examples)


@dataclass(frozen=True, slots=True)
class EpochPlan:
    """A whole epoch, as a sequence of steps that are cut when they are asked for.

    `order` holds the examples step after step; `useful_tokens` are those of all examples.
    """

    order: npt.NDArray[np.int64]
    batch_size: int
    useful_tokens: int
    pack_step: Callable[[list[int]], Step]

    def __len__(self) -> int:
        return -(-len(self.order) // self.batch_size)

    def __getitem__(self, index: int) -> Step:
        """Return Step `index`, laid out now; steps are many, so none is kept."""
        if not 0 <= index < len(self):
            raise IndexError(f"step {index} of an epoch of {len(self)}")
        start = index * self.batch_size
        return self.pack_step(self.order[start : start + self.batch_size].tolist())

    def __iter__(self) -> Iterator[Step]:
        return (self[index] for index in range(len(self)))

    def compute_ratio(self, examples: int = 20_000) -> tuple[float, bool]:
        """Return tokens that run through the model per useful token, and whether that is exact.

        It is more than 1 with padding, less with shared prefixes. An epoch of more than about `examples` examples is
        estimated from steps at equal distances.
        """
        steps = min(len(self), max(1, examples // self.batch_size))
        chosen = [index * len(self) // steps for index in range(steps)]
        done = [self[index] for index in chosen]
        computed = sum(micro.tokens for step in done for rank in step.ranks for micro in rank)
        return computed / max(sum(step.useful_tokens for step in done), 1), steps == len(self)


def plan_epoch(  # noqa: PLR0913 - by keyword
    lengths: npt.NDArray[np.int32],
    targets: npt.NDArray[np.int32],
    *,
    seed: int,
    epoch: int,
    batch_size: int,
    max_tokens: int,
    world_size: int = 1,
    packing: Packing = "packed",
    group_by_length: bool = False,
    tokens: Callable[[int], Tokens] | None = None,
) -> EpochPlan:
    """Plan one epoch; a pure function of its arguments.

    `lengths` and `targets` are the input tokens and target tokens of each example; `batch_size` is global (examples per
    optimizer step, over all ranks); `max_tokens` bounds what one forward pass computes, except that a single longer
    example still gets a pass of its own. `tokens(i)` gives the input tokens of example `i`; only `tree` asks for it.
    `group_by_length` forms steps of similar lengths (see `group_lengths`): it changes what is learned, a cut does not.
    """

    def pack_step(members: list[int]) -> Step:
        shares = _share(members, lengths, world_size, packing, tokens)
        ranks = tuple(tuple(pack_examples(share, lengths, max_tokens, packing, tokens)) for share in shares)
        return Step(int(targets[members].sum()), int(lengths[members].sum()), ranks)

    order = membership(len(lengths), seed=seed, epoch=epoch)
    if group_by_length:
        order = group_lengths(order, lengths, batch_size, seed=seed, epoch=epoch)
    return EpochPlan(order, batch_size, int(lengths.sum(dtype=np.int64)), pack_step)


def membership(size: int, *, seed: int, epoch: int) -> npt.NDArray[np.int64]:
    """Return a uniform random permutation of `range(size)`; NumPy guarantees Philox's raw stream across versions."""
    keys = np.random.Philox(key=[seed, epoch]).random_raw(size)
    return np.argsort(keys, kind="stable")


def group_lengths(
    order: npt.NDArray[np.int64], lengths: npt.NDArray[np.int32], batch_size: int, *, seed: int, epoch: int
) -> npt.NDArray[np.int64]:
    """Return the order with examples of similar length in one step, and the steps in random order again.

    Each run of 50 steps is sorted by length, as in transformers' LengthGroupedSampler. A last step that is not full
    stays the last.
    """
    pool = 50 * batch_size
    pools = (order[start : start + pool] for start in range(0, len(order), pool))
    grouped = np.concatenate([order[:0], *(one[np.argsort(-lengths[one], kind="stable")] for one in pools)])
    full = len(order) // batch_size
    keys = np.random.Philox(key=[seed, epoch], counter=[0, 0, 0, 1]).random_raw(full)
    steps = grouped[: full * batch_size].reshape(full, batch_size)[np.argsort(keys, kind="stable")]
    return np.concatenate([steps.ravel(), grouped[full * batch_size :]])


def _share(
    members: list[int],
    lengths: npt.NDArray[np.int32],
    world_size: int,
    packing: Packing,
    tokens: Callable[[int], Tokens] | None,
) -> list[list[int]]:
    """Return a step's examples dealt to the ranks, about equal in tokens; a rank may get none."""
    if world_size == 1:
        return [members]
    if packing == "tree" and tokens is not None:
        members = lexicographic(members, tokens)
    cumulative = np.cumsum(lengths[members])
    owner = np.minimum((cumulative - lengths[members] / 2) * world_size // cumulative[-1], world_size - 1)
    return [
        [member for member, rank in zip(members, owner, strict=True) if rank == chosen] for chosen in range(world_size)
    ]
