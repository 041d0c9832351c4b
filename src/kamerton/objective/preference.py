"""Losses of preferences, from the log-probabilities of the completions that are compared.

Every function takes one number per pair, or per completion, and returns one loss each: `(K,)`. `chosen` and `rejected`
are log-ratios log p(completion) - log p_reference(completion) in nats, summed over the completion's tokens, unless a
function says otherwise. Mean over the examples of a step is the caller's.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid


def dpo(chosen: Tensor, rejected: Tensor, *, beta: float, label_smoothing: float = 0.0) -> Tensor:
    """Direct preference optimisation: -log sigmoid of the reward margin (Rafailov et al. 2023, arXiv 2305.18290).

    `label_smoothing` is the probability that a preference is the wrong way round (conservative DPO; Mitchell 2023). TRL
    names so the option of its loss `robust`, which divides the difference of both terms by 1 - 2 x label_smoothing.
    """
    margin = beta * (chosen - rejected)
    return -(1 - label_smoothing) * logsigmoid(margin) - label_smoothing * logsigmoid(-margin)


def ipo(chosen: Tensor, rejected: Tensor, *, beta: float) -> Tensor:
    """Identity preference optimisation: squared distance of the margin from 1 / (2 beta), in 1 / nats squared.

    `chosen` and `rejected` are log-ratios per token (Azar et al. 2023, arXiv 2310.12036, equation 17, whose log-ratios
    are sums; its authors confirmed to TRL that they divide by the tokens).
    """
    return (chosen - rejected - 1 / (2 * beta)).square()


def simpo(chosen: Tensor, rejected: Tensor, *, beta: float, margin: float) -> Tensor:
    """Simple preference optimisation, without a reference (Meng et al. 2024, arXiv 2405.14734, equation 6).

    `chosen` and `rejected` are log-probabilities per token; `margin` is the paper's gamma. TRL's CPOTrainer adds the
    likelihood of the chosen completions by default (`cpo_alpha`); the paper does not.
    """
    return -logsigmoid(beta * (chosen - rejected) - margin)


def orpo(chosen: Tensor, rejected: Tensor) -> Tensor:
    """Odds-ratio preference optimisation without its supervised term, without a reference (Hong et al. 2024, arXiv
    2403.07691, equation 7).

    `chosen` and `rejected` are log-probabilities per token; the odds of a completion are p / (1 - p). The supervised
    term of the paper is over the completion; TRL's is over the prompt as well.
    """
    return -logsigmoid(_log_odds(chosen) - _log_odds(rejected))


def apo_zero(chosen: Tensor, rejected: Tensor, *, beta: float) -> Tensor:
    """Anchored preference optimisation for a model that is worse than the chosen completions: chosen ones become more
    likely, rejected ones less (D'Oosterlinck et al. 2024, arXiv 2408.06266).
    """
    return torch.sigmoid(-beta * chosen) + torch.sigmoid(beta * rejected)


def apo_down(chosen: Tensor, rejected: Tensor, *, beta: float) -> Tensor:
    """Anchored preference optimisation for a model that is better than the chosen completions: both become less
    likely, rejected ones by more (as `apo_zero`).
    """
    return torch.sigmoid(beta * chosen) + torch.sigmoid(-beta * (chosen - rejected))


def kto(
    ratio: Tensor, desired: Tensor, divergence: Tensor, *, beta: float, desired_weight: float, undesired_weight: float
) -> Tensor:
    """Kahneman-Tversky optimisation of single completions (Ethayarajh et al. 2024, arXiv 2402.01306, equation 8).

    `ratio` are log-ratios (N,), `desired` a mask (N,), `divergence` the estimate of the KL divergence from the
    reference in nats (a scalar, without gradient), at least 0.
    """
    gain = beta * (ratio - divergence)
    loss = torch.sigmoid(torch.where(desired, -gain, gain))
    return torch.where(desired, desired_weight * loss, undesired_weight * loss)


def is_preferred(margin: Tensor, rounding: float) -> Tensor:
    """Return 1 for a positive margin, 0 for a negative one, and 0.5 for one of at most `rounding`: (K,) float64."""
    return 0.5 + 0.5 * torch.sign(margin.double()) * (margin.abs() > rounding)


def _log_odds(logprob: Tensor) -> Tensor:
    """Return log(p / (1 - p)) for p = exp(logprob).

    A p that rounds to 1 counts as exp(-1e-7), and has no gradient, which would be undefined.
    """
    logprob = logprob.clamp(max=-1e-7)
    return logprob - torch.log(-torch.expm1(logprob))
