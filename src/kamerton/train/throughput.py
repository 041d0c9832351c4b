"""Training throughput and its breakdown, measured by the host's clock without device synchronisation.

A step lasts from the end of the previous step to its own end, excluding validation and checkpoints in between. A single
step's time is imprecise because a device runs behind the host; over a window of steps the two agree.
"""

from __future__ import annotations

import resource
import sys
import time
from collections import deque
from dataclasses import astuple, dataclass
from typing import Any

import pytorch_lightning as pl
import torch
from torch import nn

from kamerton.cores import core_wait
from kamerton.run.directory import RunDirectory
from kamerton.train.batches import StepBatch

# Dense peak of one device in TFLOP/s: 16 bit, TF32, 32 bit, from NVIDIA's data sheets; rates of sparse matrices are
# halved. The first key that is part of the device's name counts. Not Lightning's `get_available_flops` (2.6.6): it
# does not recognise "NVIDIA H200" or a B200, takes an L40S for an L4, doubles an H100 NVL and halves an RTX 4090.
_PEAKS = {
    "B200": (2250.0, 1100.0, 75.0),
    "H200": (989.0, 494.0, 67.0),
    "H100 NVL": (835.0, 417.0, 60.0),
    "H100 PCIe": (756.0, 378.0, 51.0),
    "H100": (989.0, 494.0, 67.0),
    "A100": (312.0, 156.0, 19.5),
    "L40S": (362.0, 183.0, 91.6),
    "L40": (181.0, 90.5, 90.5),
    "L4": (121.0, 60.0, 30.3),
    "RTX 4090": (165.2, 82.6, 82.6),
    "V100": (125.0, 15.7, 15.7),
    "T4": (65.0, 8.1, 8.1),
}


@dataclass(frozen=True, slots=True)
class ModelShape:
    """The numbers that determine a step's FLOPs: weights, and `attention` = layers x heads x head dimension."""

    frozen: int
    trained: int
    head: int
    head_trained: bool
    attention: int


@dataclass(frozen=True, slots=True)
class Work:
    """Completed steps: their seconds, of which `waited` for the loader, and their work over all ranks.

    `core_wait` adds up the seconds that each thread of this process was ready to run and had no core.
    """

    steps: int = 0
    seconds: float = 0.0
    waited: float = 0.0
    examples: int = 0
    tokens: int = 0  # of the examples
    computed: int = 0  # tokens run through the model: padding counts, a shared prefix counts once
    flops: float = 0.0
    core_wait: float = 0.0

    def __add__(self, other: Work) -> Work:
        return Work(*(mine + theirs for mine, theirs in zip(astuple(self), astuple(other), strict=True)))


def model_shape(model: Any) -> ModelShape | None:
    """Return the shape of a dense causal transformer; None for other models, such as a mixture of experts."""
    config = model.config.get_text_config()
    if getattr(config, "num_experts", None) or getattr(config, "num_local_experts", None):
        return None
    output = model.get_output_embeddings()
    if output is None:
        return None
    sizes = {True: 0, False: 0}
    for module in model.modules():
        weight = module._parameters.get("weight")
        if weight is not None and weight.ndim >= 2 and module is not output and not isinstance(module, nn.Embedding):
            inputs, outputs = getattr(module, "in_features", None), getattr(module, "out_features", None)
            # A quantized weight's tensor is packed: its size comes from the layer.
            linear = isinstance(inputs, int) and isinstance(outputs, int)
            sizes[weight.requires_grad] += module.in_features * module.out_features if linear else weight.numel()
    heads = config.num_attention_heads
    dimension = getattr(config, "head_dim", None) or config.hidden_size // heads
    return ModelShape(
        frozen=sizes[False],
        trained=sizes[True],
        head=output.weight.numel(),
        head_trained=output.weight.requires_grad,
        attention=config.num_hidden_layers * heads * dimension,
    )


def step_flops(shape: ModelShape, batch: StepBatch) -> float:
    """Return the floating point operations of one step, forward and backward.

    After PaLM (Chowdhery et al. 2022, appendix B): 6 per weight and token, and 12·L·H·Q·T per token for attention. In
    addition, a frozen weight costs 4 because it has no gradient; the head runs on target tokens only; padding is not
    counted, and a shared prefix is counted once. Recomputed activations are not counted.
    """
    tokens = min(batch.computed, batch.tokens - batch.examples)
    body = (4 * shape.frozen + 6 * shape.trained) * tokens
    head = (6 if shape.head_trained else 4) * shape.head * batch.targets
    return float(body + head + 12 * shape.attention * batch.context * tokens)


