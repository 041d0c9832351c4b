"""Find the evaluated model: a run with its training configuration, or a model by name."""

from __future__ import annotations

import glob
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from kamerton.config.check import check_values, to_config
from kamerton.config.schema import Config
from kamerton.data.option_checks import check_data_options
from kamerton.endpoint import untrusted, untrusted_key
from kamerton.errors import Fault, UserError
from kamerton.run.adapters import adapter_file
from kamerton.run.model import model_faults
from kamerton.score.load import Loaded, load_named, load_run, with_name
from kamerton.score.options import EvaluateOptions
from kamerton.shell import command_line, setting

if TYPE_CHECKING:
    from kamerton.run.record import Record

_SECTIONS = ("data", "split", "batch", "score")  # of a run; options can override parts of them
_FILES = ("path", "train", "validation", "test", "sources", "prompt_file", "completion_file")
_READING = {"format": "auto", "encoding": "auto", "delimiter": None, "header": None, "records": None}  # of these files
_OF_COMPLETIONS = {"labels": "auto", "balance": "none", "completion": None, "label_names": None}  # of rows of one kind


@dataclass(frozen=True, slots=True)
class Target:
    """The evaluated model as a run's configuration, with a display name and the facts for the record.

    `unresolved` are the configuration's values with `${oc.env:NAME}` unresolved, as they are written to files. If other
    data than the run's are given (`own_data` is False), `labels` are those of the run; None for free text.
    """

    name: str
    facts: dict[str, Any]
    config: Config
    unresolved: dict[str, Any]
    load: Callable[[str], Loaded]
    own_data: bool
    labels: list[str] | None = None


def find_target(
    options: EvaluateOptions, values: Mapping[str, Any], unresolved: Mapping[str, Any], defaults: Mapping[str, Any]
) -> Target:
    """Return the run, checkpoint or model that the options name.

    `values` are the options as typed, `unresolved` the same with `${oc.env:NAME}` unresolved, and `defaults` the
    configuration of a model without a run. Raises `UserError` for missing runs and options that cannot be combined.
    """
    if options.run is None and options.checkpoint is None:
        is_hosted = options.engine.kind == "hosted" or bool(options.model and options.model.provider)
        return _model(values, unresolved, defaults, is_hosted=is_hosted)
    checkpoint = None if options.checkpoint is None else Path(options.checkpoint)
    path = Path(options.checkpoint or "").parent.parent
    if options.run is not None:
        path = _run_directory(options.run, Path(options.paths.outputs))
    return _run(path, checkpoint, values, unresolved)


def _run_directory(run: str, outputs: Path) -> Path:
    """Find a run by its directory, or by its id or `name/id` in the outputs folder."""
    if (Path(run) / "run.json").is_file() or Path(run).is_absolute() or run.count("/") > 1:
        return Path(run)
    matched = sorted(outputs.glob(f"{'' if '/' in run else '*/'}{glob.escape(run)}/run.json"))
    if len(matched) > 1:
        paths = [str(file.parent) for file in matched]
        message, fix = f"several runs are called {run!r}: {', '.join(paths)}", f"name one of them: run={paths[0]}"
        raise UserError([Fault("evaluate.several", message, fix, column="run")])
    return matched[0].parent if matched else Path(run)


def _run(path: Path, checkpoint: Path | None, values: Mapping[str, Any], unresolved: Mapping[str, Any]) -> Target:
    from kamerton.run.directory import read_config, read_record

    record = read_record(path)
    if record is None or not (path / "config.yaml").is_file() or (checkpoint and not checkpoint.is_file()):
        missing = checkpoint or path
        fix = "give a run's id or directory, e.g. run=outputs/trec/ab12, or a checkpoint; kamerton runs lists them"
        raise UserError([Fault("evaluate.no-run", "run not found", fix, file=str(missing), column="run")])
    if record.cv.folds is not None and checkpoint is None:
        raise UserError([_folds_fault(path, record.cv.folds)])
    run_values = read_config(path)
    resolved = _resolved(run_values)
    _check_trust(resolved, values, path)
    config = _config(_merged(resolved, values))
    if config.model.provider is not None:
        config = with_name(config, _hosted_model(config, record, path))
    if config.model.matmul == "auto":  # as the run decided it
        decided = record.batch.matmul or "float32"
        config = replace(config, model=replace(config.model, matmul=decided))
    typed = values.get("data") or {}
    labels, model = record.data.report.labels, record.model.model_dump(exclude_none=True) or None
    facts = {"run": str(path), "checkpoint": checkpoint and str(checkpoint), "model": model}
    name = f"{path.resolve().parent.name}-{path.resolve().name}" + (f"-{checkpoint.stem}" if checkpoint else "")

    def load(accelerator: str) -> Loaded:
        return load_run(config, path, checkpoint, record.batch, accelerator)

    own_data = not any(typed.get(key) for key in _FILES)
    values_for_files = {**_without_paths(unresolved), **_merged(run_values, unresolved)}
    return Target(name, facts, config, values_for_files, load, own_data, None if own_data else labels)


