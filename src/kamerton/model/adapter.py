"""What is trained: a LoRA adapter on a frozen model (through peft), or every weight."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from kamerton.errors import Fault
from kamerton.words import did_you_mean

Kind = Literal["lora", "full"]


def apply_adapter(
    model: nn.Module,
    *,
    kind: Kind,
    r: int = 16,
    alpha: float = 32,
    dropout: float = 0.0,
    targets: str | list[str] = "all-linear",
) -> nn.Module:
    """The model to train. LoRA (Hu et al. 2021) adds `B A x * alpha / r` to each target layer; B starts at zero."""
    if kind == "full":
        return model
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=r, lora_alpha=alpha, lora_dropout=dropout, target_modules=targets, task_type="CAUSAL_LM")
    adapted: nn.Module = get_peft_model(model, config).train()
    return adapted


def check_lora(model: nn.Module, *, r: int, targets: str | list[str]) -> list[Fault]:
    """Faults of LoRA on `model`, which may lie on the meta device and is changed: no such layers, too large a rank."""
    layers = [name for name, layer in model.named_modules() if isinstance(layer, nn.Linear)]
    names = sorted({name.rpartition(".")[2] for name in layers})
    faults = [
        Fault("adapter.targets", f"the model has no layer {one!r}", did_you_mean(one, names), column="adapter.targets")
        for one in (targets if isinstance(targets, list) else [])
        if not any(name == one or name.endswith(f".{one}") for name, _ in model.named_modules())
    ]
    if faults:
        return faults
    try:
        with torch.device("meta"):  # whatever the rank, it takes no memory
            adapted = apply_adapter(model, kind="lora", r=r, targets=targets)
    except Exception as error:  # whatever peft refuses layers with
        reason, fix = str(error).splitlines()[0], f"give all-linear, or a list of: {', '.join(names)}"
        return [Fault("adapter.targets", f"cannot adapt {targets!r}: {reason}", fix, column="adapter.targets")]
    return _check_rank(adapted, r)


def _check_rank(adapted: nn.Module, r: int) -> list[Fault]:
    """A rank above that of every adapted layer adds weights and nothing else."""
    shapes = [weight.shape for name, weight in adapted.named_parameters() if ".lora_A." in name or ".lora_B." in name]
    pairs = zip(shapes[::2], shapes[1::2], strict=True)  # (r, inputs), (outputs, r)
    most = max((min(a[1], b[0]) for a, b in pairs if len(a) == len(b) == 2), default=r)
    if r <= most:
        return []
    message = f"adapter.r is {r}, but no adapted layer has a rank above {most}"
    return [Fault("config.value", message, f"set adapter.r to {most} or less, such as 16", column="adapter.r")]


def trainable_state(model: nn.Module) -> dict[str, Tensor]:
    """The parameters that training changes, by name: all that a checkpoint needs to hold."""
    return {name: weight.detach() for name, weight in model.named_parameters() if weight.requires_grad}


def count_parameters(model: nn.Module) -> dict[str, int]:
    """Number of parameters, in all and trained."""
    sizes = [(weight.numel(), weight.requires_grad) for weight in model.parameters()]
    return {
        "parameters": sum(size for size, _ in sizes),
        "trainable_parameters": sum(size for size, trained in sizes if trained),
    }


def export(model: Any, tokenizer: Any, folder: Path, *, merge: bool) -> None:
    """Write `model` in Hugging Face format (safetensors) with its tokenizer and chat template.

    A LoRA model is written as an adapter, or with `merge` as a plain model with the adapter added to its weights;
    the model in memory stays as it is.
    """
    if merge and hasattr(model, "merge_adapter"):
        _export_merged(model, folder)
    else:
        model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _export_merged(model: Any, folder: Path) -> None:
    model.merge_adapter()
    try:
        plain = model.get_base_model()
        weights = {
            name.replace(".base_layer", ""): weight
            for name, weight in plain.state_dict().items()
            if ".lora_" not in name
        }
        plain.save_pretrained(folder, state_dict=weights)
    finally:
        model.unmerge_adapter()
