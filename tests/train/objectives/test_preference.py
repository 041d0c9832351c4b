"""A step on preferences is one gradient, however its completions are laid out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from kamerton.model.attention import ATTENTION, register_attention
from kamerton.model.fuse import fuse
from kamerton.model.tiny import tiny_model
from kamerton.plan.packing import Packing
from kamerton.train.batches import FineTuneData
from kamerton.train.module import FineTuneModule
from kamerton.train.objectives.preference import PreferenceLoss, PreferenceObjective
from support.pairs import Groups
from support.ragged import bare_trainer

LOSSES = {
    "dpo": PreferenceLoss("dpo", 0.1),
    "dpo smoothed, with SFT": PreferenceLoss("dpo", 0.3, label_smoothing=0.2, sft_weight=0.5),
    "ipo": PreferenceLoss("ipo", 0.1),
    "simpo": PreferenceLoss("simpo", 2.0, margin=1.0),
    "orpo": PreferenceLoss("orpo", 0.1, sft_weight=1.0),
    "apo_zero": PreferenceLoss("apo_zero", 0.1),
    "apo_down": PreferenceLoss("apo_down", 0.1),
}
LAYOUTS: list[tuple[Packing, int]] = [
    ("padded", 10**6),
    ("padded", 150),
    ("padded", 1),
    ("packed", 10**6),
    ("packed", 90),
    ("packed", 1),
    ("tree", 10**6),
    ("tree", 80),
    ("tree", 1),
]


def plain_loss(name: str, loss: PreferenceLoss, chosen: Tensor, rejected: Tensor, ref: Any, size: Any) -> Tensor:
    """The loss of one pair, from the papers' formulas, in float64."""
    (c, r), (ref_c, ref_r), (n_c, n_r) = (chosen, rejected), ref, size
    sft = -loss.sft_weight * c / n_c
    if loss.name == "dpo":
        margin = loss.beta * ((c - ref_c) - (r - ref_r))
        smooth = loss.label_smoothing
        return sft - (1 - smooth) * logsigmoid(margin) - smooth * logsigmoid(-margin)
    if loss.name == "ipo":
        return sft + ((c - ref_c) / n_c - (r - ref_r) / n_r - 1 / (2 * loss.beta)) ** 2
    if loss.name == "simpo":
        return sft - logsigmoid(loss.beta * c / n_c - loss.beta * r / n_r - loss.margin)
    if loss.name == "orpo":
        odds_c, odds_r = ((x / n).exp() / (1 - (x / n).exp()) for x, n in ((c, n_c), (r, n_r)))
        return sft - loss.beta * logsigmoid((odds_c / odds_r).log())
    if loss.name == "apo_zero":
        return sft + 1 - torch.sigmoid(loss.beta * (c - ref_c)) + torch.sigmoid(loss.beta * (r - ref_r))
    margin = loss.beta * ((c - ref_c) - (r - ref_r))
    return sft + torch.sigmoid(loss.beta * (c - ref_c)) + 1 - torch.sigmoid(margin)


def plain_step(loss: PreferenceLoss, data: Groups) -> tuple[Tensor, float, float]:
    """Gradient, loss and accuracy of all groups as one step: one sequence at a time, unshared, in float64."""
    model: Any = tiny_model().double()
    rows = data.preferences()
    logprobs = []
    for index in range(len(data)):
        ids = torch.from_numpy(data.tokens(index).astype(np.int64))
        mask = torch.from_numpy(data.targets(index)[1:])
        every = model(input_ids=ids[None]).logits[0, :-1].log_softmax(-1)
        logprobs.append(every[torch.arange(len(ids) - 1), ids[1:]][mask].sum())
    total, right = torch.zeros((), dtype=torch.float64), 0.0
    for number, start in enumerate(data.starts.tolist()):
        end = data.starts[number + 1] if number + 1 < len(data.starts) else len(data)
        pairs = [(i, j) for i in range(start, end) for j in range(start, end) if data.scores[i] > data.scores[j]]
        share = rows.weights[number] / rows.weights.sum() / len(pairs)
        for i, j in pairs:
            ref = rows.reference[i], rows.reference[j]
            size = data.target_counts[i], data.target_counts[j]
            total = total + share * plain_loss(loss.name, loss, logprobs[i], logprobs[j], ref, size)
            right += share * float((logprobs[i] - ref[0]).detach() > (logprobs[j] - ref[1]).detach())
    total.backward()
    gradient = torch.cat([weight.grad.flatten() for weight in model.parameters() if weight.grad is not None])
    return gradient, float(total.detach()), right


class KeepGradient(pl.Callback):
    gradient: Tensor

    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Any) -> None:
        parts = [weight.grad.flatten() for weight in pl_module.parameters() if weight.grad is not None]
        self.gradient = torch.cat(parts).clone()


def step(loss: PreferenceLoss, data: Groups, packing: Packing, max_tokens: int) -> tuple[Tensor, dict[str, float]]:
    """Gradient and metrics of one step on all groups, and validation on the same before it."""
    model = tiny_model()
    if packing != "padded":
        register_attention()
        model.set_attn_implementation(ATTENTION)
    fuse(model)
    keep, rows = KeepGradient(), data.preferences()
    everything = rows.compare(range(len(rows.starts)), range(len(data)))
    module = FineTuneModule(
        model,
        lambda model: torch.optim.SGD(model.parameters(), lr=0.0),
        lambda optimizer, total: torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0),
        total_steps=1,
        clip_norm=None,
        objective=PreferenceObjective(loss, everything),
    )
    trainer = bare_trainer(1, callbacks=[keep], val_check_interval=1, check_val_every_n_epoch=None)
    preferences = (rows, rows)
    trainer.fit(
        module,
        datamodule=FineTuneData(
            data, data, seed=5, batch_size=99, max_tokens=max_tokens, packing=packing, pad=0, preferences=preferences
        ),
    )
    return keep.gradient, {key: float(value) for key, value in trainer.callback_metrics.items()}


@pytest.mark.parametrize("name", LOSSES)
def test_loss_gradient_and_accuracy_of_every_layout_are_those_of_one_completion_at_a_time(name: str) -> None:
    loss, data = LOSSES[name], Groups(6)
    gradient, value, accuracy = plain_step(loss, data)
    for packing, max_tokens in LAYOUTS:
        computed, logged = step(loss, data, packing, max_tokens)
        assert torch.linalg.norm(computed - gradient) <= 1e-5 * torch.linalg.norm(gradient), (packing, max_tokens)
        for split in ("train", "val"):
            assert logged[f"{split}/loss"] == pytest.approx(value, rel=1e-5), (packing, max_tokens, split)
            assert logged[f"{split}/preference_accuracy"] == pytest.approx(accuracy, rel=1e-6)
