"""What a file may not decide: whose code runs, where requests and files go, and which secrets go with them.

The rule. An experiment, a sweep or an option in a folder of the user's may come from a stranger, and so may the
overrides in a run directory. What is foreign in this sense may choose among Kamerton's own options and set their
values, except for what follows, which counts only where it was typed on the command line:

1. `_TYPED_ONLY`: keys whose values are the documented ones unless they are typed.
2. Loggers: only `_LOGGERS`, only with `_LOGGER_KEYS`, and W&B offline.
3. In a node that names a class, no address (`://`); in what is sent elsewhere, no environment variable that was not
   typed by name.
4. Below `hydra`, `_HYDRA_KEYS` alone, without interpolations, and classes by their full names (`_CLASSES`).

Classes of all other nodes are judged by `targets.py`. Whatever the files hold, what comes of them is judged: the
composed values, with interpolations resolved.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from kamerton.config.foreign import Path, Setting, leaves
from kamerton.errors import Fault
from kamerton.providers.endpoint import KEY, is_documented

Allowed = Callable[[Any], bool]


def _is(*values: Any) -> Allowed:
    return lambda value: value in values


def _any(value: Any) -> bool:
    return True


def _is_size(value: Any) -> bool:
    return value is None or isinstance(value, int | float)


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

_SUBMITIT = "hydra_plugins.hydra_submitit_launcher.submitit_launcher."
_SAMPLERS = (
    *("BruteForceSampler", "CmaEsSampler", "GPSampler", "GridSampler", "NSGAIIISampler", "NSGAIISampler"),
    *("PartialFixedSampler", "QMCSampler", "RandomSampler", "TPESampler", "nsgaii.BLXAlphaCrossover"),
    *("nsgaii.PolynomialMutation", "nsgaii.SBXCrossover", "nsgaii.SPXCrossover", "nsgaii.UNDXCrossover"),
    *("nsgaii.UniformCrossover", "nsgaii.VSBXCrossover"),
)
_PRUNERS = (
    *("HyperbandPruner", "MedianPruner", "NopPruner", "PatientPruner", "PercentilePruner"),
    *("SuccessiveHalvingPruner", "ThresholdPruner", "WilcoxonPruner"),
)
# The classes that may stand at a place below `hydra`, and below it.
_CLASSES: dict[Path, frozenset[str]] = {
    ("sweeper", "sampler"): frozenset(f"optuna.samplers.{name}" for name in _SAMPLERS),
    ("sweeper", "pruner"): frozenset(f"optuna.pruners.{name}" for name in _PRUNERS),
    ("sweeper", "_target_"): frozenset(
        {
            "hydra._internal.core_plugins.basic_sweeper.BasicSweeper",
            "hydra_plugins.kamerton.optuna_sweeper.OptunaSweeper",
        }
    ),
    ("launcher", "_target_"): frozenset(
        {
            "hydra._internal.core_plugins.basic_launcher.BasicLauncher",
            "hydra_plugins.kamerton.process_launcher.ProcessLauncher",
            "hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher",
            *(f"{_SUBMITIT}LocalLauncher", f"{_SUBMITIT}SlurmLauncher"),
        }
    ),
    ("callbacks",): frozenset(
        {
            "hydra_plugins.kamerton._child.InProcess",
            "hydra.experimental.callbacks.LogJobReturnCallback",
            "hydra.experimental.callbacks.PickleJobInfoCallback",
        }
    ),
}
_HANDLERS = {
    *("logging.StreamHandler", "logging.FileHandler", "logging.NullHandler", "logging.handlers.RotatingFileHandler"),
    *("logging.Formatter", "colorlog.ColoredFormatter"),
}
_FOREIGN_HANDLERS = {name for name in _HANDLERS if "File" not in name}  # a file's handler could empty any file
_STREAMS = {"ext://sys.stdout", "ext://sys.stderr"}
_LOGGING = ("job_logging", "hydra_logging")
_NUMBERS = (  # of a launcher: how much of what; what else it has are commands, paths and lines of a script
    *("gpus", "n_jobs", "timeout_min", "cpus_per_task", "gpus_per_node", "gpus_per_task", "tasks_per_node", "nodes"),
    *("mem_gb", "array_parallelism", "max_num_timeout"),
)
_SEARCH = (
    *("n_trials", "timeout", "n_jobs", "max_failures", "seed", "heartbeat_interval", "grace_period"),
    *("study_name", "direction", "max_batch_size"),
)
# What a foreign file may set below `hydra`; a place stands for what is below it as well.
_HYDRA_KEYS: dict[Path, Allowed] = {
    ("mode",): _any,
    ("verbose",): _any,
    **{("sweeper", name): _any for name in (*_SEARCH, "params", "enqueue")},
    **{place: _any for place in _CLASSES if place != ("callbacks",)},
    **{("launcher", name): _is_size for name in _NUMBERS},
    **{
        (section, name): _any
        for section in _LOGGING
        for name in ("version", "disable_existing_loggers", "root", "loggers", "formatters", "handlers")
    },
}
_LOGGING_KEYS = {
    *("version", "level", "format", "datefmt", "style", "class", "stream", "formatter", "handlers"),
    *("disable_existing_loggers", "propagate", "root", "loggers", "formatters", "log_colors"),
}


@dataclass(frozen=True, slots=True)
class Judged:
    """What is judged: the composed `values` and Hydra's section, resolved as far as that can be; `named` are the values
    with `${oc.env:NAME}` for what the environment gave. `foreign` is what foreign files set, `typed` what the command
    line did, `choices` the groups of which it chose an option, `variables` what it names of the environment.
    """

    values: Mapping[str, Any]
    hydra: Mapping[str, Any]
    foreign: Sequence[Setting] = ()
    named: Mapping[str, Any] = field(default_factory=dict)
    typed: Collection[Path] = ()
    choices: Collection[str] = ()
    variables: Collection[str] = ()

    def is_typed(self, path: Path) -> bool:
        """Whether a value was typed, by itself or in a list or dictionary."""
        return any(path[: len(own)] == own for own in self.typed)

    def shown(self, path: Path) -> Any:
        """A value as it may be printed: what comes from the environment by its name."""
        return _at(self.named or self.values, path)


def check_trust(judged: Judged) -> list[Fault]:
    """Faults of what only the command line may decide."""
    faults = [
        *_typed_only(judged),
        *_loggers(judged),
        *_addresses(judged),
        *_environment(judged),
        *_hydra_classes(judged),
        *_logging(judged),
        *_hydra_settings(judged),
        *_unpickled(judged),
    ]
    refused = {fault.column.rpartition(".")[0] for fault in faults if fault.code == "config.target" and fault.column}
    files = {setting.key: setting.file for setting in judged.foreign}
    kept: dict[str | None, Fault] = {}
    for fault in faults:  # one for each key; of a node whose class is refused that alone
        inside = any((fault.column or "").startswith(f"{node}.") for node in refused)
        if fault.code == "config.target" or not inside:
            kept.setdefault(fault.column, replace(fault, file=fault.file or files.get(fault.column or "")))
    return list(kept.values())


def _fault(key: str, value: Any, reason: str, file: str | None = None) -> Fault:
    fix = f"remove it there; if you trust it, give {key}=… on the command line"
    return Fault("config.trust", f"{key} is {value!r}: a file may not set it, because {reason}", fix, file, column=key)


def _typed_only(judged: Judged) -> Iterator[Fault]:
    for key, (is_allowed, reason) in _TYPED_ONLY.items():
        path = tuple(key.split("."))
        value = _at(judged.values, path)
        if not (is_allowed(value) or judged.is_typed(path)):
            yield _fault(key, judged.shown(path), reason)


def _loggers(judged: Judged) -> Iterator[Fault]:
    for path, node in _nodes(judged.values):
        target = str(node["_target_"])
        if path[0] != "logger" and not target.startswith("pytorch_lightning.loggers"):
            continue
        typed_target = judged.is_typed((*path, "_target_"))
        if target not in _LOGGERS and not typed_target and not _is_unset(node["_target_"]):
            yield _fault(".".join((*path, "_target_")), target, "it may send what is logged to another place")
            continue
        for name, value in node.items():
            inner = (*path, str(name))
            if str(name) not in _LOGGER_KEYS and not all(judged.is_typed(leaf) for leaf, _ in leaves(value, inner)):
                reason = "it may say where what is logged is sent, or as whom"
                yield _fault(".".join(inner), judged.shown(inner), reason)
        mode = (*path, "mode")
        if target == _WANDB and node.get("mode") not in _OFFLINE and not (judged.is_typed(mode) or typed_target):
            yield _fault(".".join(mode), node.get("mode"), "it sends what is logged over the network")


def _is_unset(value: Any) -> bool:
    return value is None or value == "???"


def _addresses(judged: Judged) -> Iterator[Fault]:
    for group in _WITH_CLASSES:
        for path, value in leaves(judged.values.get(group), (group,)):
            is_note = path[0] == "logger" and path[-1] in ("notes", "tags")
            if isinstance(value, str) and "://" in value and not (is_note or judged.is_typed(path)):
                yield _fault(".".join(path), judged.shown(path), "files would be written to or read from there")


def _environment(judged: Judged) -> Iterator[Fault]:
    for path, value in leaves(judged.named):
        names = [name for name in _VARIABLE.findall(str(value)) if name not in judged.variables]
        sent = path[0] in _SENT or "://" in str(value)
        is_folder = path == ("model", "name") and os.path.isdir(str(_at(judged.values, path)))
        if names and sent and not is_folder:
            yield _fault(".".join(path), value, f"the environment variable {names[0]} would be sent elsewhere")


def _hydra_classes(judged: Judged) -> Iterator[Fault]:
    """Every class that Hydra's section names, whoever names it."""
    trusted = _at(judged.values, ("allow_targets",)) if judged.is_typed(("allow_targets",)) else None
    prefixes = [str(one) for one in trusted] if isinstance(trusted, list) else []
    for path, name in leaves(judged.hydra):
        if path[-1] != "_target_" or str(name) in _classes_at(path) or str(name).startswith(tuple(prefixes)):
            continue
        if _is_installed(path, str(name), judged):
            continue
        known = ", ".join(sorted(_classes_at(path))) or "another place: no class may stand here"
        fix = f"use {known}; or trust yours with allow_targets=[my_package.] on the command line"
        key = ".".join(("hydra", *path))
        yield Fault("config.target", f"{str(name)!r} may not be used as a target", fix, column=key)


