"""The preference objective: the loss of a step from the log-probabilities of all its completions.

The loss of a pair needs both completions, each summed over its tokens. A prompt's completions are laid out in one pass
if they fit; the sums of completions in several passes are computed beforehand without gradient. Each pass then
contributes the derivative by its own sums, so the gradient does not depend on the layout.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kamerton.model.loss import Predictions, predict
from kamerton.objective import preference
from kamerton.train.batches import EvalBatch, StepBatch, StepComparison
from kamerton.train.objectives.preference_rows import Comparison
from kamerton.train.objectives.supervised import TokenMetrics

METRICS = ("preference_accuracy", "margin", "reward_chosen", "reward_rejected", "logprob_chosen", "logprob_rejected")
Sum = Callable[[Tensor], Tensor]  # of a tensor over all ranks


@dataclass(frozen=True, slots=True)
class PreferenceLoss:
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

        Rewards are beta times the log-ratio, in nats. `over_ranks` sums over ranks that have different pairs.
        """
        reward = self.beta * (policy - pairs.reference)
        chosen, rejected = reward[pairs.chosen], reward[pairs.rejected]
        values = (
            self(policy, pairs),
            (chosen > rejected).double(),
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


class PreferenceObjective(nn.Module):
    """Training and validation with `loss`; `validation` are the pairs of the validation data.

    Token metrics are those of the best completions, except the loss, which is that of the objective.
    """

    def __init__(self, loss: PreferenceLoss, validation: Comparison | None = None) -> None:
        super().__init__()
        self._loss, self._validation = loss, validation
        self.train_tokens, self.val_tokens = TokenMetrics(), TokenMetrics()
        self._sums = self._validated = torch.zeros(0, dtype=torch.float64)

    def before(self, model: nn.Module, batch: StepBatch) -> None:
        """Compute, without gradient, the log-probabilities of a step whose pairs are in several passes."""
        compared = _compared(batch)
        self._sums = torch.zeros_like(compared.pairs.reference)
        if compared.split:
            with torch.no_grad():
                for index, micro in enumerate(batch.micro_batches):
                    result = predict(model, micro)
                    if index < batch.counted:
                        numbers = compared.numbers[index]
                        self._sums[numbers] = sequence_sums(result, len(numbers))

    def loss(self, result: Predictions, batch: StepBatch, index: int) -> Tensor:
        """Return the losses of the step's pairs by the sums of pass `index`; others are constants."""
        compared = _compared(batch)
        pairs, numbers = compared.pairs, compared.numbers[index]
        own = sequence_sums(result, len(numbers))
        if index >= batch.counted:
            return own.sum() * 0.0
        policy = self._sums.index_put((numbers,), own)
        self._sums = policy.detach()
        best = pairs.best[numbers][result.sequence]
        self.train_tokens.update(result.nll[best], result.correct[best])
        here = torch.zeros_like(pairs.best)
        here[numbers] = True
        used = here[pairs.chosen] | here[pairs.rejected]
        return (self._loss(policy, pairs) * pairs.weight)[used].sum()

    def training_metrics(self, batch: StepBatch, over_ranks: Sum) -> dict[str, Tensor]:
        """Return the metrics of the step; `over_ranks` sums a tensor over all ranks."""
        pairs = _compared(batch).pairs
        return self.train_tokens.compute_and_reset() | self._loss.metrics(self._sums, pairs, over_ranks)

    def validate(self, result: Predictions, batch: EvalBatch) -> None:
        """Add a validation batch."""
        assert self._validation is not None
        if len(self._validated) == 0:
            self._validation = self._validation.to(result.nll.device)
            self._validated = torch.zeros_like(self._validation.reference)
        self._validated[batch.numbers] = sequence_sums(result, len(batch.numbers))
        best = self._validation.best[batch.numbers][result.sequence]
        self.val_tokens.update(result.nll[best], result.correct[best])

    def validation_metrics(self, over_ranks: Sum) -> dict[str, Tensor]:
        """Return the metrics of the validation data; `over_ranks` sums a tensor over all ranks."""
        values = self.val_tokens.compute_and_reset()
        if self._validation is not None:
            policy = over_ranks(self._validated)
            values |= self._loss.metrics(policy, self._validation)
        self._validated = self._validated[:0]
        return values


def _compared(batch: StepBatch) -> StepComparison:
    assert batch.compared is not None
    return batch.compared
