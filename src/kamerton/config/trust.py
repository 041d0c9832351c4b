"""Refuse what a file may not decide: whose code runs, where requests and files go, and which secrets are sent.

An experiment, a sweep or an option in the user's folder may come from someone else, and so may the overrides in a run
directory. Such foreign files may choose Kamerton's own options and set their values. These exceptions are allowed only
if they are typed on the command line:

1. `_TYPED_ONLY`: any value of these keys other than the documented ones.
2. Loggers other than `_LOGGERS`, arguments other than `_LOGGER_KEYS`, and W&B online.
3. In a node that names a class: addresses (`://`) and paths outside the run's folder. In values that are sent over the
   network: environment variables.
4. Below `hydra`: keys other than `_KEYS` of `trust_hydra.py`, interpolations, and classes other than `_CLASSES` there.

Classes of all other nodes are checked by `targets.py`. The composed values are checked, with interpolations resolved,
whatever the files contain.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from kamerton.config.foreign import Path, leaves
from kamerton.config.judged import Judged, refused, value_at
from kamerton.config.trust_hydra import hydra_faults
from kamerton.endpoint import KEY, is_documented
from kamerton.errors import Fault
from kamerton.files import leads_out

Allowed = Callable[[Any], bool]


def _is(*values: Any) -> Allowed:
    return lambda value: value in values


_TYPED_ONLY: dict[str, tuple[Allowed, str]] = {
    "allow_targets": (_is(None, []), "it could run untrusted code"),
    "model.trust_remote_code": (_is(None, False), "it could run untrusted code"),
    "lm_eval.include": (_is(None), "its tasks may contain code"),
    "model.base_url": (is_documented, "your key and data would be sent there"),
    "model.key": (_is(None, KEY), "the value of that variable would be sent"),
    "engine.url": (is_documented, "your key and data would be sent there"),
    "engine.key": (_is(None, KEY), "the value of that variable would be sent"),
}

_WANDB = "pytorch_lightning.loggers.WandbLogger"
_LOGGERS = {
    *("kamerton.train.metrics_file.MetricsFile", "pytorch_lightning.loggers.CSVLogger"),
    *(_WANDB, "pytorch_lightning.loggers.TensorBoardLogger"),
}
_LOGGER_KEYS = {
    *("_target_", "_partial_", "project", "name", "group", "notes", "tags", "job_type", "mode", "log_model", "prefix"),
    *("version", "save_dir", "dir", "sub_dir", "log_graph", "default_hp_metric", "max_queue", "flush_secs"),
    *("filename_suffix", "purge_step", "flush_logs_every_n_steps", "checkpoint_name"),
}
_OFFLINE = ("offline", "disabled")
_CLASS_GROUPS = ("callbacks", "logger", "metrics", "optimizer", "scheduler", "trainer")
_SENT_GROUPS = ("model", "engine", "logger", "metrics")
_VARIABLE = re.compile(r"\$\{oc\.env:([^}]*)\}")


def check_trust(judged: Judged) -> list[Fault]:
    """Return the faults of values that only the command line may set."""
    faults = []
    for key, (is_allowed, reason) in _TYPED_ONLY.items():
        path = tuple(key.split("."))
        if not (is_allowed(value_at(judged.values, path)) or judged.is_typed(path)):
            faults.append(refused(key, judged.shown(path), reason))
    faults += [
        *_logger_faults(judged),
        *_address_faults(judged),
        *_environment_faults(judged),
        *hydra_faults(judged),
    ]
    nodes = {fault.column.rpartition(".")[0] for fault in faults if fault.code == "config.target" and fault.column}
    files = {setting.key: setting.file for setting in judged.foreign}
    kept: dict[str | None, Fault] = {}
    for fault in faults:  # one per key, and only the class's fault for a node whose class is refused
        inside = any((fault.column or "").startswith(f"{node}.") for node in nodes)
        if fault.code == "config.target" or not inside:
            kept.setdefault(fault.column, replace(fault, file=fault.file or files.get(fault.column or "")))
    return list(kept.values())


def _logger_faults(judged: Judged) -> Iterator[Fault]:
    """Yield the faults of loggers that could send data elsewhere."""
    for path, node in _nodes(judged.values):
        target = str(node["_target_"])
        if path[0] != "logger" and not target.startswith("pytorch_lightning.loggers"):
            continue
        is_target_typed = judged.is_typed((*path, "_target_"))
        if target not in _LOGGERS and not is_target_typed and node["_target_"] not in (None, "???"):
            yield refused(".".join((*path, "_target_")), target, "it may send the logged values elsewhere")
            continue
        for name, value in node.items():
            inner = (*path, str(name))
            if str(name) not in _LOGGER_KEYS and not all(judged.is_typed(leaf) for leaf, _ in leaves(value, inner)):
                reason = "it may change where or as whom the logged values are sent"
                yield refused(".".join(inner), judged.shown(inner), reason)
        mode_path = (*path, "mode")
        if (
            target == _WANDB
            and node.get("mode") not in _OFFLINE
            and not (judged.is_typed(mode_path) or is_target_typed)
        ):
            yield refused(".".join(mode_path), node.get("mode"), "it sends the logged values over the network")


def _address_faults(judged: Judged) -> Iterator[Fault]:
    """Yield the faults of addresses and outside paths in nodes that name classes."""
    foreign_paths = {setting.path for setting in judged.foreign}
    for group in _CLASS_GROUPS:
        for path, value in leaves(judged.values.get(group), (group,)):
            is_note = path[0] == "logger" and path[-1] in ("notes", "tags")
            if not isinstance(value, str) or is_note or judged.is_typed(path):
                continue
            if "://" in value or (path in foreign_paths and leads_out(value)):
                yield refused(".".join(path), judged.shown(path), "files would be written to or read from there")


def _environment_faults(judged: Judged) -> Iterator[Fault]:
    """Yield the faults of environment variables in values that are sent over the network."""
    for path, value in leaves(judged.unresolved):
        names = [name for name in _VARIABLE.findall(str(value)) if name not in judged.variables]
        is_sent = path[0] in _SENT_GROUPS or "://" in str(value)
        is_folder = path == ("model", "name") and os.path.isdir(str(value_at(judged.values, path)))
        if names and is_sent and not is_folder:
            yield refused(".".join(path), value, f"the environment variable {names[0]} would be sent over the network")


def _nodes(values: Any, path: Path = ()) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    """Yield every mapping that names a class, with its path."""
    if isinstance(values, Mapping):
        if "_target_" in values:
            yield path, values
        for name, inner in values.items():
            yield from _nodes(inner, (*path, str(name)))
    elif isinstance(values, list):
        for index, inner in enumerate(values):
            yield from _nodes(inner, (*path, str(index)))
