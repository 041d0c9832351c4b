"""Divide the batches of a scoring over the processes of a run.

Whole batches are divided, not rows, so every batch is computed as by a single process and its results are equal bit for
bit. After each turn of one batch per process the results are exchanged, so that all processes have all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from traceback import format_exc
from typing import Any, TypeVar

from torch import distributed

from kamerton.errors import Interrupted
from kamerton.run.distributed import exchange

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Ranks:
    """The rank of this process among the `size` that score; `exchange` returns a value of each rank, in order."""

    rank: int = 0
    size: int = 1
    exchange: Callable[[Any], list[Any]] = lambda value: [value]


ALONE = Ranks()


def group_ranks() -> Ranks:
    """Return the ranks of torch's process group; `ALONE` without one."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return ALONE
    return Ranks(distributed.get_rank(), distributed.get_world_size(), exchange)


def divided(
    items: Sequence[Item], compute: Callable[[Item], Result], ranks: Ranks = ALONE
) -> Iterator[tuple[Item, Result]]:
    """Yield each item with its result, in order, on every rank; `ranks.size` ranks compute each one of a turn.

    All ranks must call this with the same items. If one fails, rank 0 raises the error, and the others `Interrupted`.
    """
    for start in range(0, len(items), ranks.size):
        turn = items[start : start + ranks.size]
        computed = None
        if ranks.rank < len(turn):
            try:
                computed = compute(turn[ranks.rank])
            except Exception as error:
                ranks.exchange((None, (f"{type(error).__name__}: {error}", format_exc())))
                if ranks.rank:
                    raise Interrupted from error
                raise
        exchanged = ranks.exchange((computed, None))
        for rank, (_, failure) in enumerate(exchanged):
            if failure is not None and ranks.rank:
                raise Interrupted
            if failure is not None:
                message, trace = failure
                failed = RuntimeError(f"scoring failed on rank {rank}: {message}")
                failed.add_note(trace)
                raise failed
        for item, (result, _) in zip(turn, exchanged, strict=False):  # the last turn may be shorter
            yield item, result
