"""The objective of training on rewards: completions are generated, graded, and learnt from by their advantages.

A step generates the completions of its prompts with the weights it begins with, so it is a function of those weights,
the seed and its number. The completions are laid out in passes as examples are; the loss is a sum over tokens divided
by their number in the whole step, so the layout does not change it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from pytorch_lightning.utilities.seed import isolate_rng
from torch import Tensor, nn

from kamerton.model.loss import Predictions, predict
from kamerton.model.shard import whole_weights
from kamerton.model.switches import evaluation_mode
from kamerton.objective.pair_loss import Sum
from kamerton.objective.policy import PolicyLoss, deviation, divergence, without_signal
from kamerton.plan.packing import MicroBatch, pack_groups
from kamerton.run.distributed import exchange
from kamerton.train.batches import EvalBatch, StepBatch
from kamerton.train.layouts import Layout, input_lengths, layout
from kamerton.train.objectives.supervised import TokenMetrics
from kamerton.train.rollouts import RollOut, Rollout
from kamerton.train.step_preferences import LayOut

_NAMES = ("loss", "entropy", "kl", "clipped", "sampling_gap")  # means over tokens; `_add` sums them


class PolicyObjective(nn.Module):
    """Training by `loss` on what `roll_out` returns, `updates` times on the completions of a step.

    Validation is the supervised loss of the reference completions, which the validation rows that `answered` marks
    have (None: all of them); generated answers are scored elsewhere.
    """

    def __init__(
        self,
        loss: PolicyLoss,
        roll_out: RollOut,
        lay_out: LayOut,
        *,
        updates: int = 1,
        answered: npt.NDArray[np.bool_] | None = None,
        initial: Mapping[str, Tensor] | None = None,
    ) -> None:
        """`initial` are the trained weights before training; None: the model without its adapter is the reference."""
        super().__init__()
        self._initial = initial
        self.updates = updates
        self._answered = None if answered is None or answered.all() else torch.from_numpy(answered)
        self.val_tokens = TokenMetrics()
        self._loss, self._roll_out, self._lay_out = loss, roll_out, lay_out
        self._has_run = False
        self._rollout: Rollout | None = None
        self._computed = 0  # tokens of the step that run through the model on this rank
        self._advantages: list[Tensor] = []  # for each micro-batch: (its sequences,)
        self._sampled: list[Tensor] = []  # (P,) log-probabilities at generation
        self._reference: list[Tensor | None] = []  # (P,) log-probabilities by the reference
        self._old: dict[int, Tensor] = {}  # (P,) log-probabilities before the first update
        self._sums = torch.zeros(0, dtype=torch.float64)

    def before(self, model: nn.Module, batch: StepBatch, over_ranks: Sum) -> None:
        """Do nothing: `begin` has laid out the step."""

    def begin(
        self, model: nn.Module, batch: StepBatch, step: int, over_ranks: Sum, *, lockstep: bool = False
    ) -> StepBatch:
        """Generate and grade the completions of a rank's prompts; return the batch to train on in place of `batch`.

        In `lockstep` every rank gets equally many passes, because each of them gathers weights from all ranks.
        """
        if lockstep and not self._has_run:  # the first pass decides which sharded module is the outermost one
            with torch.no_grad(), isolate_rng():
                predict(model, batch.micro_batches[0])
            self._has_run = True
        with whole_weights(model):
            rollout, layouts = self._lay_out_step(model, batch, step)
        passes = max(exchange(len(layouts))) if lockstep else max(len(layouts), 1)
        lengths = rollout.lengths.astype(np.float64)
        own = (rollout.target_counts.sum(), lengths.sum(), (lengths**2).sum(), self._computed)
        sizes = over_ranks(torch.tensor([float(value) for value in own], dtype=torch.float64, device=self._sums.device))
        targets, tokens, squares, computed = sizes.tolist()
        return replace(
            batch,
            # A rank with fewer passes runs others that do not count, to take part in what the ranks exchange.
            micro_batches=(*layouts, *batch.micro_batches[:1] * (passes - len(layouts))),
            normaliser=targets,
            tokens=int(tokens),
            targets=int(targets),
            computed=int(computed),
            context=squares / max(tokens, 1.0),
            counted=len(layouts),
        )

    def _lay_out_step(self, model: nn.Module, batch: StepBatch, step: int) -> tuple[Rollout, list[Layout]]:
        """Generate and grade the completions of a rank's prompts; return them and the passes that learn from them."""
        rollout = self._roll_out(model, batch.prompts, step)
        device = batch.weights[0].device
        micros = pack_groups(
            rollout.groups,
            input_lengths(rollout),
            self._lay_out.max_tokens,
            self._lay_out.packing,
            lambda index: rollout.tokens(index)[:-1],
        )
        advantage = self._loss.advantages(torch.from_numpy(rollout.rewards)).flatten().to(device)
        layouts = [
            layout(rollout, micro, packing=self._lay_out.packing, pad=self._lay_out.pad).to(device) for micro in micros
        ]
        self._rollout, self._old, self._computed = rollout, {}, sum(micro.tokens for micro in micros)
        self._advantages = [advantage[list(micro.examples)] for micro in micros]
        self._sampled = [_sampled(rollout, micro).to(device) for micro in micros]
        self._sums = torch.zeros(len(_NAMES) + 1, dtype=torch.float64, device=device)
        self._reference = [None] * len(micros)
        if self._loss.kl_weight:
            with torch.no_grad(), evaluation_mode(model), self._before_training(model):
                self._reference = [-predict(model, rows).nll.double() for rows in layouts]
        return rollout, layouts

    @contextmanager
    def _before_training(self, model: Any) -> Iterator[None]:
        """For a block, the model is the one before training."""
        if self._initial is None:
            disable = getattr(model, "disable_adapter", None)
            with nullcontext() if disable is None else disable():
                yield
            return
        weights = {name: weight for name, weight in model.named_parameters() if name in self._initial}
        self._initial = {name: self._initial[name].to(weight) for name, weight in weights.items()}
        now = {name: weight.data for name, weight in weights.items()}
        try:
            for name, weight in weights.items():
                weight.data = self._initial[name]
            yield
        finally:
            for name, weight in weights.items():
                weight.data = now[name]

    def loss(self, result: Predictions, batch: StepBatch, index: int) -> Tensor:
        """Return the contribution of pass `index` to the step's loss."""
        policy = -result.nll.double()
        if index >= batch.counted:
            return policy.sum() * 0.0
        is_first = index not in self._old
        old = self._old.setdefault(index, policy.detach())
        advantage, reference = self._advantages[index][result.sequence], self._reference[index]
        losses = self._loss(policy, old, advantage, reference)
        with torch.no_grad():
            self._add(is_first, losses, policy, old, advantage, index)
        return losses.sum() * (1 / batch.normaliser)

    def _add(self, is_first: bool, losses: Tensor, policy: Tensor, old: Tensor, advantage: Tensor, index: int) -> None:
        """Add the metrics of a pass; all but the share of clipped tokens are those of the first update."""
        zero, reference = torch.zeros_like(policy), self._reference[index]
        kl = zero if reference is None else divergence(policy, reference)
        gap = (policy - self._sampled[index]).abs()
        terms = (losses, -policy, kl, zero, gap) if is_first else (zero,) * len(_NAMES)
        sums = [*terms, torch.ones_like(policy)]
        sums[3] = self._loss.clipped(policy, old, advantage).double()
        self._sums += torch.stack([term.sum() for term in sums])

    def training_metrics(self, batch: StepBatch, over_ranks: Sum) -> dict[str, Tensor]:
        """Return the metrics of the step; `over_ranks` sums a tensor over all ranks.

        Rewards are means over completions (`reward_spread`: the mean standard deviation within a group), lengths are in
        tokens. `entropy` is the mean negative log-probability of the sampled tokens, an unbiased estimate of the
        entropy by token; `kl` that of the k3 estimate; `sampling_gap` the mean difference of the log-probabilities of
        generation and training. `clipped` is the share of tokens with a clipped ratio, over all updates.
        """
        rollout = self._rollout
        assert rollout is not None
        rewards = torch.from_numpy(rollout.rewards)
        shares = [
            torch.tensor([float(len(rewards)), float(len(rollout))], dtype=torch.float64),
            torch.stack([rewards.mean(1).sum(), deviation(rewards).sum(), without_signal(rewards).double().sum()]),
            torch.tensor([float(rollout.target_counts.sum()), float(sum(c.truncated for c in rollout.completions))]),
            torch.tensor([float(values.mean(axis=1).sum()) for values in rollout.components.values()]),
        ]
        own = torch.cat([part.double() for part in shares]).to(self._sums.device)
        groups, count, reward, spread, no_signal, length, truncated, *components = over_ranks(own)
        loss, entropy, kl, clipped, gap, visited = over_ranks(self._sums)
        values = {
            "loss": loss / batch.normaliser,
            "reward": reward / groups,
            **{f"reward_{name}": part / groups for name, part in zip(rollout.components, components, strict=True)},
            "reward_spread": spread / groups,
            "no_signal": no_signal / groups,
            "length": length / count,
            "truncated": truncated / count,
            "entropy": entropy / batch.normaliser,
            "sampling_gap": gap / batch.normaliser,
        }
        if self._loss.kl_weight:
            values["kl"] = kl / batch.normaliser
        if self.updates > 1:
            values["clipped"] = clipped / visited
        return values

    def validate(self, result: Predictions, batch: EvalBatch) -> None:
        """Add a validation batch of reference completions."""
        counted = self.of_references(result, batch)
        self.val_tokens.update(result.nll[counted], result.correct[counted])

    def of_references(self, result: Predictions, batch: EvalBatch) -> Tensor:
        """Return the mask of the predictions of references; the others stand in for one: (P,)."""
        if self._answered is None:
            return torch.ones_like(result.correct, dtype=torch.bool)
        return self._answered.to(result.nll.device)[batch.numbers][result.sequence]

    def validation_metrics(self, over_ranks: Sum) -> dict[str, Tensor]:
        """Return the token metrics of the references of the validation data, if any; torchmetrics sums over ranks."""
        del over_ranks
        if self._answered is not None and not self._answered.any():
            return {}
        return self.val_tokens.compute_and_reset()


def _sampled(rollout: Rollout, micro: MicroBatch) -> Tensor:
    """Return the log-probabilities at generation of a micro-batch's tokens, in the order of its predictions."""
    return torch.from_numpy(np.concatenate([rollout.completions[index].logprobs for index in micro.examples]))
