"""Preflight checks that build the parts of a run once, without data or weights."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from kamerton.assets import cache_dir
from kamerton.config.check import check_nodes, section
from kamerton.config.model_options import AdapterOptions, ModelOptions
from kamerton.config.objective import objective_faults
from kamerton.config.schema import mapping_at
from kamerton.config.target_checks import GIVEN, check_targets
from kamerton.config.targets import instantiate
from kamerton.data.option_checks import check_data_options, check_split_options
from kamerton.data.options import COMPARED, DataOptions, SplitOptions
from kamerton.errors import Fault, UserError
from kamerton.pipeline.building import Node, build_part, constructor_faults, is_node

if TYPE_CHECKING:
    from kamerton.data.gate import DataError

_Check = Callable[[Mapping[str, Any]], list[Fault]]


def _cached_by(*sections: str) -> Callable[[_Check], _Check]:
    """Cache a check by the config sections it reads; sweep points rarely change them."""

    def wrap(check: _Check) -> _Check:
        results: dict[str, list[Fault]] = {}

        def cached(values: Mapping[str, Any]) -> list[Fault]:
            key = json.dumps([values.get(section) for section in sections], sort_keys=True, default=str)
            if key not in results:
                results[key] = check(values)
            return results[key]

        return cached

    return wrap


def build_faults(values: Mapping[str, Any], sections: Collection[str]) -> list[Fault]:
    """Return the faults of the sections: classes and arguments, the objective's data, the model and adapter."""
    values, sections = _with_valid_numbers(values), set(sections)
    allowed = values.get("allow_targets") or ()
    faults = check_targets({key: value for key, value in values.items() if key in sections}, allowed)
    if sections & {"objective", "data"}:
        faults += objective_faults(values)
    if sections & {"optimizer", "adapter", "allow_targets"}:
        faults += _optimizer_faults(values)
    if sections & {"trainer", "callbacks", "logger", "allow_targets"}:
        faults += _trainer_faults(values)
    if sections & {"model", "adapter"}:
        from kamerton.run.model import model_faults

        faults += model_faults(values) or _adapter_faults(values)
    return faults


_VALID = {
    "optimizer.lr": 1e-3,
    "optimizer.weight_decay": 0.0,
    "trainer.max_epochs": 1,
    "trainer.max_steps": -1,
    "trainer.limit_train_batches": 1.0,
}


