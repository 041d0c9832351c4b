"""What is trained: a LoRA adapter on a frozen model (through peft), or every weight."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn

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
