"""Lightning data module: training steps from the epoch plan, and validation micro-batches with the same packing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytorch_lightning as pl
import torch

from kamerton.objective.pairs import PreferenceRows
from kamerton.objective.sequences import EncodedExamples
from kamerton.plan.epoch import EpochPlan, plan_epoch
from kamerton.plan.packing import MicroBatch, Packing
from kamerton.train.batches import MicroBatches, StepBatch, StepLoader
from kamerton.train.layouts import input_lengths, layout
from kamerton.train.step_preferences import (
    LayOut,
    Preferences,
    StepComparison,
    StepJudgements,
    compare_step,
    judge_step,
)


class FineTuneData(pl.LightningDataModule):
    """Training steps from the epoch plan, and validation micro-batches with the same packing.

    `weights` holds the loss weight of each training example: (N,). With `preferences` (of the training and validation
    data), the completions of an example are compared, or judged one by one, and `weights` are ignored. Judgements need
    `others`, the training prompts with the completions of other examples.
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
        others: EncodedExamples | None = None,
    ) -> None:
        super().__init__()
        self.preferences, self._others = preferences, others
        self._starts = None if preferences is None else preferences[0].starts
        self.train, self.validation = train, validation
        self._weights = np.ones(len(train)) if weights is None else weights
        self._seed, self._batch_size, self._max_tokens = seed, batch_size, max_tokens
        self._packing, self._pad, self._group_by_length = packing, pad, group_by_length
        self.lay_out = LayOut(max_tokens, packing, pad)
        self.train_batch_size = batch_size
        self.examples = len(train) if self._starts is None else len(self._starts)
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
            starts=self._starts,
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
            preferences = None if batch.preferences is None else batch.preferences.to(device)
            return replace(batch, micro_batches=micros, weights=weights, preferences=preferences)
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
        preferences: StepComparison | StepJudgements | None = None
        known = None if self.preferences is None else self.preferences[0]
        if isinstance(known, PreferenceRows):
            preferences = compare_step(known, step, own, micros)
        elif known is not None:
            assert self._others is not None
            rank = self.trainer.global_rank
            preferences = judge_step(known, self._others, step, rank, micros, lay_out=self.lay_out, lockstep=lockstep)
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
            preferences=preferences,
            prompts=tuple(sorted(example for micro in own for example in micro.examples)),
        )
