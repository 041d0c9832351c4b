"""The objective of single completions that are desired or not (KTO)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kamerton.model.loss import Predictions, predict
from kamerton.objective.judgements import JudgementLoss, Judgements
from kamerton.objective.pair_loss import Sum, sequence_sums
from kamerton.train.batches import EvalBatch, StepBatch
from kamerton.train.objectives.supervised import TokenMetrics
from kamerton.train.step_preferences import StepJudgements


class JudgementObjective(nn.Module):
    """Training and validation with `loss`; `validation` are the judgements of the validation data.

    The divergence is that of the whole step, computed without gradient before its passes, so the gradient does not
    depend on the layout. Token metrics are those of the desired completions.
    """

    def __init__(self, loss: JudgementLoss, validation: Judgements | None = None) -> None:
        super().__init__()
        self._loss, self._validation = loss, validation
        self.train_tokens, self.val_tokens = TokenMetrics(), TokenMetrics()
        self._sums = self._divergence = torch.zeros(0, dtype=torch.float64)
        self._validated = torch.zeros(0, 0, dtype=torch.float64)  # own completions, others

    def before(self, model: nn.Module, batch: StepBatch, over_ranks: Sum) -> None:
        """Estimate the divergence from the completions of other examples."""
        judged = _judged(batch)
        others = torch.zeros_like(judged.step.reference)
        with torch.no_grad():
            for index, micro in enumerate(judged.beforehand):
                result = predict(model, micro)
                if index < judged.counted:
                    numbers = judged.other_numbers[index]
                    others[numbers] = sequence_sums(result, len(numbers))
        self._divergence = self._loss.divergence(others, judged.step, over_ranks)
        self._sums = torch.zeros_like(judged.step.reference)

    def loss(self, result: Predictions, batch: StepBatch, index: int) -> Tensor:
        """Return the losses of the completions of pass `index`."""
        judged = _judged(batch)
        numbers = judged.numbers[index]
        own = sequence_sums(result, len(numbers))
        if index >= batch.counted:
            return own.sum() * 0.0
        self._sums[numbers] = own.detach()
        step = judged.step.select(numbers)
        good = step.desired[result.sequence]
        self.train_tokens.update(result.nll[good], result.correct[good])
        return (self._loss(own, self._divergence, step) * step.weight).sum()

    def training_metrics(self, batch: StepBatch, over_ranks: Sum) -> dict[str, Tensor]:
        """Return the metrics of the step; `over_ranks` sums a tensor over all ranks."""
        metrics = self._loss.metrics(self._sums, self._divergence, _judged(batch).step, over_ranks)
        return self.train_tokens.compute_and_reset() | metrics

    def validate(self, result: Predictions, batch: EvalBatch) -> None:
        """Add a validation batch; numbers from the size of the data on are completions of other examples."""
        assert self._validation is not None
        size = len(self._validation.reference)
        if self._validated.numel() == 0:
            self._validation = self._validation.to(result.nll.device)
            self._validated = torch.zeros(2 * size, dtype=torch.float64, device=result.nll.device)
        self._validated[batch.numbers] = sequence_sums(result, len(batch.numbers))
        good = (batch.numbers < size) & self._validation.desired[batch.numbers % size]
        self.val_tokens.update(result.nll[good[result.sequence]], result.correct[good[result.sequence]])

    def validation_metrics(self, over_ranks: Sum) -> dict[str, Tensor]:
        """Return the metrics of the validation data; `over_ranks` sums a tensor over all ranks."""
        values = self.val_tokens.compute_and_reset()
        if self._validation is not None:
            own, others = over_ranks(self._validated).chunk(2)
            divergence = self._loss.divergence(others, self._validation, lambda value: value)
            values |= self._loss.metrics(own, divergence, self._validation, lambda value: value)
        self._validated = self._validated[:0]
        return values


def _judged(batch: StepBatch) -> StepJudgements:
    assert isinstance(batch.preferences, StepJudgements)
    return batch.preferences
