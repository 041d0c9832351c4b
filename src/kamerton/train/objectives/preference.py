"""The preference objective: the loss of a step from the log-probabilities of all its completions.

The loss of a pair needs both completions, each summed over its tokens. A prompt's completions are laid out in one pass
if they fit; the sums of completions in several passes are computed beforehand without gradient. Each pass then
contributes the derivative by its own sums, so the gradient does not depend on the layout.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kamerton.model.loss import Predictions, predict
from kamerton.objective.pair_loss import PairLoss, Sum, sequence_sums
from kamerton.objective.pairs import Comparison
from kamerton.train.batches import EvalBatch, StepBatch
from kamerton.train.objectives.supervised import TokenMetrics
from kamerton.train.step_preferences import StepComparison


class PreferenceObjective(nn.Module):
    """Training and validation with `loss`; `validation` are the pairs of the validation data.

    Token metrics are those of the best completions, except the loss, which is that of the objective.
    """

    def __init__(self, loss: PairLoss, validation: Comparison | None = None) -> None:
        super().__init__()
        self._loss, self._validation = loss, validation
        self.train_tokens, self.val_tokens = TokenMetrics(), TokenMetrics()
        self._sums = self._validated = torch.zeros(0, dtype=torch.float64)

    def before(self, model: nn.Module, batch: StepBatch, over_ranks: Sum) -> None:
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
    assert isinstance(batch.preferences, StepComparison)
    return batch.preferences
