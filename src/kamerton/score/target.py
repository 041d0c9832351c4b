"""What is evaluated: a run with everything it was trained with, or a model by its name; and how each is loaded."""

from __future__ import annotations

import dataclasses
import glob
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from kamerton.config.check import check_values, to_config
from kamerton.config.schema import Config, ModelOptions
from kamerton.data.options import check_data_options
from kamerton.endpoint import untrusted, untrusted_key
from kamerton.errors import Fault, UserError
from kamerton.model.export import BASE
from kamerton.plan.packing import Packing
from kamerton.run.model import model_faults
from kamerton.score.options import EvaluateOptions
from kamerton.shell import command_line

_TAKEN_OVER = ("data", "split", "batch", "score")
_FILES = ("path", "train", "validation", "test", "sources")


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model where it runs, how its rows are laid out, and how many tokens a pass holds."""

    model: Any
    packing: Packing
    max_tokens: int
    device: torch.device


@dataclass(frozen=True, slots=True)
class Target:
    """What is evaluated, as a run's configuration; `name` for people, `facts` for the record.

    `named` are the configuration's values with `${oc.env:NAME}` where the environment gave one: files hold that text.
    `labels` are those of a run whose own data are not asked for (`own_data` false); None for free text.
    """

    name: str
    facts: dict[str, Any]
    config: Config
    named: dict[str, Any]
    load: Callable[[str], Loaded]
    own_data: bool
    labels: list[str] | None = None


def find_target(
    options: EvaluateOptions, values: Mapping[str, Any], named: Mapping[str, Any], defaults: Mapping[str, Any]
) -> Target:
    """The run, checkpoint or model that the options name; `values` are the options as they were typed, `named` the same
    with the environment's by name, `defaults` what is taken for a model that no run trained.

    Raises `UserError` for a run that is not there, or options that cannot be used with it.
    """
    if options.run is None and options.checkpoint is None:
        elsewhere = options.engine.kind == "hosted" or bool(options.model and options.model.provider)
        return _model(values, named, defaults, is_here=not elsewhere)
    checkpoint = None if options.checkpoint is None else Path(options.checkpoint)
    path = Path(options.checkpoint or "").parent.parent
    if options.run is not None:
        path = _run_directory(options.run, Path(options.paths.outputs))
    return _run(path, checkpoint, values, named)


def _run_directory(run: str, outputs: Path) -> Path:
    """A run by its directory, or by its id or `name/id` below the folder of outputs."""
    if (Path(run) / "run.json").is_file() or Path(run).is_absolute() or run.count("/") > 1:
        return Path(run)
    matched = sorted(outputs.glob(f"{'' if '/' in run else '*/'}{glob.escape(run)}/run.json"))
    if len(matched) > 1:
        paths = [str(file.parent) for file in matched]
        message, fix = f"several runs are called {run!r}: {', '.join(paths)}", f"name one of them: run={paths[0]}"
        raise UserError([Fault("evaluate.several", message, fix, column="run")])
    return matched[0].parent if matched else Path(run)


def _run(path: Path, checkpoint: Path | None, values: Mapping[str, Any], named: Mapping[str, Any]) -> Target:
    from kamerton.run.directory import read_config, read_record

    record = read_record(path)
    if record is None or not (path / "config.yaml").is_file() or (checkpoint and not checkpoint.is_file()):
        missing = checkpoint or path
        fix = "give a run's id or directory, e.g. run=outputs/trec/ab12, or a checkpoint; kamerton runs lists them"
        raise UserError([Fault("evaluate.no-run", "there is no such run", fix, file=str(missing), column="run")])
    written = read_config(path)
    own = _plain(written)
    _check_trust(own, values, path)
    config = _tuned(_config(_merged(own, values)), record, path)
    typed = values.get("data") or {}
    labels = ((record.get("data") or {}).get("report") or {}).get("labels")
    facts = {"run": str(path), "checkpoint": checkpoint and str(checkpoint), "model": record.get("model")}
    name = f"{path.resolve().parent.name}-{path.resolve().name}" + (f"-{checkpoint.stem}" if checkpoint else "")

    def load(accelerator: str) -> Loaded:
        return load_run(config, path, checkpoint, record.get("batch") or {}, accelerator)

    own_data = not any(typed.get(key) for key in _FILES)
    unresolved = {**_without_places(named), **_merged(written, named)}
    return Target(name, facts, config, unresolved, load, own_data, None if own_data else labels)


def _tuned(config: Config, record: Mapping[str, Any], path: Path) -> Config:
    """The configuration with the name of what a hosted run made, at an address that may be given the key."""
    if config.model.provider is None:
        return config
    name = (record.get("hosted") or {}).get("fine_tuned_model")
    faults = [one for one in (untrusted(config.model.base_url), untrusted_key(config.model.key)) if one]
    if not name:
        fix = f"go on with it: {command_line('runs', 'resume', path)}"
        faults.append(Fault("evaluate.no-model", "its job has made no model", fix, file=str(path), column="run"))
    if faults:
        raise UserError(faults)
    return _with_name(config, str(name))


def _check_trust(own: Mapping[str, Any], typed: Mapping[str, Any], path: Path) -> None:
    """A run's folder may come from anywhere: that its model's code is trusted has to be typed."""
    asked, given = ((values.get("model") or {}).get("trust_remote_code") for values in (own, typed))
    if asked and not given:
        message = "the run's configuration lets its model's own code run"
        fix = "if you trust that code, add model.trust_remote_code=true"
        file = str(path / "config.yaml")
        raise UserError([Fault("config.trust", message, fix, file=file, column="model.trust_remote_code")])


def _model(
    values: Mapping[str, Any], named: Mapping[str, Any], defaults: Mapping[str, Any], *, is_here: bool
) -> Target:
    """A model as a run that trains nothing."""
    if is_here and not _adapter_file(str(values["model"].get("name"))).is_file() and (faults := model_faults(values)):
        raise UserError(faults)
    data = values.get("data")
    config = _config(_merged({**defaults, "data": data or {}, "model": values["model"]}, values))
    name = config.model.name.partition("#")[0].rstrip("/").rpartition("/")[2]
    facts = {"run": None, "checkpoint": None, "model": {"name": config.model.name, "revision": config.model.revision}}
    return Target(
        name, facts, config, _without_places(named), lambda accelerator: load_named(config, accelerator), True
    )


def _without_places(named: Mapping[str, Any]) -> dict[str, Any]:
    """Where a run is must be found again by the record of its evaluation."""
    return {key: value for key, value in named.items() if key not in ("run", "checkpoint")}


def _plain(values: Any) -> dict[str, Any]:
    """A run's configuration, with what it names of the environment."""
    try:
        found = OmegaConf.to_container(OmegaConf.create(values), resolve=True)
    except OmegaConfBaseException as error:
        message = f"the run's configuration cannot be read: {str(error).splitlines()[0]}"
        fix = "set the environment variables that its config.yaml names"
        raise UserError([Fault("evaluate.config", message, fix, column="run")]) from error
    assert isinstance(found, dict)
    return {str(key): value for key, value in found.items()}


