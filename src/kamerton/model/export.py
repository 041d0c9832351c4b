"""A trained model as files that transformers, peft and llama.cpp's converter read: no trace of how it was trained."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from kamerton.model.card import write_card
from kamerton.model.ends import end_tokens
from kamerton.model.parts import base_of
from kamerton.model.pissa import as_plain_lora, initial_state
from kamerton.quiet import quiet

BASE = "kamerton.json"  # beside an adapter whose base transformers does not know: what Kamerton calls it


def export(
    model: Any, tokenizer: Any, folder: Path, *, ending: Sequence[int], merge: bool, base: Path | None = None
) -> None:
    """Write `model` in Hugging Face format (safetensors) with its tokenizer, chat template and a README.

    A LoRA model is written as an adapter of its base model (PiSSA as an ordinary LoRA of twice the rank), or with
    `merge` as a plain model with the adapter added to its weights; the one in memory then changes by rounding alone.
    `base` is a folder with the base model, for one whose name transformers does not know (`load.local_base`).

    `ending` are the tokens that the chat template writes after an answer (`data.tokenize.answer_ending`):
    `generation_config.json` lists every token that ends an answer here, so that plain transformers stops as well.
    """
    is_adapter = hasattr(model, "peft_config") and not merge
    with quiet():
        if is_adapter:
            _export_adapter(model, folder, base)
        elif merge and hasattr(model, "peft_config"):
            _export_merged(model, folder)
        else:
            model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    _write_generation(model, tokenizer, ending, folder)
    write_card(folder, _name_of_base(model) if is_adapter else None, base, chat=bool(tokenizer.chat_template))


def _name_of_base(model: Any) -> str:
    return str(model.peft_config["default"].base_model_name_or_path)


def _write_generation(model: Any, tokenizer: Any, ending: Sequence[int], folder: Path) -> None:
    """The model's own settings of generating, with the end tokens and the padding that training used."""
    own = getattr(base_of(model), "generation_config", None)
    if own is None:
        return
    # As JSON: transformers refuses to save settings of sampling that contradict each other, once one is changed.
    settings = json.loads(own.to_json_string())
    settings.pop("_from_model_config", None)  # transformers may make such settings anew from config.json
    ends = sorted(end_tokens(model, tokenizer, ending))
    settings |= {"eos_token_id": ends[0] if len(ends) == 1 else ends} if ends else {}
    settings |= {} if tokenizer.pad_token_id is None else {"pad_token_id": tokenizer.pad_token_id}
    (folder / "generation_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def _export_adapter(model: Any, folder: Path, base: Path | None) -> None:
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
    if base is not None:
        (folder / BASE).write_text(json.dumps({"base": config.base_model_name_or_path}) + "\n", encoding="utf-8")
        config.base_model_name_or_path = str(base)
    config.save_pretrained(folder)


def _export_merged(model: Any, folder: Path) -> None:
    model.merge_adapter()
    try:
        plain = model.get_base_model()
        plain.save_pretrained(folder, state_dict=_plain_names(plain.state_dict()))
    finally:
        model.unmerge_adapter()


def _plain_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights under the names they had before the adapter came; whole layers that were trained replace theirs."""
    kept = {
        name: weight
        for name, weight in state.items()
        if not any(part in name for part in (".lora_", ".pissa_", ".original_module."))
    }
    return {name.replace(".base_layer", "").replace(".modules_to_save.default", ""): w for name, w in kept.items()}
