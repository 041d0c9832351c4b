"""The batches of each rank: every example once, and equally many passes if ranks depend on each other."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from kamerton.train.batches import MicroBatches, StepBatch
from kamerton.train.data_module import FineTuneData


class Rows:
    """`size` ragged rows; the last two tokens of each are targets."""

    def __init__(self, size: int) -> None:
        self.lengths = np.random.default_rng(3).integers(4, 40, size).astype(np.int32)
        self.target_counts = np.full(size, 2, dtype=np.int32)

    def tokens(self, index: int) -> npt.NDArray[np.int32]:
        return np.full(self.lengths[index], index + 1, dtype=np.int32)

    def targets(self, index: int) -> npt.NDArray[np.bool_]:
        return np.arange(self.lengths[index]) >= self.lengths[index] - 2

    def __len__(self) -> int:
        return len(self.lengths)


def steps(rank: int, *, world: int, batch_size: int, lockstep: bool) -> list[StepBatch]:
    data = FineTuneData(Rows(21), None, seed=1, batch_size=batch_size, max_tokens=50, packing="packed", pad=0)
    strategy = SimpleNamespace(lockstep=lockstep)
    trainer: Any = SimpleNamespace(world_size=world, global_rank=rank, global_step=0, strategy=strategy)
    data.trainer = trainer
    return list(data.train_dataloader())


@pytest.mark.parametrize("batch_size", [1, 2, 8, 21])
@pytest.mark.parametrize("lockstep", [False, True])
def test_ranks_weigh_every_target_once_and_run_equally_many_passes_if_they_must(
    batch_size: int, lockstep: bool
) -> None:
    ranks = [steps(rank, world=3, batch_size=batch_size, lockstep=lockstep) for rank in range(3)]
    for step in zip(*ranks, strict=True):
        passes = [len(rank.micro_batches) for rank in step]
        assert min(passes) > 0
        assert len(set(passes)) == 1 or not lockstep
        assert [len(rank.weights) for rank in step] == passes
        assert sum(float(weights.sum()) for rank in step for weights in rank.weights) == step[0].normaliser
        for rank in step:
            assert all(float(weights.sum()) == 0 for weights in rank.weights[rank.counted :])
        assert len({(rank.tokens, rank.computed, rank.targets, rank.context) for rank in step}) == 1


@pytest.mark.parametrize("size", [1, 2, 20])
def test_validation_counts_every_example_once_over_the_ranks(size: int) -> None:
    ranks = [
        list(MicroBatches(Rows(size), max_tokens=50, packing="packed", pad=0, rank=rank, world_size=3))
        for rank in range(3)
    ]
    assert len({len(batches) for batches in ranks}) == 1
    counted = [batch.rows for batches in ranks for batch in batches if batch.counts]
    assert sum(len(rows.token) for rows in counted) == 2 * size
