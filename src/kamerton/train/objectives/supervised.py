"""The supervised objective: the negative log-likelihood of target tokens."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchmetrics import MeanMetric

from kamerton.model.loss import Predictions
from kamerton.objective.pair_loss import Sum
from kamerton.train.batches import EvalBatch, StepBatch


class TokenMetrics(nn.Module):
    """Loss, perplexity and accuracy weighted by tokens: sums over all tokens and ranks, not means of means."""

    def __init__(self) -> None:
        super().__init__()
        self.nll = MeanMetric(nan_strategy="disable").set_dtype(torch.float64)
        self.correct = MeanMetric(nan_strategy="disable").set_dtype(torch.float64)

    def update(self, nll: Tensor, correct: Tensor) -> None:
        """Add a batch; `nll` and `correct` have one entry per predicted token: (P,)."""
        self.nll.update(nll.detach().double())
        self.correct.update(correct.double())

    def compute_and_reset(self) -> dict[str, Tensor]:
        """Return `loss` (nats per token), `perplexity` = exp(loss) and `token_accuracy`, and reset the sums."""
        loss, accuracy = self.nll.compute(), self.correct.compute()
        self.nll.reset()
        self.correct.reset()
        return {"loss": loss, "perplexity": loss.exp(), "token_accuracy": accuracy}


class SupervisedObjective(nn.Module):
    """Mean loss per target token of the step, with the weights of the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.train_tokens, self.val_tokens = TokenMetrics(), TokenMetrics()

    def before(self, model: nn.Module, batch: StepBatch, over_ranks: Sum) -> None:
        """Do nothing: the normaliser of a step is known from the data."""

    def loss(self, result: Predictions, batch: StepBatch, index: int) -> Tensor:
        """Return the contribution of pass `index` to the step's loss."""
        if index < batch.counted:
            self.train_tokens.update(result.nll, result.correct)
        return (result.loss * batch.weights[index]).sum() * (1 / batch.normaliser)

    def training_metrics(self, batch: StepBatch, over_ranks: Sum) -> dict[str, Tensor]:
        """Return the metrics of the step; torchmetrics sums over ranks."""
        del batch, over_ranks
        return self.train_tokens.compute_and_reset()

    def validate(self, result: Predictions, batch: EvalBatch) -> None:
        """Add a validation batch."""
        del batch
        self.val_tokens.update(result.nll, result.correct)

    def validation_metrics(self, over_ranks: Sum) -> dict[str, Tensor]:
        """Return the metrics of the validation data; torchmetrics sums over ranks."""
        del over_ranks
        return self.val_tokens.compute_and_reset()
