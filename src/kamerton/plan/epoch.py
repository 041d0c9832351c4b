"""The epoch plan: the examples of each optimizer step, and their distribution over the ranks.

The examples of a step are a permutation keyed only by seed and epoch, unless the configuration groups them by length.
The layout of a step for the hardware never changes a result: see `plan/packing.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kamerton.plan.packing import Group, MicroBatch, Packing, Tokens, lexicographic, pack_groups


@dataclass(frozen=True, slots=True)
class Step:
    """One optimizer step: its target and input tokens over all ranks, and the micro-batches of each rank."""

    target_tokens: int
    useful_tokens: int
    ranks: tuple[tuple[MicroBatch, ...], ...]

    @property
    def examples(self) -> tuple[int, ...]:
        """All examples of the step, each once."""
        return tuple(example for rank in self.ranks for micro in rank for example in micro.examples)


@dataclass(frozen=True, slots=True)
class EpochPlan:
    """An epoch as a sequence of steps, which are laid out on access.

    `order` is the groups step after step (without groups, the examples); `useful_tokens` is the number of input tokens
    of all examples.
    """

    order: npt.NDArray[np.int64]
    batch_size: int
    useful_tokens: int
    pack_step: Callable[[list[int]], Step]

    def __len__(self) -> int:
        return -(-len(self.order) // self.batch_size)

    def __getitem__(self, index: int) -> Step:
        """Lay out step `index`; steps are not cached, because there are many."""
        if not 0 <= index < len(self):
            raise IndexError(f"step {index} of an epoch of {len(self)}")
        start = index * self.batch_size
        return self.pack_step(self.order[start : start + self.batch_size].tolist())

    def __iter__(self) -> Iterator[Step]:
        return (self[index] for index in range(len(self)))

    def compute_ratio(self, examples: int = 20_000) -> tuple[float, bool]:
        """Return the tokens computed by the model per useful token, and whether the number is exact.

        It is more than 1 with padding, less with shared prefixes. For more than about `examples` examples it is
        estimated from equally spaced steps.
        """
        count = min(len(self), max(1, examples // self.batch_size))
        steps = [self[index * len(self) // count] for index in range(count)]
        computed = sum(micro.tokens for step in steps for rank in step.ranks for micro in rank)
        return computed / max(sum(step.useful_tokens for step in steps), 1), count == len(self)


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
    starts: npt.NDArray[np.int64] | None = None,
) -> EpochPlan:
    """Plan an epoch; a pure function of its arguments.

    `lengths` and `targets` are the numbers of input tokens and target tokens of each example; `batch_size` is global
    (examples per optimizer step, over all ranks); `max_tokens` limits the tokens computed in a forward pass, except
    that a single longer example still gets a separate pass. `tokens(i)` returns the input tokens of example `i`; only
    `tree` needs it. `group_by_length` forms steps of similar lengths (see `group_lengths`); unlike `packing` it changes
    the result of training. `starts` are the first examples of groups (the completions of one prompt); a group is in one
    step, on one rank, and counts as one of `batch_size`. None: each example is a group.
    """
    ends = None if starts is None else np.append(starts[1:], len(lengths))

    def pack_step(numbers: list[int]) -> Step:
        groups: list[Group] = [(number,) for number in numbers]
        if starts is not None and ends is not None:
            groups = [tuple(range(starts[number], ends[number])) for number in numbers]
        members = [example for group in groups for example in group]
        shares = _distribute(groups, lengths, world_size, packing, tokens)
        ranks = tuple(tuple(pack_groups(share, lengths, max_tokens, packing, tokens)) for share in shares)
        return Step(int(targets[members].sum()), int(lengths[members].sum()), ranks)

    sizes = lengths if starts is None else np.add.reduceat(lengths, starts)
    order = membership(len(sizes), seed=seed, epoch=epoch)
    if group_by_length:
        order = group_lengths(order, sizes, batch_size, seed=seed, epoch=epoch)
    return EpochPlan(order, batch_size, int(lengths.sum(dtype=np.int64)), pack_step)


def membership(size: int, *, seed: int, epoch: int) -> npt.NDArray[np.int64]:
    """Return a uniform random permutation of `range(size)`; NumPy guarantees Philox's raw stream across versions."""
    keys = np.random.Philox(key=[seed, epoch]).random_raw(size)
    return np.argsort(keys, kind="stable")


def group_lengths(
    order: npt.NDArray[np.int64], lengths: npt.NDArray[np.int32], batch_size: int, *, seed: int, epoch: int
) -> npt.NDArray[np.int64]:
    """Return an order in which the examples of a step have similar lengths, with the steps in random order.

    Each run of 50 steps is sorted by length, as in transformers' LengthGroupedSampler. An incomplete last step stays
    the last.
    """
    size = 50 * batch_size
    pools = (order[start : start + size] for start in range(0, len(order), size))
    grouped = np.concatenate([order[:0], *(pool[np.argsort(-lengths[pool], kind="stable")] for pool in pools)])
    full = len(order) // batch_size
    keys = np.random.Philox(key=[seed, epoch], counter=[0, 0, 0, 1]).random_raw(full)
    steps = grouped[: full * batch_size].reshape(full, batch_size)[np.argsort(keys, kind="stable")]
    return np.concatenate([steps.ravel(), grouped[full * batch_size :]])


def _distribute(
    groups: list[Group],
    lengths: npt.NDArray[np.int32],
    world_size: int,
    packing: Packing,
    tokens: Callable[[int], Tokens] | None,
) -> list[list[Group]]:
    """Distribute a step's groups over the ranks, with about equal tokens; a rank may get none."""
    if world_size == 1:
        return [groups]
    if packing == "tree" and tokens is not None:
        groups = lexicographic(groups, tokens)
    sizes = np.array([lengths[list(group)].sum() for group in groups])
    cumulative = np.cumsum(sizes)
    ranks = np.minimum((cumulative - sizes / 2) * world_size // cumulative[-1], world_size - 1)
    shares: list[list[Group]] = [[] for _ in range(world_size)]
    for group, rank in zip(groups, ranks.astype(int).tolist(), strict=True):
        shares[rank].append(group)
    return shares