def _folds_fault(path: Path, folds: int) -> Fault:
    """Return the fault of a cross-validation as the evaluated run: its folds have models."""
    message = f"a cross-validation has no model; each of its {folds} folds has one"
    fix = f"evaluate a fold: {setting('run', str(path / 'folds' / '0'))}"
    return Fault("evaluate.folds", message, fix, file=str(path), column="run")


def _hosted_model(config: Config, record: Record, path: Path) -> str:
    """Return the name of a hosted run's model; raises `UserError` if there is none or the endpoint is not trusted."""
    name = record.hosted.fine_tuned_model
    faults = [fault for fault in (untrusted(config.model.base_url), untrusted_key(config.model.key)) if fault]
    if not name:
        fix = f"continue it: {command_line('runs', 'resume', path)}"
        faults.append(Fault("evaluate.no-model", "its job has no model yet", fix, file=str(path), column="run"))
    if faults:
        raise UserError(faults)
    return str(name)


def _check_trust(config: Mapping[str, Any], typed: Mapping[str, Any], path: Path) -> None:
    """Raise `UserError` unless a model's remote code is trusted on the command line; run folders are not trusted."""
    required, trusted = ((values.get("model") or {}).get("trust_remote_code") for values in (config, typed))
    if required and not trusted:
        message = "the run's configuration allows the model's remote code"
        fix = "if you trust that code, add model.trust_remote_code=true"
        file = str(path / "config.yaml")
        raise UserError([Fault("config.trust", message, fix, file=file, column="model.trust_remote_code")])


def _model(
    values: Mapping[str, Any], unresolved: Mapping[str, Any], defaults: Mapping[str, Any], *, is_hosted: bool
) -> Target:
    """Return a model as the target, with the default configuration in place of a run's."""
    is_adapter = adapter_file(str(values["model"].get("name"))).is_file()
    if not is_hosted and not is_adapter and (faults := model_faults(values)):
        raise UserError(faults)
    data = values.get("data")
    config = _config(_merged({**defaults, "data": data or {}, "model": values["model"]}, values))
    name = config.model.name.partition("#")[0].rstrip("/").rpartition("/")[2]
    facts = {"run": None, "checkpoint": None, "model": {"name": config.model.name, "revision": config.model.revision}}
    return Target(
        name, facts, config, _without_paths(unresolved), lambda accelerator: load_named(config, accelerator), True
    )


def _without_paths(unresolved: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values without run and checkpoint, whose resolved paths are in the facts of the record."""
    return {key: value for key, value in unresolved.items() if key not in ("run", "checkpoint")}


def _resolved(values: Any) -> dict[str, Any]:
    """Return a run's configuration with resolved environment variables."""
    try:
        config = OmegaConf.to_container(OmegaConf.create(values), resolve=True)
    except OmegaConfBaseException as error:
        message = f"the run's configuration cannot be read: {str(error).splitlines()[0]}"
        fix = "set the environment variables that its config.yaml names"
        raise UserError([Fault("evaluate.config", message, fix, column="run")]) from error
    assert isinstance(config, dict)
    return {str(key): value for key, value in config.items()}


def _merged(config: Mapping[str, Any], typed: Mapping[str, Any]) -> dict[str, Any]:
    """Return a run's configuration with the typed options.

    Typed data files replace all data files of the run, and how those were read. Rows of preferences have none of the
    labels that the run's rows may have.
    """
    merged = dict(config)
    for key in _SECTIONS:
        merged[key] = {**(config.get(key) or {}), **(typed.get(key) or {})}
    data = typed.get("data") or {}
    if any(data.get(key) for key in _FILES):
        merged["data"] |= {key: data.get(key) or ({} if key == "sources" else None) for key in _FILES}
        merged["data"] |= {key: data.get(key, default) for key, default in _READING.items()}
    if merged["data"].get("rows", "completions") != (config.get("data") or {}).get("rows", "completions"):
        merged["data"] |= {key: data.get(key, default) for key, default in _OF_COMPLETIONS.items()}
    if typed.get("metrics"):
        merged["metrics"] = {**(config.get("metrics") or {}), **typed["metrics"]}
    if typed.get("reward"):
        merged["reward"] = typed["reward"]
    merged["allow_targets"] = list(typed.get("allow_targets") or [])  # a run folder cannot allow its own targets
    return merged


def _config(values: dict[str, Any]) -> Config:
    """Return the validated configuration; a single test file, or no data, is not checked as training data."""
    files = {key for key in _FILES if values["data"].get(key)}
    has_training_data = bool(files - {"test"})
    checked = values
    if not has_training_data:
        checked = {**values, "data": {**values["data"], "train": "given", "path": None}}
    faults = [fault for fault in check_values(checked) if fault.severity == "error"]
    if faults:
        raise UserError(faults)
    config = to_config(values)
    if has_training_data and (data_faults := check_data_options(config.data)):
        raise UserError(data_faults)
    return config


def run_config(path: Path) -> Config:
    """Return the configuration of the run at `path`, also if its data are gone.

    Raises `UserError` if it cannot be read or allows the model's remote code.
    """
    from kamerton.run.directory import read_config

    config = _resolved(read_config(path))
    _check_trust(config, {}, path)
    return to_config(_merged(config, {}))


def slug(text: str) -> str:
    """Return a folder name of letters, digits and dashes, at most 60 characters."""
    return re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-")[:60] or "model"
