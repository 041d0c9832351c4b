"""Which completions are compared in preference training, and what is known of them beforehand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Completions and how they are compared: S completions, K pairs.

    `weight` is the share of each pair in the loss of the step; over all ranks they sum to 1.
    """

    reference: Tensor  # (S,) float64: log-probabilities by the reference, in nats
    tokens: Tensor  # (S,) target tokens
    chosen: Tensor  # (K,) numbers of completions
    rejected: Tensor  # (K,)
    weight: Tensor  # (K,) float64
    best: Tensor  # (S,) bool: completions that no other one of their prompt is better than

    def to(self, device: torch.device) -> Comparison:
        """Return the same comparison on another device."""
        return Comparison(*(getattr(self, field.name).to(device) for field in fields(self)))


@dataclass(frozen=True)
class PreferenceRows:
    """The preferences of encoded examples: of each sequence its score and its log-probability by the reference.

    `starts` [examples] are the first sequences of the examples, `weights` [examples] their weights in the loss.
    """

    scores: Floats
    reference: Floats
    target_counts: npt.NDArray[np.int32]
    starts: Ints
    weights: Floats

    def examples_of(self, sequences: Sequence[int]) -> list[int]:
        """Return the examples that have any of these sequences, ascending."""
        return sorted(set((np.searchsorted(self.starts, sequences, side="right") - 1).tolist()))

    def pairs(self, example: int) -> list[tuple[int, int]]:
        """Return the pairs (better, worse) of sequences of an example; completions of equal score are not compared."""
        end = self.starts[example + 1] if example + 1 < len(self.starts) else len(self.scores)
        numbers = range(int(self.starts[example]), int(end))
        return [(i, j) for i in numbers for j in numbers if self.scores[i] > self.scores[j]]

    def compare(self, examples: Sequence[int], sequences: Sequence[int], total: float | None = None) -> Comparison:
        """Return the comparison of these examples, whose completions are numbered as in `sequences`.

        The pairs of an example share its weight, which is divided by `total` (None: the sum of the weights).
        """
        number = {sequence: i for i, sequence in enumerate(sequences)}
        total = float(self.weights[list(examples)].sum()) if total is None else total
        chosen, rejected, weight = [], [], []
        best = np.ones(len(sequences), bool)
        for example in examples:
            pairs = self.pairs(example)
            best[[number[worse] for _, worse in pairs]] = False
            chosen += [number[better] for better, _ in pairs]
            rejected += [number[worse] for _, worse in pairs]
            weight += [float(self.weights[example]) / total / len(pairs)] * len(pairs)
        members = np.asarray(sequences, np.int64)
        return Comparison(
            torch.from_numpy(self.reference[members]),
            torch.from_numpy(self.target_counts[members].astype(np.int64)),
            torch.tensor(chosen, dtype=torch.long),
            torch.tensor(rejected, dtype=torch.long),
            torch.tensor(weight, dtype=torch.float64),
            torch.from_numpy(best),
        )
