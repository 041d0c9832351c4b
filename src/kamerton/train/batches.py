"""Batches of Lightning: one is one optimizer step, already divided into micro-batches, or a pass of a validation."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch

from kamerton.objective.sequences import EncodedExamples
from kamerton.plan.epoch import EpochPlan
from kamerton.plan.packing import Packing, pack_examples
from kamerton.train.layouts import Layout, input_lengths, layout
from kamerton.train.step_preferences import StepComparison, StepJudgements


@dataclass(frozen=True, slots=True)
class StepBatch:
    """One rank's micro-batches of an optimizer step. All other numbers describe the whole step over all ranks.

    The step's loss is the sum over all predictions of weight x nll, divided by `normaliser`, the sum of the weights
    (without class weights: the number of target tokens). Only the first `counted` micro-batches belong to this rank.
    Further ones run with weight 0, because every rank takes part in each exchange: of gradients once per step, and of
    a sharded model's weights in every pass.
    """

    micro_batches: tuple[Layout, ...]
    weights: tuple[torch.Tensor, ...]  # for each micro-batch: (P,)
    normaliser: float
    examples: int
    tokens: int
    targets: int
    computed: int  # tokens that run through the model
    context: float  # mean example length over the tokens of the step
    counted: int
    preferences: StepComparison | StepJudgements | None = None
    prompts: tuple[int, ...] = ()  # the examples of this rank, whose completions a policy objective generates


class StepLoader:
    """Iterate over the remaining optimizer steps of an epoch; `position()` is (epoch, step within the epoch).

    The position is read when iteration starts, so a resumed run continues at the next step. `waited` is the number of
    seconds that training has waited for batches so far.
    """

    def __init__(
        self,
        plan: Callable[[int], EpochPlan],
        batch: Callable[[EpochPlan, int], StepBatch],
        position: Callable[[], tuple[int, int]],
        steps_per_epoch: int,
    ) -> None:
        self._plan, self._batch, self._position = plan, batch, position
        self._steps = steps_per_epoch
        self.waited = 0.0

    def __len__(self) -> int:
        return self._steps

    def __iter__(self) -> Iterator[StepBatch]:
        epoch, start = self._position()
        plan = self._plan(epoch)
        for step in range(start, self._steps):
            before = time.perf_counter()
            batch = self._batch(plan, step)
            self.waited += time.perf_counter() - before
            yield batch

    # Lightning considers a loader with these two methods resumable; the trainer's step count is the position.
    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        del state


@dataclass(frozen=True, slots=True)
class EvalBatch:
    """A micro-batch to evaluate; `numbers` are its sequences in the data set.

    If `counts` is false, it only keeps this rank in lockstep with the others.
    """

    rows: Layout
    counts: bool
    numbers: torch.Tensor

    def to(self, device: torch.device) -> EvalBatch:
        """Return this batch on another device."""
        return replace(self, rows=self.rows.to(device), numbers=self.numbers.to(device))


class MicroBatches:
    """A data set in micro-batches, distributed over the ranks in equal number; tensors are built on iteration."""

    def __init__(
        self,
        data: EncodedExamples,
        *,
        max_tokens: int,
        packing: Packing,
        pad: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.micro_batches = pack_examples(
            range(len(data)), input_lengths(data), max_tokens, packing, lambda index: data.tokens(index)[:-1]
        )
        self._data, self._packing, self._pad = data, packing, pad
        self._rank, self._world_size = rank, world_size

    def __len__(self) -> int:
        return -(-len(self.micro_batches) // self._world_size)

    def __iter__(self) -> Iterator[EvalBatch]:
        for index in range(self._rank, len(self) * self._world_size, self._world_size):
            counts = index < len(self.micro_batches)
            micro = self.micro_batches[index if counts else 0]
            rows = layout(self._data, micro, packing=self._packing, pad=self._pad)
            yield EvalBatch(rows, counts, torch.tensor(micro.examples))
