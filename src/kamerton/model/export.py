"""Exporting a trained model as files that transformers, peft and llama.cpp's converter read."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from kamerton.model.card import write_card
from kamerton.model.ends import end_tokens
from kamerton.model.layers import base_of
from kamerton.model.pissa import as_plain_lora, initial_state
from kamerton.quiet import quiet

BASE = "kamerton.json"  # Kamerton's name of an adapter's base model, if transformers does not know it


def export(
    model: Any, tokenizer: Any, folder: Path, *, ending: Sequence[int], merge: bool, base: Path | None = None
) -> None:
    """Write `model` in Hugging Face format (safetensors) with its tokenizer, chat template and a README.

    A LoRA model is written as an adapter of its base model (PiSSA as an ordinary LoRA of twice the rank), or with
    `merge` as a plain model with the adapter added to its weights; the model in memory then changes only by rounding.
    `base` is a folder with the base model if transformers does not know its name (`load.local_base`).

    `ending` are the tokens of `data.encode.tokenize.answer_ending`: `generation_config.json` lists every token that
    ends an answer, so that plain transformers stops there as well.
    """
    is_adapter = hasattr(model, "peft_config") and not merge
    with quiet():
        if is_adapter:
            _export_adapter(model, folder, base)
        elif hasattr(model, "peft_config"):
            model.merge_adapter()
            try:
                plain = model.get_base_model()
                state = {  # names without the adapter; fully trained layers replace the original ones
                    name.replace(".base_layer", "").replace(".modules_to_save.default", ""): weight
                    for name, weight in plain.state_dict().items()
                    if not any(part in name for part in (".lora_", ".pissa_", ".original_module."))
                }
                plain.save_pretrained(folder, state_dict=state)
            finally:
                model.unmerge_adapter()
        else:
            model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    _write_generation_config(model, tokenizer, ending, folder)
    base_name = str(model.peft_config["default"].base_model_name_or_path) if is_adapter else None
    write_card(folder, base_name, base, chat=bool(tokenizer.chat_template))


def _write_generation_config(model: Any, tokenizer: Any, ending: Sequence[int], folder: Path) -> None:
    """Write the model's generation settings with the end tokens and the padding token of training."""
    config = getattr(base_of(model), "generation_config", None)
    if config is None:
        return
    # As JSON: transformers refuses to save contradicting sampling settings after one was changed.
    settings = json.loads(config.to_json_string())
    settings.pop("_from_model_config", None)  # transformers may derive such settings from config.json again
    ends = sorted(end_tokens(model, tokenizer, ending))
    settings |= {"eos_token_id": ends[0] if len(ends) == 1 else ends} if ends else {}
    settings |= {} if tokenizer.pad_token_id is None else {"pad_token_id": tokenizer.pad_token_id}
    (folder / "generation_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def _export_adapter(model: Any, folder: Path, base: Path | None) -> None:
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    # False, because the vocabulary is the base model's; otherwise peft asks the hub for it.
    state: dict[str, Tensor] = get_peft_model_state_dict(model, save_embedding_layers=False)
    config = copy.copy(model.peft_config["default"])
    if initial_state(model):
        state, config = as_plain_lora(model, state, config)
    config.inference_mode = True
    folder.mkdir(parents=True, exist_ok=True)
    copies = {name: weight.detach().cpu().contiguous().clone() for name, weight in state.items()}
    save_file(copies, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    if base is not None:
        (folder / BASE).write_text(json.dumps({"base": config.base_model_name_or_path}) + "\n", encoding="utf-8")
        config.base_model_name_or_path = str(base)
    config.save_pretrained(folder)