def _classes_at(path: Path) -> frozenset[str]:
    return next((names for place, names in _CLASSES.items() if path[: len(place)] == place), frozenset())


def _is_installed(path: Path, name: str, judged: Judged) -> bool:
    """Whether an installed plugin named it for itself, by an option that was typed: hydra/launcher=ray."""
    chosen = len(path) == 2 and f"hydra/{path[0]}" in judged.choices and name.startswith("hydra_plugins.")
    return chosen and not any(setting.path == ("hydra", *path) for setting in judged.foreign)


def _logging(judged: Judged) -> Iterator[Fault]:
    """`logging.config` builds whatever `class` and `()` name, and imports whatever follows `ext://`."""
    for path, value in leaves({name: judged.hydra.get(name) for name in _LOGGING}):
        text = str(value)
        wrong_class = path[-1] in ("class", "()") and value not in _HANDLERS
        if wrong_class or (text.startswith("ext://") and value not in _STREAMS) or text.startswith("cfg://"):
            yield _no_handler(("hydra", *path), value)


def _no_handler(path: Path, value: Any, file: str | None = None) -> Fault:
    key, names = ".".join(path), ", ".join(sorted(_FOREIGN_HANDLERS))
    fix = f"use one of {names}, and ext://sys.stdout or ext://sys.stderr"
    return Fault("config.target", f"{key} is {value!r}, which may not be used", fix, file, column=key)


