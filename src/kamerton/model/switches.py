"""Options for speed and memory that do not change the loss: checkpointing, compilation, attention, precision."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from transformers import AttentionInterface
from transformers.modeling_layers import GradientCheckpointingLayer

from kamerton.errors import Fault, UserError
from kamerton.model.attention import ATTENTION, tree_attention
from kamerton.model.layers import base_of


def checkpoint_layers(model: Any) -> None:
    """Keep only each layer's input and run the layer again in the backward pass: less memory, a third more work."""
    inner = base_of(model)
    try:
        inner.gradient_checkpointing_enable({"use_reentrant": False})
    except ValueError as error:
        message = f"{type(inner).__name__} has no gradient checkpointing"
        raise _cannot("gradient_checkpointing", message, "leave it off, or lower batch.max_tokens") from error


def compile_layers(model: nn.Module, backend: str = "inductor") -> int:
    """Compile each decoder layer for any number of tokens; return the number of layers.

    Layers of the same class share the compiled code. On a CPU attention is not compiled, because the shape of the tree
    changes at every step, and each shape would be compiled again.
    """
    layers = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    if not layers:
        raise _cannot("compile", f"{type(model).__name__} has no decoder layers to compile", "leave it off")
    if not torch.cuda.is_available():
        if backend == "inductor" and not any(map(shutil.which, ("c++", "g++", "clang++"))):
            raise _cannot("compile", "there is no C++ compiler", "install g++, or leave it off")
        AttentionInterface.register(ATTENTION, torch.compiler.disable(tree_attention))  # type: ignore[no-untyped-call]
    for layer in layers:
        layer.compile(backend=backend, dynamic=True)
    return len(layers)


def set_attention(model: Any, name: str) -> None:
    """Choose transformers' attention for padded rows."""
    try:
        model.set_attn_implementation(name)
    except (ImportError, ValueError) as error:
        message = f"cannot use attention {name!r}: {str(error).strip().splitlines()[0]}"
        raise _cannot("attn", message, "leave it null") from error


def best_precision() -> str:
    """Return Lightning's precision for the hardware: mixed bfloat16 on a GPU that supports it, otherwise float32."""
    return "bf16-mixed" if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else "32-true"


def precision_of(trainer: Mapping[str, Any]) -> str:
    """Return Lightning's `precision` for the section `trainer`; if it is null, by the hardware that is used."""
    precision = trainer.get("precision")
    if precision is None:
        return "32-true" if trainer.get("accelerator") == "cpu" else best_precision()
    return str(precision)


def autocast_format(precision: str) -> torch.dtype | None:
    """Return the 16-bit format of Lightning's `precision`; None for others."""
    bits = precision.partition("-")[0]
    return {"16": torch.float16, "bf16": torch.bfloat16}.get(bits)


def _cannot(switch: str, message: str, fix: str) -> UserError:
    return UserError([Fault("model.switch", message, fix, column=f"model.{switch}")])


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """For a block, the model has no dropout."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
