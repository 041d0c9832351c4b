"""Below `hydra`: which classes may stand there, and which keys a foreign file may set (the rule: `trust.py`).

Hydra builds the classes and logging handlers that its own section names before any job begins, hands environment
variables to it, and writes to the folders that its section names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from kamerton.config.foreign import Path, leaves
from kamerton.config.judged import Judged, refused, value_at
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
_KEYS: dict[Path, Allowed] = {
    ("mode",): _any,
    ("verbose",): _any,
    **{("sweeper", name): _any for name in (*_SEARCH, "params", "enqueue")},
    **{place: _any for place in _CLASSES if place != ("callbacks",)},
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


def check_hydra(judged: Judged) -> Iterator[Fault]:
    """Faults of Hydra's section."""
    yield from _classes(judged)
    # `logging.config` builds whatever `class` and `()` name, and imports whatever follows `ext://`.
    for path, value in leaves({name: judged.hydra.get(name) for name in _LOGGING}):
        text = str(value)
        wrong_class = path[-1] in ("class", "()") and value not in _HANDLERS
        if wrong_class or (text.startswith("ext://") and value not in _STREAMS) or text.startswith("cfg://"):
            yield _no_handler(("hydra", *path), value)
    yield from _settings(judged)
    yield from _unpickled(judged)


def _classes(judged: Judged) -> Iterator[Fault]:
    """Every class that Hydra's section names, whoever names it."""
    trusted = value_at(judged.values, ("allow_targets",)) if judged.is_typed(("allow_targets",)) else None
    prefixes = [str(prefix) for prefix in trusted] if isinstance(trusted, list) else []
    for path, name in leaves(judged.hydra):
        if path[-1] != "_target_" or str(name) in _classes_at(path) or str(name).startswith(tuple(prefixes)):
            continue
        if _is_installed(path, str(name), judged):
            continue
        usable = ", ".join(sorted(_classes_at(path))) or "another place: no class may stand here"
        fix = f"use {usable}; or trust yours with allow_targets=[my_package.] on the command line"
        key = ".".join(("hydra", *path))
        yield Fault("config.target", f"{str(name)!r} may not be used as a target", fix, column=key)


def _classes_at(path: Path) -> frozenset[str]:
    return next((names for place, names in _CLASSES.items() if path[: len(place)] == place), frozenset())


def _is_installed(path: Path, name: str, judged: Judged) -> bool:
    """Whether an installed plugin named it for itself, by an option that was typed: hydra/launcher=ray."""
    chosen = len(path) == 2 and f"hydra/{path[0]}" in judged.choices and name.startswith("hydra_plugins.")
    return chosen and not any(setting.path == ("hydra", *path) for setting in judged.foreign)


def _no_handler(path: Path, value: Any, file: str | None = None) -> Fault:
    key, names = ".".join(path), ", ".join(sorted(_FOREIGN_HANDLERS))
    fix = f"use one of {names}, and ext://sys.stdout or ext://sys.stderr"
    return Fault("config.target", f"{key} is {value!r}, which may not be used", fix, file, column=key)


def _settings(judged: Judged) -> Iterator[Fault]:
    """Every value that foreign files set below `hydra`, as it is written there."""
    for setting in judged.foreign:
        path, value = setting.path[1:], setting.value
        if setting.path[0] != "hydra" or judged.is_typed(setting.path):
            continue
        if isinstance(value, str) and "${" in value:
            yield refused(setting.key, value, "an interpolation may hide what it becomes", setting.file)
        elif path[:1] in [(name,) for name in _LOGGING] and path[-1] in ("class", "()"):
            if value not in _FOREIGN_HANDLERS:
                yield _no_handler(setting.path, value, setting.file)
        elif not _is_allowed(path, value):
            runs = path[:1] == ("job",)
            changes = "the environment or the folder of what runs"
            reason = f"it changes {changes}" if runs else "it may say whose code runs, or which files are written"
            yield refused(setting.key, value, reason, setting.file)
        elif path[:2] == ("sweeper", "params") and (not_searched := _not_searched(path[2:], judged)):
            yield refused(setting.key, value, not_searched, setting.file)


def _is_allowed(path: Path, value: Any) -> bool:
    if path[:1] == ("callbacks",):
        return len(path) == 3 and path[-1] == "_target_"  # whose class is judged with all others
    if path[:1] in [(name,) for name in _LOGGING]:
        named = [part for part in path[1:] if not part.isdecimal()]
        if not named or not (named[-1] in _LOGGING_KEYS or "log_colors" in named):
            return False
    if {"_args_", "_convert_", "_partial_", "_recursive_"} & set(path):
        return False
    return any(path[: len(place)] == place and allows(value) for place, allows in _KEYS.items())


def _not_searched(path: Path, judged: Judged) -> str | None:
    """Why a foreign space may not search over a key. What its values become of other keys is judged when composed."""
    if str(value_at(judged.hydra, ("sweeper", "_target_"))).endswith(".BasicSweeper"):
        return "without sweep=default nothing checks what it becomes"
    key = ".".join(path).lstrip("+~")
    return "each trial would type it" if key.startswith("hydra") or "@" in key else None


def _unpickled(judged: Judged) -> Iterator[Fault]:
    """CMA-ES keeps its state pickled in the study, which may lie in a folder of a stranger's."""
    name = value_at(judged.hydra, ("sweeper", "sampler", "_target_"))
    path = ("hydra", "sweeper", "sampler", "_target_")
    typed = judged.is_typed(path) or "hydra/sweeper/sampler" in judged.choices
    storage = ("hydra", "sweeper", "storage")  # which is a fault of its own where a file names it
    stored = judged.is_typed(storage) or any(setting.path == storage for setting in judged.foreign)
    if str(name).endswith(".CmaEsSampler") and judged.foreign and not (typed or stored):
        message = "the sampler cmaes unpickles what the study holds, so a file may not choose it"
        fix = "type hydra/sweeper/sampler=cmaes, or use another sampler"
        yield Fault("config.trust", message, fix, column="hydra.sweeper.sampler")
