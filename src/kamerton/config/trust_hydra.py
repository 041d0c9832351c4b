"""Refuse untrusted settings below `hydra`: classes, and keys that a foreign file may not set (see `trust.py`).

Before any job starts, Hydra builds the classes and logging handlers that its section names. The section also sets the
job's environment variables and the folders that Hydra writes to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from kamerton.config.foreign import Path, leaves
from kamerton.config.judged import Judged, refused, value_at
from kamerton.config.targets import trusting
from kamerton.errors import Fault

Allowed = Callable[[Any], bool]


def _any(value: Any) -> bool:
    return True


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
# Allowed classes by path below `hydra`, including everything below the path.
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
_FOREIGN_HANDLERS = {name for name in _HANDLERS if "File" not in name}  # a file handler could truncate any file
_STREAMS = {"ext://sys.stdout", "ext://sys.stderr"}
_LOGGING = ("job_logging", "hydra_logging")
_NUMBERS = (  # amounts; other options of a launcher are commands, paths and lines of a script
    *("gpus", "n_jobs", "timeout_min", "cpus_per_task", "gpus_per_node", "gpus_per_task", "tasks_per_node", "nodes"),
    *("mem_gb", "array_parallelism", "max_num_timeout"),
)
_SEARCH = (
    *("n_trials", "timeout", "n_jobs", "max_failures", "seed", "heartbeat_interval", "grace_period"),
    *("study_name", "direction", "max_batch_size"),
)
# Keys that a foreign file may set below `hydra`, including everything below them.
_KEYS: dict[Path, Allowed] = {
    ("mode",): _any,
    ("verbose",): _any,
    **{("sweeper", name): _any for name in (*_SEARCH, "params", "enqueue")},
    **{path: _any for path in _CLASSES if path != ("callbacks",)},
    **{("launcher", name): lambda value: value is None or isinstance(value, int | float) for name in _NUMBERS},
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


def hydra_faults(judged: Judged) -> Iterator[Fault]:
    """Yield the faults of Hydra's section."""
    yield from _class_faults(judged)
    # `logging.config` builds the object that `class` and `()` name, and imports what follows `ext://`.
    for path, value in leaves({name: judged.hydra.get(name) for name in _LOGGING}):
        text = str(value)
        is_unknown_class = path[-1] in ("class", "()") and value not in _HANDLERS
        if is_unknown_class or (text.startswith("ext://") and value not in _STREAMS) or text.startswith("cfg://"):
            yield _handler_fault(("hydra", *path), value)
    yield from _setting_faults(judged)
    yield from _unpickling_faults(judged)


def _class_faults(judged: Judged) -> Iterator[Fault]:
    """Yield the faults of every class in Hydra's section, wherever it was set."""
    trusted = value_at(judged.values, ("allow_targets",)) if judged.is_typed(("allow_targets",)) else None
    prefixes = [str(prefix) for prefix in trusted] if isinstance(trusted, list) else []
    for path, name in leaves(judged.hydra):
        if path[-1] != "_target_" or str(name) in _classes_at(path) or str(name).startswith(tuple(prefixes)):
            continue
        is_plugin = len(path) == 2 and f"hydra/{path[0]}" in judged.choices and str(name).startswith("hydra_plugins.")
        if is_plugin and not any(setting.path == ("hydra", *path) for setting in judged.foreign):
            continue  # an installed plugin's option that was typed, such as hydra/launcher=ray
        usable = ", ".join(sorted(_classes_at(path))) or "another key: no class is allowed here"
        fix = f"use {usable}; or {trusting(name)} on the command line"
        key = ".".join(("hydra", *path))
        yield Fault("config.target", f"{str(name)!r} may not be used as a target", fix, column=key)


def _classes_at(path: Path) -> frozenset[str]:
    return next((names for parent, names in _CLASSES.items() if path[: len(parent)] == parent), frozenset())


def _handler_fault(path: Path, value: Any, file: str | None = None) -> Fault:
    key, names = ".".join(path), ", ".join(sorted(_FOREIGN_HANDLERS))
    fix = f"use one of {names}, and ext://sys.stdout or ext://sys.stderr"
    return Fault("config.target", f"{key} is {value!r}, which may not be used", fix, file, column=key)


def _setting_faults(judged: Judged) -> Iterator[Fault]:
    """Yield the faults of the values that foreign files set below `hydra`."""
    for setting in judged.foreign:
        path, value = setting.path[1:], setting.value
        if setting.path[0] != "hydra" or judged.is_typed(setting.path):
            continue
        if isinstance(value, str) and "${" in value:
            yield refused(setting.key, value, "an interpolation may hide its value", setting.file)
        elif path[:1] in [(name,) for name in _LOGGING] and path[-1] in ("class", "()"):
            if value not in _FOREIGN_HANDLERS:
                yield _handler_fault(setting.path, value, setting.file)
        elif not _is_allowed(path, value):
            job_reason = "it changes the environment or the folder of the job"
            reason = job_reason if path[:1] == ("job",) else "it may change whose code runs, or which files are written"
            yield refused(setting.key, value, reason, setting.file)
        elif path[:2] == ("sweeper", "params") and (not_searched := _not_searched(path[2:], judged)):
            yield refused(setting.key, value, not_searched, setting.file)


def _is_allowed(path: Path, value: Any) -> bool:
    """Return whether a foreign file may set the path to the value."""
    if path[:1] == ("callbacks",):
        return len(path) == 3 and path[-1] == "_target_"  # its class is checked with all others
    if path[:1] in [(name,) for name in _LOGGING]:
        names = [part for part in path[1:] if not part.isdecimal()]
        if not names or not (names[-1] in _LOGGING_KEYS or "log_colors" in names):
            return False
    if {"_args_", "_convert_", "_partial_", "_recursive_"} & set(path):
        return False
    return any(path[: len(parent)] == parent and allows(value) for parent, allows in _KEYS.items())


def _not_searched(path: Path, judged: Judged) -> str | None:
    """Return why a foreign sweep may not search over a key, or None.

    Values of other keys are checked when a trial is composed.
    """
    if str(value_at(judged.hydra, ("sweeper", "_target_"))).endswith(".BasicSweeper"):
        return "without sweep=default its values are not checked"
    key = ".".join(path).lstrip("+~")
    return "each trial would set it on the command line" if key.startswith("hydra") or "@" in key else None


def _unpickling_faults(judged: Judged) -> Iterator[Fault]:
    """Yield a fault for CMA-ES, which keeps its state pickled in the study, if the study may be untrusted."""
    name = value_at(judged.hydra, ("sweeper", "sampler", "_target_"))
    path = ("hydra", "sweeper", "sampler", "_target_")
    is_typed = judged.is_typed(path) or "hydra/sweeper/sampler" in judged.choices
    storage = ("hydra", "sweeper", "storage")  # a separate fault if a file sets it
    has_storage = judged.is_typed(storage) or any(setting.path == storage for setting in judged.foreign)
    if str(name).endswith(".CmaEsSampler") and judged.foreign and not (is_typed or has_storage):
        message = "the sampler cmaes unpickles data from the study, so a file may not choose it"
        fix = "type hydra/sweeper/sampler=cmaes, or use another sampler"
        yield Fault("config.trust", message, fix, column="hydra.sweeper.sampler")
