"""The configured loss of pairs of completions, and the metrics of preference training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from kamerton.model.loss import Predictions
from kamerton.objective import preference
from kamerton.objective.pairs import Comparison

METRICS = ("preference_accuracy", "margin", "reward_chosen", "reward_rejected", "logprob_chosen", "logprob_rejected")
WITHOUT_REFERENCE = ("simpo", "orpo")
ROUNDING = 1e-4  # nats: smaller differences of log-probabilities are ties
Sum = Callable[[Tensor], Tensor]  # of a tensor over all ranks


@dataclass(frozen=True, slots=True)
class PairLoss:
    """The loss of each pair: `name` with its options (`kamerton.objective.preference`).

    `sft_weight` times the mean negative log-likelihood per token of the chosen completion is added.
    """

    name: str
    beta: float
    label_smoothing: float = 0.0
    margin: float = 0.0
    sft_weight: float = 0.0

    def __call__(self, policy: Tensor, pairs: Comparison) -> Tensor:
        """Return the losses of the pairs, (K,), for log-probabilities `policy` (S,) in nats."""
        tokens = pairs.tokens.to(policy.dtype)
        ratio, beta = policy - pairs.reference, self.beta

        def sides(values: Tensor) -> tuple[Tensor, Tensor]:
            return values[pairs.chosen], values[pairs.rejected]

        if self.name == "dpo":
            loss = preference.dpo(*sides(ratio), beta=beta, label_smoothing=self.label_smoothing)
        elif self.name == "ipo":
            loss = preference.ipo(*sides(ratio / tokens), beta=beta)
        elif self.name == "simpo":
            loss = preference.simpo(*sides(policy / tokens), beta=beta, margin=self.margin)
        elif self.name == "orpo":
            loss = beta * preference.orpo(*sides(policy / tokens))
        elif self.name == "apo_zero":
            loss = preference.apo_zero(*sides(ratio), beta=beta)
        else:
            loss = preference.apo_down(*sides(ratio), beta=beta)
        if self.sft_weight:
            loss = loss - self.sft_weight * (policy / tokens)[pairs.chosen]
        return loss

    def metrics(self, policy: Tensor, pairs: Comparison, over_ranks: Sum | None = None) -> dict[str, Tensor]:
        """Return the mean `loss` and `METRICS` of the pairs by their weights.

        Rewards are beta times the log-ratio (without a reference, the log-probability per token), in nats; a tie counts
        as half right. `over_ranks` sums over ranks that have different pairs.
        """
        per_token = self.name in WITHOUT_REFERENCE
        reward = self.beta * (policy / pairs.tokens if per_token else policy - pairs.reference)
        chosen, rejected = reward[pairs.chosen], reward[pairs.rejected]
        values = (
            self(policy, pairs),
            preference.is_preferred(chosen - rejected, ROUNDING * self.beta),
            chosen - rejected,
            chosen,
            rejected,
            policy[pairs.chosen],
            policy[pairs.rejected],
        )
        means = torch.stack([(value * pairs.weight).sum() for value in values])
        means = means if over_ranks is None else over_ranks(means)
        return dict(zip(("loss", *METRICS), means, strict=True))


def sequence_sums(result: Predictions, size: int) -> Tensor:
    """Return the log-probability of each of `size` sequences, in nats: (size,) float64."""
    return torch.zeros(size, dtype=torch.float64, device=result.nll.device).index_add(
        0, result.sequence, -result.nll.double()
    )
