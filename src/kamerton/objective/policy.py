"""Losses of training on rewards, as pure functions.

- GRPO (DeepSeekMath, arXiv 2402.03300): rewards less the mean of their group, divided by its standard deviation.
- RLOO (arXiv 2402.14740): rewards less the mean of the other completions of the group.
- The clipped ratio is PPO's (arXiv 1707.06347), with an upper bound of its own if given (DAPO, arXiv 2503.14476).
- The KL divergence from the reference is estimated by token with k3 (Schulman 2020, Approximating KL divergence).

Every token of a step weighs the same: the sum over all tokens is divided by their number in the whole step, as in DAPO,
so long completions are not favoured by a mean over each of them.

Shapes: P prompts, G completions of each, T tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Baseline = Literal["mean", "leave_one_out"]


def advantages(rewards: Tensor, *, baseline: Baseline, standardise: bool) -> Tensor:
    """Return the advantages (P, G) of rewards (P, G), which are 0 in a group whose rewards are all equal.

    `standardise` divides by the standard deviation of the group (with G - 1).
    """
    size = rewards.shape[1]
    mean = rewards.mean(dim=1, keepdim=True)
    if baseline == "leave_one_out":
        mean = (rewards.sum(dim=1, keepdim=True) - rewards) / (size - 1)
    result = rewards - mean
    equal = without_signal(rewards)[:, None]
    if standardise:
        result = result / deviation(rewards)[:, None].where(~equal, 1.0)
    return result.where(~equal, 0.0)  # exactly: the mean of equal numbers may differ from them by rounding


def deviation(rewards: Tensor) -> Tensor:
    """Return the standard deviation (P,), with G - 1, of each group of rewards (P, G); P may be 0."""
    return rewards.std(dim=1) if len(rewards) else rewards.new_zeros(0)


def without_signal(rewards: Tensor) -> Tensor:
    """Return the mask (P,) of groups whose rewards (P, G) are all equal: nothing is learnt from them."""
    return rewards.amax(dim=1) == rewards.amin(dim=1)


def divergence(policy: Tensor, reference: Tensor) -> Tensor:
    """Return the k3 estimate of KL(policy || reference) for sampled tokens with these log-probabilities: (T,) nats."""
    ratio = reference - policy
    return ratio.exp() - ratio - 1


@dataclass(frozen=True, slots=True)
class PolicyLoss:
    """The loss of each sampled token: ratios are clipped to [1 - `clip`, 1 + `clip_high`] (None: `clip`)."""

    baseline: Baseline = "mean"
    standardise: bool = True
    clip: float = 0.2
    clip_high: float | None = None
    kl_weight: float = 0.0

    def advantages(self, rewards: Tensor) -> Tensor:
        """Return the advantages (P, G) of rewards (P, G)."""
        return advantages(rewards, baseline=self.baseline, standardise=self.standardise)

    def __call__(self, policy: Tensor, old: Tensor, advantage: Tensor, reference: Tensor | None) -> Tensor:
        """Return the losses (T,) of tokens with the log-probabilities `policy`, and `old` when they were sampled."""
        ratio = (policy - old).exp()
        loss = -torch.minimum(ratio * advantage, ratio.clamp(*self._bounds) * advantage)
        if reference is not None and self.kl_weight:
            loss = loss + self.kl_weight * divergence(policy, reference)
        return loss

    def clipped(self, policy: Tensor, old: Tensor, advantage: Tensor) -> Tensor:
        """Return the mask (T,) of tokens whose ratio is clipped, so that they have no gradient."""
        ratio, (low, high) = (policy - old).exp(), self._bounds
        return ((ratio > high) & (advantage > 0)) | ((ratio < low) & (advantage < 0))

    @property
    def _bounds(self) -> tuple[float, float]:
        return 1 - self.clip, 1 + (self.clip if self.clip_high is None else self.clip_high)
