"""Callbacks that measure from within `kamerton train`, so that what is measured is the whole product.

`Flops`: the share of the machine's matrix-multiplication rate that training reaches. `BareLoop`: what the framework
costs next to a loop that calls the same functions. Both put what they find into the result of the process.
"""

from __future__ import annotations

import copy
import itertools
import time
from typing import Any

import clock
import pytorch_lightning as pl
import torch
from torch import nn

from kamerton.model.loss import predict

WARM = 2  # first steps, not counted: memory is allocated, kernels are chosen


class Flops(pl.Callback):
    """FLOPs of a full fine-tune over time, and of matrix products of the model's shapes and of large squares.

    FLOPs of a micro-batch of T computed tokens and C distinct target positions, forward and backward:
    6 T N + 12 H D L S + 6 C h V. N counts the weights of the matrices of all L layers, H heads have dimension D, S sums
    over tokens how many each attends to (its position + 1), h is the hidden size and V the vocabulary.
    """

    def __init__(self) -> None:
        self.work: list[float] = []
        self.seconds: list[float] = []
        self.tokens: list[int] = []
        self.targets: list[int] = []

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.rates = [square_rate()]
        self.ended = time.perf_counter()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, index: int) -> None:
        now = time.perf_counter()
        self.seconds.append(now - self.ended)
        for micro in batch.micro_batches:
            self.tokens.append(micro.input_ids.numel())
            self.targets.append(len(micro.at.unique()))
        self.work.append(sum(model_flops(pl_module.model.config, micro) for micro in batch.micro_batches))
        self.ended = time.perf_counter()

    def on_train_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        middle = len(self.tokens) // 2
        tokens, targets = sorted(self.tokens)[middle], sorted(self.targets)[middle]
        shaped = shaped_rate(pl_module.model.config, tokens, targets)
        self.rates.append(square_rate())
        clock.FACTS.update(
            flops_per_s=sum(self.work[WARM:]) / sum(self.seconds[WARM:]),
            shaped_flops_per_s=shaped,
            square_flops_per_s=max(self.rates),
            tokens_of_a_pass=tokens,
        )


def model_flops(config: Any, micro: Any) -> float:
    """See `Flops`."""
    attended = int((micro.position_ids + 1).sum())
    return (
        6.0 * micro.input_ids.numel() * matrix_weights(config)
        + 12.0 * config.num_attention_heads * config.head_dim * config.num_hidden_layers * attended
        + 6.0 * len(micro.at.unique()) * config.hidden_size * config.vocab_size
    )


def layer_shapes(config: Any) -> list[tuple[int, int]]:
    """(inputs, outputs) of the matrices of one layer."""
    hidden, inner, head = config.hidden_size, config.intermediate_size, config.head_dim
    queries, keys = config.num_attention_heads * head, config.num_key_value_heads * head
    return [
        (hidden, queries),
        (hidden, keys),
        (hidden, keys),
        (queries, hidden),
        *[(hidden, inner)] * 2,
        (inner, hidden),
    ]


def matrix_weights(config: Any) -> int:
    """Weights of all layers' matrices: neither embeddings nor head."""
    return config.num_hidden_layers * sum(a * b for a, b in layer_shapes(config))


def shaped_rate(config: Any, tokens: int, targets: int) -> float:
    """FLOP/s of exactly the matrix products of one pass, forward and backward, with nothing between them."""
    layers = [(tokens, shape) for shape in layer_shapes(config)] * config.num_hidden_layers
    products = [*layers, (targets, (config.hidden_size, config.vocab_size))]
    matrices: dict[Any, tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = {}
    for rows, (a, b) in products:
        matrices.setdefault((rows, a, b), (torch.randn(rows, a), torch.randn(b, a), torch.randn(rows, b)))
    work = sum(6.0 * rows * a * b for rows, (a, b) in products)
    return work / fastest(lambda: [_three_products(*matrices[rows, a, b]) for rows, (a, b) in products])


def _three_products(inputs: torch.Tensor, weight: torch.Tensor, gradient: torch.Tensor) -> None:
    torch.mm(inputs, weight.t())
    torch.mm(gradient, weight)
    torch.mm(gradient.t(), inputs)


def square_rate(size: int = 2048) -> float:
    """FLOP/s of a large square float32 product."""
    left, right = torch.randn(size, size), torch.randn(size, size)
    return 2.0 * size**3 / fastest(lambda: torch.mm(left, right))


def fastest(call: Any, times: int = 6) -> float:
    """Seconds of the fastest of some calls after a first one."""
    call()
    seconds = []
    for _ in range(times):
        began = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - began)
    return min(seconds)


class BareLoop(pl.Callback):
    """After each step of the trainer, the same step by a bare loop on a copy of the model; compares the two times.

    The two take turns step by step in one process, so what else the machine does falls on both.
    """

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self.model: nn.Module = copy.deepcopy(pl_module.model)
        self.trained = [weight for weight in self.model.parameters() if weight.requires_grad]
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        self.optimizer = torch.optim.AdamW(self.trained, lr=rate, weight_decay=0.0, fused=True)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, lambda step: 1.0)
        batches = iter(trainer.datamodule.train_dataloader())  # type: ignore[attr-defined]
        self.batches = itertools.chain([next(batches)], batches)  # the first fixes where it begins: at step 0
        self.theirs: list[float] = []
        self.bare: list[float] = []
        self.ended = time.perf_counter()

    def on_train_batch_end(self, *_: Any) -> None:
        began = time.perf_counter()
        self.theirs.append(began - self.ended)
        self.step()
        self.ended = time.perf_counter()
        self.bare.append(self.ended - began)

    def step(self) -> None:
        """Forward, backward, clip, step: no framework."""
        batch = next(self.batches)
        for micro, weights in zip(batch.micro_batches, batch.weights, strict=True):
            ((predict(self.model, micro).nll * weights).sum() / batch.normaliser).backward()
        nn.utils.clip_grad_norm_(self.trained, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.schedule.step()

    def on_train_end(self, *_: Any) -> None:
        theirs, bare = sum(self.theirs[WARM:]), sum(self.bare[WARM:])
        ratios = sorted(a / b for a, b in zip(self.theirs[WARM:], self.bare[WARM:], strict=True))
        steps = len(ratios)
        facts = {"trainer_s": theirs / steps, "bare_s": bare / steps, "median_ratio": ratios[steps // 2]}
        clock.FACTS.update(facts)
