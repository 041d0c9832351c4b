"""Load an evaluated model: a run's weights, a model by name, or an adapter with its base model."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from kamerton.config.model_options import ModelOptions
from kamerton.config.schema import Config
from kamerton.errors import Fault, UserError
from kamerton.plan.packing import Packing
from kamerton.run.adapters import adapter_file, base_of_adapter

if TYPE_CHECKING:
    from kamerton.run.record import Batch


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model on its device, its batch layout, and the maximum number of tokens in a pass."""

    model: Any
    packing: Packing
    max_tokens: int
    device: torch.device


def load_run(
    config: Config,
    path: Path,
    checkpoint: Path | None,
    decided: Batch,
    accelerator: str,
    base: Callable[[Config], Any] | None = None,
) -> Loaded:
    """Load the model as the run scored it: same weights, kernels, layout and pass size, so that the numbers are equal.

    `base` returns the base model in place of loading it. `decided` is the recorded batch layout (`run.json`).
    """
    from kamerton.run.model import chosen_checkpoint, load_base, load_weights, to_train

    model = (base or load_base)(config)
    device = _prepare(model, config, accelerator)
    packing = _lay_out(model, config, decided.cut)
    tuned = to_train(config, model)
    load_weights(tuned, checkpoint or chosen_checkpoint(path))
    typed = config.batch.max_tokens
    tokens = int(typed) if typed != "auto" else decided.max_tokens or _max_tokens(model)
    return Loaded(tuned.to(device).eval(), packing, int(tokens), device)


def load_named(config: Config, accelerator: str, base: Callable[[Config], Any] | None = None) -> Loaded:
    """Load a model from the hub or a folder, or an adapter's folder with its base model.

    `base` returns the base model in place of loading it.
    """
    from kamerton.run.model import load_base

    adapter = adapter_file(config.model.name)
    model = (base or load_base)(with_name(config, base_of_adapter(adapter)) if adapter.is_file() else config)
    device = _prepare(model, config, accelerator)
    packing = _lay_out(model, config, None)
    if adapter.is_file():
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, adapter.parent)
    typed = config.batch.max_tokens
    return Loaded(model.to(device).eval(), packing, int(typed) if typed != "auto" else _max_tokens(model), device)


@contextmanager
def without_training(loaded: Loaded, config: Config) -> Iterator[Any]:
    """Yield the model as it was before training: without its adapter, or loaded again."""
    from kamerton.run.model import load_base

    if hasattr(loaded.model, "disable_adapter"):
        with loaded.model.disable_adapter():
            yield loaded.model
        return
    model = load_base(config)
    device = _prepare(model, config, "gpu" if loaded.device.type == "cuda" else "cpu")
    _lay_out(model, config, loaded.packing)
    yield model.to(device).eval()


def with_name(config: Config, name: str) -> Config:
    """Return the configuration with another model name."""
    return dataclasses.replace(config, model=dataclasses.replace(config.model, name=name, revision=None))


def without_adapter(options: ModelOptions) -> ModelOptions:
    """Return the options of the model itself: for an adapter's folder those of its base model."""
    adapter = adapter_file(options.name)
    return dataclasses.replace(options, name=base_of_adapter(adapter), revision=None) if adapter.is_file() else options


def _prepare(model: Any, config: Config, accelerator: str) -> torch.device:
    """Set the kernels as in training and move the model to the device, which is returned."""
    from kamerton.run.model import fuse_as_configured

    fuse_as_configured(model, config)
    gpu = accelerator in ("auto", "gpu") and torch.cuda.is_available()
    if accelerator == "gpu" and not gpu:
        fault = Fault("evaluate.device", "no GPU available", "set accelerator=auto", column="accelerator")
        raise UserError([fault])
    device = torch.device("cuda" if gpu else "cpu")
    if model.device.type != device.type:
        model.to(device)
    return device


def _lay_out(model: Any, config: Config, decided: Packing | None) -> Packing:
    from kamerton.model.capabilities import choose_packing
    from kamerton.model.switches import set_attention

    packing: Packing = choose_packing(model, decided or config.batch.cut, dropout=config.adapter.dropout).packing
    if config.model.attn is not None:
        set_attention(model, config.model.attn)
    return packing


def _max_tokens(model: Any) -> int:
    from kamerton.model.budget import find_max_tokens

    return find_max_tokens(model, trains_all=False)
