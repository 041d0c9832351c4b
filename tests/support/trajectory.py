"""Twenty-four optimizer steps of the tiny model through Lightning, and every step's loss and gradient norm.

Run by `torchrun --nproc-per-node=2 trajectory.py FILE` it trains on two ranks and writes what rank 0 logged. The rows
are twenty-eight: five epochs of five steps, the last one of each short.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import DDPStrategy

from kamerton.model.adapter import apply_adapter
from kamerton.model.capabilities import choose_packing
from kamerton.model.fuse import fuse
from kamerton.model.switches import checkpoint_layers
from kamerton.model.tiny import tiny_model
from kamerton.plan.packing import Packing
from kamerton.train.data_module import FineTuneData
from kamerton.train.module import FineTuneModule
from support.ragged import Ragged, bare_trainer

STEPS, BATCH = 24, 6


@dataclass(frozen=True)
class Way:
    """One way to compute the same training."""

    packing: Packing = "padded"
    max_tokens: int = 10**6
    checkpointing: bool = False
    ranks: int = 1
    dropout: float = 0.0
    interrupted_at: tuple[int, ...] = ()


@dataclass(frozen=True)
class Trajectory:
    """Each step's loss and gradient norm, and the trained weights at the end."""

    loss: list[float]
    norm: list[float]
    weights: torch.Tensor


class Record(pl.Callback):
    def __init__(self) -> None:
        self.rows: list[tuple[float, float]] = []

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        self.rows.append(tuple(float(trainer.callback_metrics[f"train/{name}"]) for name in ("loss", "grad_norm")))  # type: ignore[arg-type]


def train(way: Way, folder: Path) -> Trajectory:
    """Train as `way` configures; an interruption saves, discards all state, and resumes from the file."""
    checkpoint: Path | None = None
    rows: list[tuple[float, float]] = []
    for stop in (*way.interrupted_at, STEPS):
        trainer, module, record = _part(way, stop)
        data = FineTuneData(
            Ragged(28), None, seed=5, batch_size=BATCH, max_tokens=way.max_tokens, packing=way.packing, pad=0
        )
        trainer.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=True)
        rows += record.rows
        checkpoint = folder / f"{stop}.ckpt"
        trainer.save_checkpoint(checkpoint)
    trained = [weight.detach().flatten() for weight in module.parameters() if weight.requires_grad]
    return Trajectory([loss for loss, _ in rows], [norm for _, norm in rows], torch.cat(trained).clone())


def _part(way: Way, stop: int) -> tuple[pl.Trainer, FineTuneModule, Record]:
    model: Any = tiny_model().train()
    used = choose_packing(model, way.packing).packing
    assert used == way.packing
    if way.checkpointing:
        checkpoint_layers(model)
    torch.manual_seed(0)
    kind: Any = "lora" if way.dropout else "full"
    adapted = apply_adapter(model, kind=kind, r=4, dropout=way.dropout)
    fuse(adapted)
    module = FineTuneModule(
        adapted,
        lambda model: torch.optim.AdamW(
            [weight for weight in model.parameters() if weight.requires_grad], lr=1e-3, eps=1e-4
        ),
        lambda optimizer, total: torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.1, total),
        total_steps=STEPS,
        clip_norm=1.0,
        seed=3,
    )
    record = Record()
    trainer = bare_trainer(
        stop,
        devices=way.ranks,
        strategy=DDPStrategy(broadcast_buffers=False) if way.ranks > 1 else "auto",
        callbacks=[record],
        use_distributed_sampler=False,
    )
    return trainer, module, record


if __name__ == "__main__":
    target = Path(sys.argv[1])
    steps = {}
    for packing, tokens in (("tree", 90), ("padded", 10**6)):
        result = train(replace(Way(ranks=2), packing=packing, max_tokens=tokens), target.parent)  # type: ignore[arg-type]
        steps[packing] = {"loss": result.loss, "norm": result.norm}
    if torch.distributed.get_rank() == 0:
        target.write_text(json.dumps(steps))
