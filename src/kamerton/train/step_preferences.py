"""The preferences of one optimizer step: which completions are in which pass, and how they are compared or judged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from kamerton.objective.judgements import JudgedRows, Judgements
from kamerton.objective.pairs import Comparison, PreferenceRows
from kamerton.objective.sequences import EncodedExamples
from kamerton.plan.epoch import Step
from kamerton.plan.packing import MicroBatch, Packing, pack_examples
from kamerton.train.layouts import Layout, input_lengths, layout

Rows = PreferenceRows | JudgedRows
Preferences = tuple[Rows, Rows | None]  # of the training and the validation data


@dataclass(frozen=True, slots=True)
class LayOut:
    """How passes are laid out: at most `max_tokens` tokens each, padded with the token `pad`."""

    max_tokens: int
    packing: Packing
    pad: int


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


@dataclass(frozen=True, slots=True)
class StepJudgements:
    """The judgements of a rank's step: its completions, and those of each micro-batch by number.

    `beforehand` are micro-batches of their prompts with completions of other examples, which are run without gradient;
    the first `counted` of them belong to this rank.
    """

    step: Judgements
    numbers: tuple[torch.Tensor, ...]  # for each micro-batch: (its sequences,)
    beforehand: tuple[Layout, ...]
    other_numbers: tuple[torch.Tensor, ...]  # for each of `beforehand`: (its sequences,)
    counted: int

    def to(self, device: torch.device) -> StepJudgements:
        """Return the same on another device."""
        numbers, others = (tuple(part.to(device) for part in parts) for parts in (self.numbers, self.other_numbers))
        layouts = tuple(micro.to(device) for micro in self.beforehand)
        return StepJudgements(self.step.to(device), numbers, layouts, others, self.counted)


def compare_step(
    rows: PreferenceRows, step: Step, own: Sequence[MicroBatch], micros: Sequence[MicroBatch]
) -> StepComparison:
    """Return the preferences of a rank's step; of `micros`, those after `own` only keep it in lockstep."""
    sequences = _sequences(own)
    split = any(
        sum(len(rows.examples_of(micro.examples)) for micro in rank) > len(rows.examples_of(_sequences(rank)))
        for rank in step.ranks
    )
    total = float(rows.weights[rows.examples_of(step.examples)].sum())
    pairs = rows.compare(rows.examples_of(sequences), sequences, total)
    return StepComparison(pairs, _numbers(sequences, micros), split)


def judge_step(
    rows: JudgedRows,
    others: EncodedExamples,
    step: Step,
    rank: int,
    micros: Sequence[MicroBatch],
    *,
    lay_out: LayOut,
    lockstep: bool,
) -> StepJudgements:
    """Return the judgements of a rank's step, whose micro-batches are `micros`.

    `others` are the prompts with the completions of other examples, laid out by `lay_out`.
    """
    lengths = input_lengths(others)
    packed = [
        pack_examples(_sequences(own), lengths, lay_out.max_tokens, lay_out.packing, lambda i: others.tokens(i)[:-1])
        for own in step.ranks
    ]
    mine = packed[rank]
    passes = max(map(len, packed)) if lockstep else len(mine)
    filler = MicroBatch((step.examples[0],), int(lengths[step.examples[0]]))
    beforehand = [*mine, *[filler] * (passes - len(mine))]
    sequences = _sequences(step.ranks[rank])
    total = float(rows.rows.weights[rows.rows.examples_of(step.examples)].sum())

    layouts = tuple(layout(others, micro, packing=lay_out.packing, pad=lay_out.pad) for micro in beforehand)
    judged = rows.judge(rows.rows.examples_of(sequences), sequences, total)
    numbers, other_numbers = _numbers(sequences, micros), _numbers(sequences, beforehand)
    return StepJudgements(judged, numbers, layouts, other_numbers, len(mine))


def _sequences(passes: Sequence[MicroBatch]) -> list[int]:
    return [sequence for micro in passes for sequence in micro.examples]


def _numbers(sequences: Sequence[int], passes: Sequence[MicroBatch]) -> tuple[torch.Tensor, ...]:
    """Return the positions in `sequences` of those of each pass; 0 for others, which only keep a rank in lockstep."""
    number = {sequence: i for i, sequence in enumerate(sequences)}
    return tuple(torch.tensor([number.get(sequence, 0) for sequence in micro.examples]) for micro in passes)
