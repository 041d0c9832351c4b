"""What a file may not decide: whose code runs, where requests and files go, and which secrets go with them.

The rule. An experiment, a sweep or an option in a folder of the user's may come from a stranger, and so may the
overrides in a run directory. What is foreign in this sense may choose among Kamerton's own options and set their
values, except for what follows, which counts only where it was typed on the command line:

1. `_TYPED_ONLY`: keys whose values are the documented ones unless they are typed.
2. Loggers: only `_LOGGERS`, only with `_LOGGER_KEYS`, and W&B offline.
3. In a node that names a class, no address (`://`) and no path out of the run's folder; in what is sent elsewhere, no
   environment variable that was not typed by name.
4. Below `hydra`, `_KEYS` of `trust_hydra.py` alone, without interpolations, and classes by their full names
   (`_CLASSES` there).

Classes of all other nodes are judged by `targets.py`. Whatever the files hold, what comes of them is judged: the
composed values, with interpolations resolved.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from kamerton.config.foreign import Path, leaves
from kamerton.config.judged import Judged, refused, value_at
from kamerton.config.trust_hydra import check_hydra
from kamerton.endpoint import KEY, is_documented
from kamerton.errors import Fault
from kamerton.files import leads_out

Allowed = Callable[[Any], bool]


def _is(*values: Any) -> Allowed:
    return lambda value: value in values


_TYPED_ONLY: dict[str, tuple[Allowed, str]] = {
    "allow_targets": (_is(None, []), "it lets other people's code run"),
    "model.trust_remote_code": (_is(None, False), "it lets other people's code run"),
    "lm_eval.include": (_is(None), "tasks of such a folder hold code"),
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
_WITH_CLASSES = ("callbacks", "logger", "metrics", "optimizer", "scheduler", "trainer")
_SENT = ("model", "engine", "logger", "metrics")
_VARIABLE = re.compile(r"\$\{oc\.env:([^}]*)\}")


def check_trust(judged: Judged) -> list[Fault]:
    """Faults of what only the command line may decide."""
    faults = []
    for key, (is_allowed, reason) in _TYPED_ONLY.items():
        path = tuple(key.split("."))
        if not (is_allowed(value_at(judged.values, path)) or judged.is_typed(path)):
            faults.append(refused(key, judged.shown(path), reason))
    faults += [
        *_loggers(judged),
        *_addresses(judged),
        *_environment(judged),
        *check_hydra(judged),
    ]
    nodes = {fault.column.rpartition(".")[0] for fault in faults if fault.code == "config.target" and fault.column}
    files = {setting.key: setting.file for setting in judged.foreign}
    kept: dict[str | None, Fault] = {}
    for fault in faults:  # one for each key; of a node whose class is refused that alone
        inside = any((fault.column or "").startswith(f"{node}.") for node in nodes)
        if fault.code == "config.target" or not inside:
            kept.setdefault(fault.column, replace(fault, file=fault.file or files.get(fault.column or "")))
    return list(kept.values())


def _loggers(judged: Judged) -> Iterator[Fault]:
    for path, node in _nodes(judged.values):
        target = str(node["_target_"])
        if path[0] != "logger" and not target.startswith("pytorch_lightning.loggers"):
            continue
        typed_target = judged.is_typed((*path, "_target_"))
        if target not in _LOGGERS and not typed_target and node["_target_"] not in (None, "???"):
            yield refused(".".join((*path, "_target_")), target, "it may send what is logged to another place")
            continue
        for name, value in node.items():
            inner = (*path, str(name))
            if str(name) not in _LOGGER_KEYS and not all(judged.is_typed(leaf) for leaf, _ in leaves(value, inner)):
                reason = "it may say where what is logged is sent, or as whom"
                yield refused(".".join(inner), judged.shown(inner), reason)
        mode = (*path, "mode")
        if target == _WANDB and node.get("mode") not in _OFFLINE and not (judged.is_typed(mode) or typed_target):
            yield refused(".".join(mode), node.get("mode"), "it sends what is logged over the network")


def _addresses(judged: Judged) -> Iterator[Fault]:
    written = {setting.path for setting in judged.foreign}
    for group in _WITH_CLASSES:
        for path, value in leaves(judged.values.get(group), (group,)):
            is_note = path[0] == "logger" and path[-1] in ("notes", "tags")
            if not isinstance(value, str) or is_note or judged.is_typed(path):
                continue
            if "://" in value or (path in written and leads_out(value)):
                yield refused(".".join(path), judged.shown(path), "files would be written to or read from there")


def _environment(judged: Judged) -> Iterator[Fault]:
    for path, value in leaves(judged.unresolved):
        names = [name for name in _VARIABLE.findall(str(value)) if name not in judged.variables]
        sent = path[0] in _SENT or "://" in str(value)
        is_folder = path == ("model", "name") and os.path.isdir(str(value_at(judged.values, path)))
        if names and sent and not is_folder:
            yield refused(".".join(path), value, f"the environment variable {names[0]} would be sent elsewhere")


def _nodes(values: Any, path: Path = ()) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    """Every mapping that names a class, with its key."""
    if isinstance(values, Mapping):
        if "_target_" in values:
            yield path, values
        for name, inner in values.items():
            yield from _nodes(inner, (*path, str(name)))
    elif isinstance(values, list):
        for index, inner in enumerate(values):
            yield from _nodes(inner, (*path, str(index)))
