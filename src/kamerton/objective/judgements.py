"""Single completions that are desired or not (KTO): what is known of them beforehand, and their loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from kamerton.direction import DRIFT, JUDGED
from kamerton.objective.pair_loss import ROUNDING, Sum, drift
from kamerton.objective.pairs import PreferenceRows
from kamerton.objective.preference import is_preferred, kto


@dataclass(frozen=True, slots=True)
class Judgements:
    """The S completions of a rank's step, or of a data set.

    `weight` is the share of each in the loss of the step; over all ranks they sum to 1. Each prompt also has the
    completion of another example: `other_reference` is its log-probability by the reference.
    """

    reference: Tensor  # (S,) float64: log-probabilities by the reference, in nats
    other_reference: Tensor  # (S,) float64
    tokens: Tensor  # (S,) target tokens
    desired: Tensor  # (S,) bool
    weight: Tensor  # (S,) float64

    def to(self, device: torch.device) -> Judgements:
        """Return the same on another device."""
        return Judgements(*(getattr(self, field.name).to(device) for field in fields(self)))

    def select(self, numbers: Tensor) -> Judgements:
        """Return those of some completions."""
        return Judgements(*(getattr(self, field.name)[numbers] for field in fields(self)))


@dataclass(frozen=True)
class JudgedRows:
    """The judgements of encoded examples: `rows`, of whose completions those with the best score of a prompt are
    desired (a completion without alternatives if its score is 1), and the reference's log-probabilities of each prompt
    with the completion of another example, [sequences].
    """

    rows: PreferenceRows
    other_reference: npt.NDArray[np.float64]

    @property
    def starts(self) -> npt.NDArray[np.int64]:
        """The first sequence of each example."""
        return self.rows.starts

    @cached_property
    def _sizes(self) -> npt.NDArray[np.int64]:
        """The number of completions of each example."""
        sizes: npt.NDArray[np.int64] = np.diff(np.append(self.rows.starts, len(self.rows.scores)))
        return sizes

    @cached_property
    def _best(self) -> npt.NDArray[np.float64]:
        """The best score of each example."""
        best: npt.NDArray[np.float64] = np.maximum.reduceat(self.rows.scores, self.rows.starts)
        return best

    def judge(self, examples: Sequence[int], sequences: Sequence[int], total: float | None = None) -> Judgements:
        """Return the judgements of `sequences`, all completions of these examples.

        The completions of an example share its weight, which is divided by `total` (None: the sum of the weights).
        """
        rows, members = self.rows, np.asarray(sequences, np.int64)
        total = float(rows.weights[list(examples)].sum()) if total is None else total
        example = np.searchsorted(rows.starts, members, side="right") - 1
        sizes, scores = self._sizes[example], rows.scores[members]
        desired = np.where(sizes == 1, scores > 0, scores == self._best[example])
        return Judgements(
            torch.from_numpy(rows.reference[members]),
            torch.from_numpy(self.other_reference[members]),
            torch.from_numpy(rows.target_counts[members].astype(np.int64)),
            torch.from_numpy(desired),
            torch.from_numpy(rows.weights[example] / sizes / total),
        )


@dataclass(frozen=True, slots=True)
class JudgementLoss:
    """KTO with its options (`kamerton.objective.preference.kto`)."""

    beta: float
    desired_weight: float = 1.0
    undesired_weight: float = 1.0

    def divergence(self, others: Tensor, step: Judgements, over_ranks: Sum) -> Tensor:
        """Return the estimate of the KL divergence from the reference, in nats: a scalar, at least 0.

        It is the mean log-ratio of other examples' completions, `others` (S,), over the step.
        """
        return over_ranks(((others - step.other_reference) * step.weight).sum()).clamp(min=0)

    def __call__(self, policy: Tensor, divergence: Tensor, step: Judgements) -> Tensor:
        """Return the losses (S,) for log-probabilities `policy` (S,) in nats."""
        return kto(
            policy - step.reference,
            step.desired,
            divergence,
            beta=self.beta,
            desired_weight=self.desired_weight,
            undesired_weight=self.undesired_weight,
        )

    def metrics(self, policy: Tensor, divergence: Tensor, step: Judgements, over_ranks: Sum) -> dict[str, Tensor]:
        """Return the mean `loss`, `JUDGED` and `drift` of the completions by their weights.

        `preference_accuracy` is the share of completions whose log-ratio is above the divergence if they are desired,
        below it if not, and a tie is half right; rewards are beta times the log-ratio, in nats, and lengths are in
        tokens. They are NaN for a step without such a completion.
        """
        ratio, tokens = policy - step.reference, step.tokens.to(policy.dtype)
        above = is_preferred(ratio - divergence, ROUNDING)
        right = torch.where(step.desired, above, 1 - above)
        terms = [self(policy, divergence, step), right, drift(ratio, tokens)]
        for side in (step.desired, ~step.desired):
            terms += [side.double(), side * ratio, side * tokens]
        means = over_ranks(torch.stack([(term * step.weight).sum() for term in terms]))
        loss, accuracy, moved, share, good, size, other_share, bad, other_size = means
        chosen, rejected = self.beta * good / share, self.beta * bad / other_share
        values = (accuracy, chosen - rejected, chosen, rejected, divergence, size / share, other_size / other_share)
        return {"loss": loss, **dict(zip(JUDGED, values, strict=True)), DRIFT: moved}
