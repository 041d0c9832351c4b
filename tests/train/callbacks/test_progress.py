"""What the terminal shows of a training."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from rich.progress import Progress

from kamerton.train.callbacks import ModelSummary, ProgressBar


@pytest.mark.parametrize(
    ("epochs", "epoch", "shown"), [(1, 0, "Training"), (3, 0, "Epoch 1/3"), (3, 2, "Epoch 3/3"), (-1, 4, "Epoch 5")]
)
def test_epochs_are_counted_from_one(epochs: int, epoch: int, shown: str) -> None:
    bar: Any = ProgressBar()
    bar._trainer = SimpleNamespace(max_epochs=epochs)
    assert bar._get_train_description(epoch).strip() == shown


@pytest.mark.parametrize(
    ("max_steps", "expected"), [(-1, [10, 10, 10]), (4, [4]), (10, [10]), (25, [10, 10, 5]), (30, [10, 10, 10])]
)
def test_the_bar_of_each_epoch_ends_with_its_last_step(max_steps: int, expected: list[int]) -> None:
    bar: Any = ProgressBar()
    shown = []
    for epoch in range(len(expected)):
        bar._trainer = SimpleNamespace(
            num_training_batches=10, max_steps=max_steps, max_epochs=3, current_epoch=epoch, global_step=10 * epoch
        )
        shown.append(bar.total_train_batches)
    assert shown == expected


def test_scoring_has_a_bar_that_is_hidden_when_it_ends() -> None:
    bar = ProgressBar()
    with bar.scoring(40) as advance:  # there is no display yet
        advance(40)
    progress: Any = Progress(disable=True)
    bar.progress = progress
    with bar.scoring(40) as advance:
        advance(25)
        (task,) = progress.tasks
        assert (task.description.strip(), task.completed, task.total, task.visible) == ("Scoring", 25, 40, True)
    assert not task.visible
    bar.disable()
    with bar.scoring(40):
        assert len(progress.tasks) == 1


def test_summary_counts_parameters_and_no_flops(capsys: pytest.CaptureFixture[str]) -> None:
    module = pl.LightningModule()
    module.model = torch.nn.Linear(100, 20)
    module.model.bias.requires_grad_(False)
    trainer: Any = SimpleNamespace(is_global_zero=True, strategy=None)
    ModelSummary(max_depth=1).on_fit_start(trainer, module)
    shown = capsys.readouterr().out
    assert "2,020 parameters" in shown
    assert "2,000 of them trained" in shown
    assert "FLOPs" not in shown
