"""Choosing the trained weights: a LoRA adapter on a frozen model (by peft), or the model's own weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from kamerton.errors import Fault, UserError
from kamerton.model.layers import freeze_faults, freeze_parts, layer_faults
from kamerton.model.pissa import initial_state, keep_initial

Kind = Literal["lora", "qlora", "full"]
Init = Literal["default", "pissa", "pissa_niter_16"]
TIED_LAYERS = ("embed_tokens", "lm_head", "wte")  # names of embeddings and heads that may share a weight


def apply_adapter(  # noqa: PLR0913 - the keys of the section `adapter`
    model: nn.Module,
    *,
    kind: Kind,
    r: int = 16,
    alpha: float = 32,
    dropout: float = 0.0,
    targets: str | list[str] = "all-linear",
    rslora: bool = False,
    dora: bool = False,
    init: Init = "default",
    modules_to_save: Sequence[str] = (),
    freeze: Sequence[str] = (),
) -> nn.Module:
    """Return the model to train.

    LoRA (Hu et al. 2021) adds `B A x * alpha / r` to each target layer; B starts at zero. With `rslora` the factor is
    alpha / sqrt(r) (arXiv 2312.03732), with `dora` each row of the sum learns its length separately from its direction
    (arXiv 2402.09353), with `init` pissa A and B start from the weight's principal singular vectors, exactly or by 16
    subspace iterations (arXiv 2404.02948). All weights of `modules_to_save` are trained as well. QLoRA is the same on a
    model loaded in 4 bits. `full` trains every weight except those that `freeze` names.

    Raises `UserError` for names that match no part of the model.
    """
    faults = adapter_faults(model, kind=kind, targets=targets, modules_to_save=modules_to_save, freeze=freeze)
    if faults:
        raise UserError(faults)
    if kind == "full":
        freeze_parts(model, freeze)
        return model
    from peft import LoraConfig, get_peft_model

    is_tied = bool(getattr(getattr(model, "config", None), "tie_word_embeddings", False))
    config = LoraConfig(
        r=r,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules=targets,
        use_rslora=rslora,
        use_dora=dora,
        init_lora_weights=True if init == "default" else init,
        modules_to_save=list(modules_to_save) or None,
        ensure_weight_tying=is_tied and any(name.rpartition(".")[2] in TIED_LAYERS for name in modules_to_save),
        task_type="CAUSAL_LM",
        revision=getattr(getattr(model, "config", None), "_commit_hash", None),
    )
    adapted: nn.Module = get_peft_model(model, config).train()
    if init != "default":
        keep_initial(adapted)
    return adapted


def check_lora(model: nn.Module, *, r: int, targets: str | list[str]) -> list[Fault]:
    """Return the faults of LoRA on `model`: missing layers, or a rank without effect; changes the model.

    The model may be on the meta device.
    """
    layers = [name for name, layer in model.named_modules() if isinstance(layer, nn.Linear)]
    names = sorted({name.rpartition(".")[2] for name in layers})
    faults = layer_faults(model, targets, ())
    if faults:
        return faults
    try:
        with torch.device("meta"):  # uses no memory for any rank
            adapted = apply_adapter(model, kind="lora", r=r, targets=targets)
    except Exception as error:  # peft raises various exceptions for unsupported layers
        reason, fix = str(error).splitlines()[0], f"give all-linear, or a list of: {', '.join(names)}"
        return [Fault("adapter.targets", f"cannot adapt {targets!r}: {reason}", fix, column="adapter.targets")]
    shapes = [weight.shape for name, weight in adapted.named_parameters() if ".lora_A." in name or ".lora_B." in name]
    pairs = zip(shapes[::2], shapes[1::2], strict=True)  # (r, inputs), (outputs, r)
    highest = max((min(a[1], b[0]) for a, b in pairs if len(a) == len(b) == 2), default=r)
    if r <= highest:
        return []
    message = f"adapter.r is {r}, but no adapted layer has a rank above {highest}"
    return [Fault("config.value", message, f"set adapter.r to {highest} or less, such as 16", column="adapter.r")]


def adapter_faults(
    model: nn.Module, *, kind: Kind, targets: str | list[str], modules_to_save: Sequence[str], freeze: Sequence[str]
) -> list[Fault]:
    """Return a fault for each name that matches no part of `model`; only the structure of the model is used."""
    return freeze_faults(model, freeze) if kind == "full" else layer_faults(model, targets, modules_to_save)


def trainable_state(model: nn.Module) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint by name: the trained weights and, with PiSSA, their initial values."""
    trained = {name: weight.detach() for name, weight in model.named_parameters() if weight.requires_grad}
    return trained | initial_state(model)


def count_parameters(model: nn.Module) -> dict[str, int]:
    """Return the numbers of all and of trainable parameters."""
    sizes = [(weight.numel(), weight.requires_grad) for weight in model.parameters()]
    return {
        "parameters": sum(size for size, _ in sizes),
        "trainable_parameters": sum(size for size, trained in sizes if trained),
    }