def _merged(own: Mapping[str, Any], typed: Mapping[str, Any]) -> dict[str, Any]:
    """A run's sections with what was typed on top; data files that are typed take the place of all of the run's."""
    merged = dict(own)
    for key in _TAKEN_OVER:
        section = typed.get(key) or {}
        merged[key] = {**(own.get(key) or {}), **section}
    data = typed.get("data") or {}
    if any(data.get(key) for key in _FILES):
        merged["data"] |= {key: data.get(key) or ({} if key == "sources" else None) for key in _FILES}
    if typed.get("metrics"):
        merged["metrics"] = {**(own.get("metrics") or {}), **typed["metrics"]}
    merged["allow_targets"] = list(typed.get("allow_targets") or [])  # a folder does not vouch for itself
    return merged


def _config(values: dict[str, Any]) -> Config:
    """The typed configuration; faults of a test file alone are not those of training data."""
    alone = set(_given(values["data"])) == {"test"} or not _given(values["data"])
    checked = {**values, "data": {**values["data"], "train": "given", "path": None} if alone else values["data"]}
    faults = [fault for fault in check_values(checked) if fault.severity == "error"]
    if faults:
        raise UserError(faults)
    config = to_config(values)
    if not alone and (wrong := check_data_options(config.data)):
        raise UserError(wrong)
    return config


def _given(data: Mapping[str, Any]) -> list[str]:
    return [key for key in _FILES if data.get(key)]


