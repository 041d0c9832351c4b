"""Adapters in folders: those that peft writes, and those of runs."""

from __future__ import annotations

import json
from pathlib import Path

from torch import nn

from kamerton.errors import Fault, UserError
from kamerton.model.export import BASE
from kamerton.run.directory import read_mapping
from kamerton.shell import setting


def adapter_file(name: str) -> Path:
    """Return the path of the adapter configuration in a model folder, which may not exist."""
    return Path(name).expanduser() / "adapter_config.json"


def base_of_adapter(file: Path) -> str:
    """Return the base model named by an adapter's configuration.

    If that was a cache folder that is gone, return the name that Kamerton recorded beside it, to create it again.
    """
    name, recorded = read_mapping(file, json.loads).get("base_model_name_or_path"), file.with_name(BASE)
    if not isinstance(name, str):
        message = "it does not name its base model (base_model_name_or_path)"
        fix = "give the folder of a complete adapter, as peft writes it"
        raise UserError([Fault("model.path", message, fix, file=str(file), column="model.name")])
    if recorded.is_file() and not Path(name).is_dir():
        return str(json.loads(recorded.read_text("utf-8"))["base"])
    return str(name)


def find_adapter(place: str) -> Path:
    """Return the configuration of the adapter in a run directory or a model folder; it may not exist."""
    file = adapter_file(f"{place}/model")
    return file if file.is_file() else adapter_file(place)


def first_adapter_faults(place: str, model: str) -> list[Fault]:
    """Return the faults of `model.adapter`: no adapter there, or one of another model than `model`."""
    file, column = find_adapter(place), "model.adapter"
    if not file.is_file():
        fix = "give the directory of a finished run, or a folder with adapter_config.json"
        if (Path(place).expanduser() / "model" / "config.json").is_file():
            fix = f"the run has a whole model: leave model.adapter out and set model.name={place}/model"
        return [Fault("model.path", f"there is no adapter in {place!r}", fix, column=column)]
    recorded = file.with_name(BASE)
    base = json.loads(recorded.read_text("utf-8"))["base"] if recorded.is_file() else base_of_adapter(file)
    if base == model:
        return []
    message = f"the adapter in {place!r} was trained on {base}, and model.name is {model}"
    return [Fault("model.path", message, f"add {setting('model.name', base)}", column=column)]


def merge_first(model: nn.Module, place: str) -> nn.Module:
    """Return the model with the adapter of `place` merged into its weights."""
    from peft import PeftModel

    name = getattr(model, "name_or_path", "")
    merged: nn.Module = PeftModel.from_pretrained(model, find_adapter(place).parent).merge_and_unload()
    for weight in merged.parameters():
        weight.requires_grad_(True)
    merged.name_or_path = name  # type: ignore[assignment]
    return merged.train()