def _hydra_settings(judged: Judged) -> Iterator[Fault]:
    """Every value that foreign files set below `hydra`, as it is written there."""
    for setting in judged.foreign:
        path, value = setting.path[1:], setting.value
        if setting.path[0] != "hydra" or judged.is_typed(setting.path):
            continue
        if isinstance(value, str) and "${" in value:
            yield _fault(setting.key, value, "an interpolation may hide what it becomes", setting.file)
        elif path[:1] in [(name,) for name in _LOGGING] and path[-1] in ("class", "()"):
            if value not in _FOREIGN_HANDLERS:
                yield _no_handler(setting.path, value, setting.file)
        elif not _is_allowed(path, value):
            yield _fault(setting.key, value, _reason(path), setting.file)
        elif path[:2] == ("sweeper", "params") and (reason := _not_searched(path[2:], judged)):
            yield _fault(setting.key, value, reason, setting.file)


def _reason(path: Path) -> str:
    if path[:1] == ("job",):
        return "it changes the environment or the folder of what runs"
    return "it may say whose code runs, or which files are written"


def _is_allowed(path: Path, value: Any) -> bool:
    if path[:1] == ("callbacks",):
        return len(path) == 3 and path[-1] == "_target_"  # whose class is judged with all others
    if path[:1] in [(name,) for name in _LOGGING]:
        named = [part for part in path[1:] if not part.isdecimal()]
        if not named or not (named[-1] in _LOGGING_KEYS or "log_colors" in named):
            return False
    if {"_args_", "_convert_", "_partial_", "_recursive_"} & set(path):
        return False
    return any(path[: len(place)] == place and allows(value) for place, allows in _HYDRA_KEYS.items())


def _not_searched(path: Path, judged: Judged) -> str | None:
    """Why a foreign space may not search over a key. What its values become of other keys is judged when composed."""
    if str(_at(judged.hydra, ("sweeper", "_target_"))).endswith(".BasicSweeper"):
        return "without sweep=default nothing checks what it becomes"
    key = ".".join(path).lstrip("+~")
    return "each trial would type it" if key.startswith("hydra") or "@" in key else None


def _unpickled(judged: Judged) -> Iterator[Fault]:
    """CMA-ES keeps its state pickled in the study, which may lie in a folder of a stranger's."""
    name = _at(judged.hydra, ("sweeper", "sampler", "_target_"))
    path = ("hydra", "sweeper", "sampler", "_target_")
    typed = judged.is_typed(path) or "hydra/sweeper/sampler" in judged.choices
    storage = ("hydra", "sweeper", "storage")  # which is a fault of its own where a file names it
    stored = judged.is_typed(storage) or any(one.path == storage for one in judged.foreign)
    if str(name).endswith(".CmaEsSampler") and judged.foreign and not (typed or stored):
        message = "the sampler cmaes unpickles what the study holds, so a file may not choose it"
        fix = "type hydra/sweeper/sampler=cmaes, or use another sampler"
        yield Fault("config.trust", message, fix, column="hydra.sweeper.sampler")


def _at(values: Any, path: Path) -> Any:
    for part in path:
        if isinstance(values, list) and part.isdecimal():
            values = values[int(part)]
        else:
            values = values.get(part) if isinstance(values, Mapping) else None
    return values


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