def run_config(path: Path) -> Config:
    """The configuration of the run at `path`; whether its data are still there does not matter.

    Raises `UserError` where it cannot be read, or lets its model's own code run.
    """
    from kamerton.run.directory import read_config

    own = _plain(read_config(path))
    _check_trust(own, {}, path)
    return to_config(_merged(own, {}))


def load_run(
    config: Config,
    path: Path,
    checkpoint: Path | None,
    decided: Mapping[str, Any],
    accelerator: str,
    base: Callable[[Config], Any] | None = None,
) -> Loaded:
    """The model as the run scored it: the same weights, kernels, layout and pass size, so the same numbers.

    `base` gives the untouched model in place of loading it.
    """
    from kamerton.run.model import chosen_checkpoint, load_base, load_weights, to_train

    model = (base or load_base)(config)
    device = _prepare(model, config, accelerator)
    packing = _lay_out(model, config, decided.get("cut"))
    tuned = to_train(config, model)
    load_weights(tuned, checkpoint or chosen_checkpoint(path))
    typed = config.batch.max_tokens
    tokens = int(typed) if typed != "auto" else decided.get("max_tokens") or _max_tokens(model)
    return Loaded(tuned.to(device).eval(), packing, int(tokens), device)


def load_named(config: Config, accelerator: str, base: Callable[[Config], Any] | None = None) -> Loaded:
    """A model of the hub or of a folder; an adapter's folder with its base, which `base` gives in place of loading."""
    from kamerton.run.model import load_base

    adapter = _adapter_file(config.model.name)
    model = (base or load_base)(_with_name(config, base_of_adapter(adapter)) if adapter.is_file() else config)
    device = _prepare(model, config, accelerator)
    packing = _lay_out(model, config, None)
    if adapter.is_file():
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, adapter.parent)
    typed = config.batch.max_tokens
    return Loaded(model.to(device).eval(), packing, int(typed) if typed != "auto" else _max_tokens(model), device)


def _with_name(config: Config, name: str) -> Config:
    return dataclasses.replace(config, model=dataclasses.replace(config.model, name=name, revision=None))


def without_adapter(options: ModelOptions) -> ModelOptions:
    """The model whose configuration tells what it can be fed: of an adapter's folder its base."""
    adapter = _adapter_file(options.name)
    return dataclasses.replace(options, name=base_of_adapter(adapter), revision=None) if adapter.is_file() else options


def _adapter_file(name: str) -> Path:
    return Path(name).expanduser() / "adapter_config.json"


def base_of_adapter(file: Path) -> str:
    """The base that the adapter's configuration names; where that was a folder of a cache that is gone, by what
    Kamerton makes it from."""
    from kamerton.run.directory import read_mapping

    name, known = read_mapping(file, json.loads).get("base_model_name_or_path"), file.with_name(BASE)
    if not isinstance(name, str):
        message = "it does not name its base model (base_model_name_or_path)"
        fix = "give the folder of a whole adapter, as peft writes it"
        raise UserError([Fault("model.path", message, fix, file=str(file), column="model.name")])
    if known.is_file() and not Path(name).is_dir():
        return str(json.loads(known.read_text("utf-8"))["base"])
    return str(name)


def _prepare(model: Any, config: Config, accelerator: str) -> torch.device:
    """Kernels as in training, and the device."""
    from kamerton.model.fuse import fuse, restore
    from kamerton.run.model import uses_kernels

    (fuse if uses_kernels(config) else restore)(model)
    gpu = accelerator in ("auto", "gpu") and torch.cuda.is_available()
    if accelerator == "gpu" and not gpu:
        fault = Fault("evaluate.device", "there is no GPU here", "set accelerator=auto", column="accelerator")
        raise UserError([fault])
    device = torch.device("cuda" if gpu else "cpu")
    if model.device.type != device.type:
        model.to(device)
    return device


def _lay_out(model: Any, config: Config, decided: Packing | None) -> Packing:
    from kamerton.model.probe import choose_packing
    from kamerton.model.switches import set_attention

    packing: Packing = choose_packing(model, decided or config.batch.cut, dropout=config.adapter.dropout).packing
    if config.model.attn is not None:
        set_attention(model, config.model.attn)
    return packing


def _max_tokens(model: Any) -> int:
    from kamerton.model.budget import find_max_tokens

    return find_max_tokens(model, trains_all=False)


def slug(text: str) -> str:
    """Letters, digits and dashes, for a folder's name."""
    return re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-")[:60] or "model"