def peak_flops(device: torch.device, *, half: bool) -> float | None:
    """Return the peak FLOP/s of one device; None for a GPU that is not in the table.

    A CPU is measured: the best of a few matrix products with the available threads, in about a tenth of a second.
    """
    if device.type == "cpu":
        size, best = 1024, float("inf")
        left = right = torch.ones(size, size, dtype=torch.bfloat16 if half else torch.float32)
        with torch.inference_mode():
            for _ in range(4):
                before = time.perf_counter()
                torch.mm(left, right)
                best = min(best, time.perf_counter() - before)
        return 2 * size**3 / best
    if device.type != "cuda":
        return None
    column = 0 if half else 1 if torch.get_float32_matmul_precision() != "highest" else 2
    return listed_peak(torch.cuda.get_device_name(device), column)


def listed_peak(name: str, column: int) -> float | None:
    """Return the peak FLOP/s of the GPU `name` in 16 bit (column 0), TF32 (1) or 32 bit (2); None if not listed."""
    return next((row[column] * 1e12 for key, row in _PEAKS.items() if key in name), None)


def peak_memory_mb(device: torch.device) -> float:
    """Return the peak memory so far: of tensors on a GPU, of the whole process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used / (2**20 if sys.platform == "darwin" else 2**10)


def rates(work: Work, peak: float | None) -> dict[str, float]:
    """Return the figures of `work`; shares are between 0 and 1. `peak` is the FLOP/s of all devices together."""
    inputs = work.tokens - work.examples  # the last token of an example predicts nothing and is not run
    figures = {
        "tokens_per_s": work.tokens / work.seconds,
        "computed_tokens_per_s": work.computed / work.seconds,
        "examples_per_s": work.examples / work.seconds,
        "padding": max(0.0, 1 - inputs / work.computed),
        "shared": max(0.0, 1 - work.computed / inputs),
        "data_wait": work.waited / work.seconds,
        "core_wait": work.core_wait / work.seconds,
    }
    if work.flops:
        figures["tflops_per_s"] = work.flops / work.seconds / 1e12
    return {**figures, "mfu": work.flops / work.seconds / peak} if work.flops and peak else figures


class ThroughputMonitor(pl.Callback):
    """Log `perf/...` over the last `window` steps, and record the figures of all steps in `run.json`.

    The first step after a start is excluded, because it allocates memory and may compile.
    """

    def __init__(self, run: RunDirectory, window: int = 20) -> None:
        self._run = run
        self._recent: deque[Work] = deque(maxlen=window)
        self._all = Work()
        self._mark = self._waited = self._began = self._core_wait = 0.0
        self._steps = 0
        self._away = False  # whether validation or a checkpoint followed the last step

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        model: Any = pl_module.model
        self._shape = model_shape(model)
        half = "16" in str(trainer.precision) or next(model.parameters()).dtype.itemsize == 2
        peak = peak_flops(pl_module.device, half=half) if self._shape else None
        self._peak = peak * trainer.world_size if peak else None
        self._began = self._mark = time.perf_counter()
        self._waited, self._core_wait, self._away = _waited(trainer), core_wait(), False

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        if self._away:
            self._mark = time.perf_counter() - (_waited(trainer) - self._waited)
            self._core_wait = core_wait()
            self._away = False

    def on_validation_start(self, *_: Any) -> None:
        self._away = True

    def on_save_checkpoint(self, *_: Any) -> None:
        self._away = True

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: StepBatch, batch_idx: int
    ) -> None:
        now, waited, for_core = time.perf_counter(), _waited(trainer), core_wait()
        batch = getattr(pl_module, "step_batch", None) or batch
        step = Work(
            steps=1,
            seconds=now - self._mark,
            waited=waited - self._waited,
            core_wait=max(0.0, for_core - self._core_wait),  # a thread that ended takes its seconds with it
            examples=batch.examples,
            tokens=batch.tokens,
            computed=batch.computed,
            flops=step_flops(self._shape, batch) if self._shape else 0.0,
        )
        self._mark, self._waited, self._core_wait = now, waited, for_core
        self._steps += 1
        if self._steps == 1:
            return
        self._all += step
        self._recent.append(step)
        figures = {**rates(sum(self._recent, Work()), self._peak), "peak_memory_mb": peak_memory_mb(pl_module.device)}
        # Host tensors, because Lightning would copy plain numbers to the device and wait for it.
        pl_module.log_dict({f"perf/{name}": torch.tensor(value) for name, value in figures.items()})

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._record(pl_module)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self._record(pl_module)

    def _record(self, module: pl.LightningModule) -> None:
        if not self._all.steps:
            return
        figures = {**rates(self._all, self._peak), "peak_memory_mb": peak_memory_mb(module.device)}
        figures |= {"train_s": self._all.seconds, "fit_s": time.perf_counter() - self._began}
        self._run.update(throughput={"steps": self._all.steps, **{key: round(figures[key], 4) for key in figures}})


def _waited(trainer: pl.Trainer) -> float:
    return getattr(trainer.train_dataloader, "waited", 0.0)
