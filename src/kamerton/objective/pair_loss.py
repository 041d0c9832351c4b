"""The configured loss of pairs of completions, and the metrics of preference training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from kamerton.direction import COMPARED, DRIFT
from kamerton.model.loss import Predictions
from kamerton.objective import preference
from kamerton.objective.pairs import Comparison

WITHOUT_REFERENCE = ("simpo", "orpo")
ROUNDING = 1e-4  # nats: smaller differences of log-probabilities are ties
Sum = Callable[[Tensor], Tensor]  # of a tensor over all ranks


@dataclass(frozen=True, slots=True)
class PairLoss:
    """The loss of each pair: `name` with its options (`kamerton.objective.preference`).

    `sft_weight` times the negative log-likelihood per token of the chosen completion is added. It is a mean over pairs,
    so that each pair weighs the same; TRL's loss type `sft` is a mean over the tokens of a batch.
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
        """Return the mean `loss` and `COMPARED` of the pairs by their weights, and with a reference their `drift`.

        Rewards are beta times the log-ratio (without a reference, the log-probability per token), in nats; a tie counts
        as half right (in TRL as wrong). Lengths are in tokens. `over_ranks` sums over ranks that have different pairs.
        """
        per_token = self.name in WITHOUT_REFERENCE
        ratio, tokens = policy - pairs.reference, pairs.tokens.to(policy.dtype)
        reward = self.beta * (policy / tokens if per_token else ratio)
        chosen, rejected = reward[pairs.chosen], reward[pairs.rejected]
        values = [
            self(policy, pairs),
            preference.is_preferred(chosen - rejected, ROUNDING * self.beta),
            chosen - rejected,
            chosen,
            rejected,
            policy[pairs.chosen],
            policy[pairs.rejected],
            tokens[pairs.chosen],
            tokens[pairs.rejected],
        ]
        names = ["loss", *COMPARED]
        if not per_token:
            moved = drift(ratio, tokens)
            values.append((moved[pairs.chosen] + moved[pairs.rejected]) / 2)
            names.append(DRIFT)
        means = torch.stack([(value * pairs.weight).sum() for value in values])
        means = means if over_ranks is None else over_ranks(means)
        return dict(zip(names, means, strict=True))


def drift(ratio: Tensor, tokens: Tensor) -> Tensor:
    """Return how far the model is from the reference on completions, in nats per token: `ratio` and `tokens` (S,).

    It is the absolute log-ratio of a completion divided by its tokens. The log-ratio is the simplest estimate of the KL
    divergence (k1 in Schulman 2020, joschu.net/blog/kl-approx.html) if the model wrote the completion. These are from
    the data, and likelier ones must not make up for less likely ones: hence the absolute value. It is no unbiased
    estimate, but 0 for the reference and larger the further the model goes.
    """
    return ratio.abs() / tokens


def sequence_sums(result: Predictions, size: int) -> Tensor:
    """Return the log-probability of each of `size` sequences, in nats: (size,) float64."""
    return torch.zeros(size, dtype=torch.float64, device=result.nll.device).index_add(
        0, result.sequence, -result.nll.double()
    )
