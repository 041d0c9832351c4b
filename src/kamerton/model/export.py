"""A trained model as files that transformers, peft and llama.cpp's converter read: no trace of how it was trained."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from torch import Tensor

from kamerton.model.pissa import as_plain_lora, initial_state


def export(model: Any, tokenizer: Any, folder: Path, *, merge: bool) -> None:
    """Write `model` in Hugging Face format (safetensors) with its tokenizer and chat template.

    A LoRA model is written as an adapter of its base model (PiSSA as an ordinary LoRA of twice the rank), or with
    `merge` as a plain model with the adapter added to its weights; the one in memory then changes by rounding alone.
    """
    if not hasattr(model, "peft_config"):
        model.save_pretrained(folder)
    elif merge:
        _export_merged(model, folder)
    else:
        _export_adapter(model, folder)
    tokenizer.save_pretrained(folder)


def _export_adapter(model: Any, folder: Path) -> None:
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    # False: the vocabulary is the base model's, and peft would ask the hub whether that is so.
    state: dict[str, Tensor] = get_peft_model_state_dict(model, save_embedding_layers=False)
    config = copy.copy(model.peft_config["default"])
    if initial_state(model):
        state, config = as_plain_lora(model, state, config)
    config.inference_mode = True
    folder.mkdir(parents=True, exist_ok=True)
    alone = {name: weight.detach().cpu().contiguous().clone() for name, weight in state.items()}
    save_file(alone, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config.save_pretrained(folder)


def _export_merged(model: Any, folder: Path) -> None:
    model.merge_adapter()
    try:
        plain = model.get_base_model()
        plain.save_pretrained(folder, state_dict=_plain_names(plain.state_dict()))
    finally:
        model.unmerge_adapter()


def _plain_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights under the names they had before the adapter came; whole layers that were trained replace theirs."""
    kept = {
        name: weight
        for name, weight in state.items()
        if not any(part in name for part in (".lora_", ".pissa_", ".original_module."))
    }
    return {name.replace(".base_layer", "").replace(".modules_to_save.default", ""): w for name, w in kept.items()}
