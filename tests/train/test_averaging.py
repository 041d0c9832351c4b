"""Averaged weights: computed as written down, validated and saved in place of the last ones, which training keeps."""

from __future__ import annotations

from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from kamerton.train.averaging import AveragedWeights

STEPS = 6


class Line(pl.LightningModule):
    """Fits y = w x by manual optimization, and notes the weight after every step and in every validation."""

    def __init__(self, optimizer: Any) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.layer = nn.Linear(1, 1, bias=False)
        nn.init.constant_(self.layer.weight, 1.0)
        self._build = optimizer
        self.after_steps: list[float] = []
        self.validated: list[float] = []

    def configure_optimizers(self) -> Any:
        return self._build(self.parameters())

    def training_step(self, batch: list[Tensor], batch_idx: int) -> None:
        optimizer = self.optimizers()
        self.manual_backward(((self.layer(batch[0]) - 3 * batch[0]) ** 2).mean())
        optimizer.step()
        optimizer.zero_grad()
        self.after_steps.append(self.layer.weight.item())

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self.validated.append(self.layer.weight.item())


def fit(optimizer: Any, callback: pl.Callback | None, sanity_steps: int = 0) -> tuple[Line, dict[str, Any]]:
    """The module after six steps with a validation after each, and its checkpoint."""
    data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.ones(STEPS, 1)))
    once = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.ones(1, 1)))
    quiet: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = pl.Trainer(
        accelerator="cpu",
        max_steps=STEPS,
        val_check_interval=1,
        num_sanity_val_steps=sanity_steps,
        enable_checkpointing=False,
        callbacks=[callback] if callback else [],
        **quiet,
    )
    module = Line(optimizer)
    trainer.fit(module, data, once)
    return module, trainer._checkpoint_connector.dump_checkpoint()


def sgd(weights: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(weights, lr=0.1)


def test_the_moving_average_is_validated_and_the_last_weights_are_trained() -> None:
    plain, _ = fit(sgd, None)
    module, checkpoint = fit(sgd, AveragedWeights(0.75))
    assert module.after_steps == plain.after_steps
    average, expected = 1.0, []
    for weight in plain.after_steps:
        average = 0.75 * average + 0.25 * weight
        expected.append(average)
    assert module.validated == pytest.approx(expected, rel=1e-6)
    assert checkpoint["averaged"]["layer.weight"].item() == pytest.approx(expected[-1], rel=1e-6)
    assert checkpoint["state_dict"]["layer.weight"].item() == plain.after_steps[-1]


def test_a_sanity_check_sees_the_initial_weights() -> None:
    plain, _ = fit(sgd, AveragedWeights(0.75))
    module, _ = fit(sgd, AveragedWeights(0.75), sanity_steps=1)
    assert module.validated == [1.0, *plain.validated]


def test_a_schedule_free_optimizer_is_validated_at_its_average_and_not_moved_by_it() -> None:
    schedulefree = pytest.importorskip("schedulefree")

    def build(weights: Any) -> Any:
        return schedulefree.AdamWScheduleFree(weights, lr=0.3)

    module, checkpoint = fit(build, AveragedWeights())
    line = Line(build)  # the same by hand, as documented
    optimizer, expected = line.configure_optimizers(), []
    optimizer.train()
    for _ in range(STEPS):
        ((line.layer(torch.ones(1, 1)) - 3) ** 2).mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        line.after_steps.append(line.layer.weight.item())
        kept = line.layer.weight.detach().clone()
        optimizer.eval()
        expected.append(line.layer.weight.item())
        optimizer.train()
        line.layer.weight.data.copy_(kept)
    assert module.after_steps == line.after_steps
    assert module.validated == expected
    assert checkpoint["averaged"]["layer.weight"].item() == expected[-1]
    assert checkpoint["state_dict"]["layer.weight"].item() == line.after_steps[-1] != expected[-1]
