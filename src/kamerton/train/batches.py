"""Lightning data module: one batch is one optimizer step, already divided into micro-batches."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pytorch_lightning as pl
import torch

from kamerton.model.loss import PaddedRows, build_padded
from kamerton.model.tree import TreeRow, build_row
from kamerton.objective.pairs import Comparison, PreferenceRows
from kamerton.plan.epoch import EpochPlan, Step, plan_epoch
from kamerton.plan.packing import MicroBatch, Packing, pack_examples

Layout = TreeRow | PaddedRows
Preferences = tuple[PreferenceRows, PreferenceRows | None]  # of the training and the validation data


class EncodedExamples(Protocol):
    """Encoded data as plan and batches use them: the tokens of each example, and which of them are targets."""

    @property
    def lengths(self) -> npt.NDArray[np.int32]: ...
    @property
    def target_counts(self) -> npt.NDArray[np.int32]: ...
    def tokens(self, index: int) -> npt.NDArray[np.int32]: ...
    def targets(self, index: int) -> npt.NDArray[np.bool_]: ...
    def __len__(self) -> int: ...


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
    compared: StepComparison | None = None


@dataclass(frozen=True, slots=True)
class StepComparison:
    """The preferences of a rank's step: its completions, and those of each micro-batch by number.

    If `split`, completions of a pair are in different micro-batches, on any rank.
    """

    pairs: Comparison
    numbers: tuple[torch.Tensor, ...]  # for each micro-batch: (its sequences,)
    split: bool

    def to(self, device: torch.device) -> StepComparison:
        """Return the same on another device."""
        return StepComparison(self.pairs.to(device), tuple(part.to(device) for part in self.numbers), self.split)


def layout(data: EncodedExamples, micro: MicroBatch, *, packing: Packing, pad: int) -> Layout:
    """Return the tensors of one micro-batch."""
    sequences = [data.tokens(example) for example in micro.examples]
    targets = [data.targets(example) for example in micro.examples]
    if packing == "padded":
        return build_padded(sequences, targets, pad=pad)
    return build_row(sequences, targets, share=packing == "tree")


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


def input_lengths(data: EncodedExamples) -> npt.NDArray[np.int32]:
    """Return how many tokens of each example run through the model: all but the last, which predicts nothing."""
    return np.maximum(data.lengths - 1, 1)


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


class FineTuneData(pl.LightningDataModule):
    """Training steps from the epoch plan, and validation micro-batches with the same packing.

    `weights` holds the loss weight of each training example: (N,). With `preferences` (of the training and validation
    data), the completions of an example are compared, and `weights` are ignored.
    """

    def __init__(  # noqa: PLR0913 - by keyword
        self,
        train: EncodedExamples,
        validation: EncodedExamples | None,
        *,
        seed: int,
        batch_size: int,
        max_tokens: int,
        packing: Packing,
        pad: int,
        group_by_length: bool = False,
        weights: npt.NDArray[np.float64] | None = None,
        preferences: Preferences | None = None,
    ) -> None:
        super().__init__()
        self.preferences = preferences
        self.train, self.validation = train, validation
        self._weights = np.ones(len(train)) if weights is None else weights
        self._seed, self._batch_size, self._max_tokens = seed, batch_size, max_tokens
        self._packing, self._pad, self._group_by_length = packing, pad, group_by_length
        self.train_batch_size = batch_size
        self.examples = len(train) if preferences is None else len(preferences[0].starts)
        self.steps_per_epoch = -(-self.examples // batch_size)

    def plan(self, epoch: int) -> EpochPlan:
        """Return the plan of one epoch for the trainer's number of ranks."""
        return plan_epoch(
            input_lengths(self.train),
            self.train.target_counts,
            seed=self._seed,
            epoch=epoch,
            batch_size=self._batch_size,
            max_tokens=self._max_tokens,
            world_size=self.trainer.world_size if self.trainer else 1,
            packing=self._packing,
            group_by_length=self._group_by_length,
            tokens=lambda index: self.train.tokens(index)[:-1],
            starts=None if self.preferences is None else self.preferences[0].starts,
        )

    def train_dataloader(self) -> StepLoader:
        return StepLoader(self.plan, self._step, self._position, self.steps_per_epoch)

    def val_dataloader(self) -> MicroBatches | list[Any]:
        if self.validation is None:
            return []
        rank, world = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        return MicroBatches(
            self.validation,
            max_tokens=self._max_tokens,
            packing=self._packing,
            pad=self._pad,
            rank=rank,
            world_size=world,
        )

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        del dataloader_idx
        if isinstance(batch, StepBatch):
            micros = tuple(micro.to(device) for micro in batch.micro_batches)
            weights = tuple(weight.to(device) for weight in batch.weights)
            compared = None if batch.compared is None else batch.compared.to(device)
            return replace(batch, micro_batches=micros, weights=weights, compared=compared)
        return batch.to(device)

    def _position(self) -> tuple[int, int]:
        assert self.trainer is not None
        return divmod(self.trainer.global_step, self.steps_per_epoch)

    def _step(self, plan: EpochPlan, index: int) -> StepBatch:
        assert self.trainer is not None
        step = plan[index]
        members = list(step.examples)
        lengths = self.train.lengths[members].astype(np.float64)
        own = step.ranks[self.trainer.global_rank]
        lockstep = getattr(self.trainer.strategy, "lockstep", False)  # every rank has to run equally many passes
        passes = max(len(rank) for rank in step.ranks) if lockstep else 1
        filler = MicroBatch((members[0],), int(self.train.lengths[members[0]]))
        micros = (*own, *[filler] * (passes - len(own)))
        layouts = tuple(layout(self.train, micro, packing=self._packing, pad=self._pad) for micro in micros)
        weights = []
        for number, (micro, rows) in enumerate(zip(micros, layouts, strict=True)):
            by_example = torch.from_numpy(self._weights[list(micro.examples)].astype(np.float32))
            weights.append(by_example[rows.sequence] * (number < len(own)))
        compared = None if self.preferences is None else compare_step(self.preferences[0], step, own, micros)
        return StepBatch(
            micro_batches=layouts,
            weights=tuple(weights),
            normaliser=float(self._weights[members] @ self.train.target_counts[members]),
            examples=len(plan.order[index * plan.batch_size :][: plan.batch_size]),
            tokens=int(self.train.lengths[members].sum()),
            targets=step.target_tokens,
            computed=sum(micro.tokens for rank in step.ranks for micro in rank),
            context=float(np.square(lengths).sum() / lengths.sum()),
            counted=len(own),
            compared=compared,
        )


def compare_step(
    rows: PreferenceRows, step: Step, own: Sequence[MicroBatch], micros: Sequence[MicroBatch]
) -> StepComparison:
    """Return the preferences of a rank's step; of `micros`, those after `own` only keep it in lockstep."""

    def examples_of(sequences: Sequence[int]) -> list[int]:
        return sorted(set((np.searchsorted(rows.starts, sequences, side="right") - 1).tolist()))

    sequences = [sequence for micro in own for sequence in micro.examples]
    number = {sequence: i for i, sequence in enumerate(sequences)}
    split = any(
        sum(len(examples_of(micro.examples)) for micro in rank)
        > len(examples_of([sequence for micro in rank for sequence in micro.examples]))
        for rank in step.ranks
    )
    total = float(rows.weights[examples_of(step.examples)].sum())
    pairs = rows.compare(examples_of(sequences), sequences, total)
    numbers = tuple(torch.tensor([number.get(sequence, 0) for sequence in micro.examples]) for micro in micros)
    return StepComparison(pairs, numbers, split)