def _with_valid_numbers(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Replace every number that `check_nodes` reports with a valid one, so that the rest is still checked."""
    for fault in check_nodes(values):
        section, _, key = (fault.column or "").partition(".")
        values = {**values, section: {**values[section], key: _VALID[f"{section}.{key}"]}}
    return values


@_cached_by("allow_targets", "optimizer", "adapter")
def _optimizer_faults(values: Mapping[str, Any]) -> list[Fault]:
    """Build the optimizer over two dummy parameters and run one step; return the fault if that fails."""
    node, allowed = values.get("optimizer"), values.get("allow_targets") or ()
    if not is_node(node) or check_targets({"optimizer": node}, allowed):
        return []  # already reported

    def build(node: Node) -> None:
        import torch

        from kamerton.train.groups import parameter_groups

        layer = torch.nn.Linear(2, 2, bias=mapping_at(values, "adapter").get("kind") == "full")
        optimizer = instantiate({**node, "_partial_": True}, allowed)(
            parameter_groups(layer, lr_ratio=1.0, decay_adapter=True)
        )
        if not isinstance(optimizer, torch.optim.Optimizer):
            raise TypeError(f"{node['_target_']} is not an optimizer")
        for weight in layer.parameters():
            weight.grad = torch.zeros_like(weight)
        if hasattr(optimizer, "train"):  # schedule-free optimizers step only in train mode
            optimizer.train()
        optimizer.step()

    return constructor_faults("optimizer", node, build)


@_cached_by("allow_targets", "trainer", "callbacks", "logger")
def _trainer_faults(values: Mapping[str, Any]) -> list[Fault]:
    """Build every callback and logger, then a trainer with those that can be built; return the faults."""
    faults: list[Fault] = []
    allowed = values.get("allow_targets") or ()
    built: dict[str, list[Any]] = {"callbacks": [], "logger": []}
    for group in built:
        for name, node in mapping_at(values, group).items():
            key = f"{group}.{name}"
            if not is_node(node) or (key in GIVEN and key not in _PLACEHOLDERS):
                continue  # needs values that only a run has
            if check_targets({group: {name: node}}, allowed):
                continue  # already reported
            if group == "logger" and node["_target_"].rpartition(".")[2] not in _LAZY:
                continue  # its constructor may start an experiment
            build = partial(instantiate, allowed=allowed, **_PLACEHOLDERS.get(key, {}))
            new_faults, instances = build_part(key, node, build)
            faults += new_faults
            built[group] += instances
    node = values.get("trainer")
    if not is_node(node) or check_targets({"trainer": node}, allowed):
        return faults

    def build_trainer(node: Node) -> None:
        from kamerton.train.build import trainer_node

        parts = {"callbacks": built["callbacks"], "logger": built["logger"] or False}
        instantiate(trainer_node(node, built["callbacks"]), allowed, **parts)

    return faults + constructor_faults("trainer", node, build_trainer)


_PLACEHOLDERS: dict[str, Node] = {
    "callbacks.checkpoint_best": {"dirpath": "."},
    "callbacks.checkpoint_last": {"dirpath": ".", "every_n_train_steps": 1},
    "logger.wandb": {"save_dir": "."},
    "logger.tensorboard": {"save_dir": "."},
}
_LAZY = ("CSVLogger", "MetricsFile", "TensorBoardLogger", "WandbLogger")  # without side effects until they log


@_cached_by("model", "adapter", "trainer")
def _adapter_faults(values: Mapping[str, Any]) -> list[Fault]:
    """Apply the adapter to the model's layers without their weights; return the faults."""
    from kamerton.model.load import load_skeleton

    model, adapter = section(ModelOptions, values, "model"), section(AdapterOptions, values, "adapter")
    if model is None or adapter is None or (adapter.kind == "full" and not adapter.freeze):
        return []
    unusable = _four_bit_faults(mapping_at(values, "trainer")) if adapter.kind == "qlora" else []
    if unusable:
        return unusable
    from kamerton.model.adapter import adapter_faults, check_lora

    try:
        layers = load_skeleton(model.name, revision=model.revision, trust_remote_code=model.trust_remote_code)
    except UserError as error:
        return list(error.faults)
    except Exception as error:  # transformers may raise anything
        message = f"cannot build model {model.name!r}: {str(error).splitlines()[0]}"
        return [Fault("model.name", message, "give a causal language model", column="model.name")]
    saved, frozen = adapter.modules_to_save, adapter.freeze
    faults = adapter_faults(layers, kind=adapter.kind, targets="all-linear", modules_to_save=saved, freeze=frozen)
    return faults + ([] if adapter.kind == "full" else check_lora(layers, r=adapter.r, targets=adapter.targets))


def _four_bit_faults(trainer: Mapping[str, Any]) -> list[Fault]:
    """Return a fault if the package or the GPU of QLoRA is missing.

    On a CPU, bitsandbytes loses gradients after an evaluation.
    """
    import torch

    if importlib.util.find_spec("bitsandbytes") is None:
        message = "adapter=qlora needs the package bitsandbytes, which is not installed"
        return [Fault("adapter.package", message, "pip install 'kamerton[qlora]'", column="adapter.kind")]
    if trainer.get("accelerator") == "cpu" or not torch.cuda.is_available():
        message = "adapter=qlora needs a GPU, but this run would use the CPU"
        return [Fault("adapter.device", message, "choose adapter=lora, or a machine with a GPU", column="adapter.kind")]
    return []


def data_faults(values: dict[str, Any], refuse: Callable[[DataError], list[Fault]] | None = None) -> list[Fault]:
    """Return every fault of the configured data; prepared data are cached, so they are read once.

    If the model's name is valid, rows too long for it are included. `refuse` converts a `DataError` to faults.
    """
    from kamerton.data.gate import DataError, prepare
    from kamerton.data.inputs import load_inputs
    from kamerton.data.read.sources import find_files, has_formats, local_data
    from kamerton.run.model import model_faults, tokenizer_faults
    from kamerton.score.reward_checks import reward_faults

    data, split = section(DataOptions, values, "data"), section(SplitOptions, values, "split")
    if data is None:
        return []  # already reported
    if split is None or check_data_options(data) or check_split_options(split):
        return find_files(data)[1] if has_formats(data) else []  # the rest needs valid options
    model = section(ModelOptions, values, "model")
    try:
        if model is None or model.provider or model_faults(values):
            prepared = prepare(local_data(data), split, cache=cache_dir() / "data")
        else:
            prepared = load_inputs(data, split, model).prepared
    except UserError as error:
        if refuse is not None and isinstance(error, DataError):
            return refuse(error)
        return list(error.faults)
    except Exception:  # invalid tokenizer files may raise anything
        if model is None or not (faults := tokenizer_faults(model)):
            raise
        return faults
    return [] if data.rows in COMPARED else reward_faults(values, prepared.splits)
