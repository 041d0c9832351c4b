"""Faults of a sweep: its space, its objective, and options that would make its trials incomparable."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override

from kamerton.config.hosted import sweep_fault
from kamerton.config.hydra_internals import ConfigLoaderImpl
from kamerton.config.objective_options import GENERATING
from kamerton.config.places import NAME, NAME_RULE, name_fix
from kamerton.config.schema import SweepOptions, mapping_at
from kamerton.config.targets import metric_function
from kamerton.config.validation import objectives
from kamerton.direction import higher_is_better
from kamerton.errors import Fault
from kamerton.words import did_you_mean

Values = Mapping[str, Any]

_SWEEPER = "hydra_plugins.kamerton.optuna_sweeper."
# What all trials share, with the reason: a best value over any of these would be luck, or no value of a run at all.
_SHARED = {
    "seed": "the best seed is luck; sweep.seeds=[1,2,3] trains every trial with each",
    "split": "trials on other examples cannot be compared",
    "cv": "trials on other examples cannot be compared; cv.folds=3 trains every trial on each fold",
    "data.path": "trials on other examples cannot be compared",
    "data.train": "trials on other examples cannot be compared",
    "data.validation": "trials on other examples cannot be compared",
    "data.test": "trials on other examples cannot be compared",
    "name": "it names the folder of the whole sweep",
    "paths": "it names the folder of the whole sweep",
    "run_id": "a trial's run is named by its number",
    "resume": "an interrupted trial is resumed automatically",
    "sweep": "it determines how trials are compared",
    "allow_targets": "it determines whose code may run",
}


def is_study(hydra: Any) -> bool:
    """Whether Hydra's section belongs to a study or one of its trials, not to a plain `-m` over all combinations."""
    return str(hydra["sweeper"]["_target_"]).startswith(_SWEEPER) if hydra else False


def begins_sweep(hydra: Any) -> bool:
    """Whether Hydra's section starts the sweep of a study; a trial in its own process is a single run."""
    return is_study(hydra) and getattr(hydra["mode"], "name", None) == "MULTIRUN"


def check_sweep(values: Values, hydra: Values, searched: Sequence[str] | None) -> list[Fault]:
    """Faults of a command's sweep; without a sweep, of options that would do nothing.

    `searched` are the keys of its space, None if that cannot be read.
    """
    options = mapping_at(values, "sweep")
    if not is_study(hydra):
        default = {"objective": "loss", "constraints": {}, "seeds": [], "final": "score"}
        unused = [key for key, value in options.items() if key in default and value != default[key]]
        fix = "add sweep=lr_batch or another sweep, or leave it out"
        return [_fault(f"sweep.{key} is set, but there is no sweep", fix, f"sweep.{key}") for key in unused]
    if not begins_sweep(hydra):
        return []
    faults = [
        *sweep_fault(values),
        *_space(hydra, searched),
        *_study(mapping_at(hydra, "sweeper")),
        *_objective(values, mapping_at(hydra, "sweeper")),
    ]
    seeds, folds = options.get("seeds") or [], mapping_at(values, "cv").get("folds")
    if isinstance(seeds, list) and len({str(seed) for seed in seeds}) < len(seeds):
        faults.append(_fault(f"sweep.seeds is {seeds}", "give each seed once", "sweep.seeds"))
    if seeds and folds is not None:
        message = "sweep.seeds and cv.folds are both given"
        faults.append(_fault(message, "repeat trials over seeds or over folds", "sweep.seeds"))
    if mapping_at(values, "objective").get("name") in GENERATING and options.get("objective") == "loss":
        message = "sweep.objective is the loss of the completions in the data, and the trials learn from rewards"
        fix = "add sweep.objective=reward hydra.sweeper.direction=maximize"
        faults.append(_fault(message, fix, "sweep.objective"))
    if values.get("run_id") is not None:
        fix = "leave it out; hydra.sweeper.study_name names the sweep"
        faults.append(_fault("run_id is set, but the runs of a sweep are named by their trials", fix, "run_id"))
    if values.get("resume") == "force":
        fix = "give the new sweep another hydra.sweeper.study_name"
        faults.append(_fault("resume=force would compare trials of different configurations", fix, "resume"))
    return faults


def _space(hydra: Values, searched: Sequence[str] | None) -> Iterator[Fault]:
    sweeper = mapping_at(hydra, "sweeper")
    if str(mapping_at(hydra, "sweep").get("dir")).endswith("/.multirun"):
        fix = "choose sweep=default instead: it chooses the sweeper as well"
        yield _fault("hydra/sweeper=optuna alone has no folder for its trials", fix, "sweep")
    if searched == [] and not sweeper.get("custom_search_space"):
        fix = "add hydra.sweeper.params, or type it: 'optimizer.lr=tag(log, interval(1e-5, 1e-2))'"
        yield _fault("the sweep has nothing to search over", fix, "hydra.sweeper.params")
    for key in searched or ():
        for shared, reason in _SHARED.items():
            if key == shared or key.startswith(f"{shared}."):
                yield _fault(f"a sweep cannot search over {key}: {reason}", f"take {key} out of the space", key)


def _study(sweeper: Values) -> Iterator[Fault]:
    name, count = sweeper.get("study_name"), sweeper.get("n_trials")
    if name is not None and not re.fullmatch(NAME, str(name)):
        key = "hydra.sweeper.study_name"
        yield _fault(f"{key} is {name!r}: {NAME_RULE}", name_fix(key, str(name)), key)
    if count is not None and (not isinstance(count, int) or isinstance(count, bool) or count < 1):
        key = "hydra.sweeper.n_trials"
        yield _fault(f"{key} is {count!r}: must be a whole number above 0", f"correct the value of {key}", key)
    seconds, key = sweeper.get("timeout"), "hydra.sweeper.timeout"
    if seconds is not None and (not isinstance(seconds, int | float) or isinstance(seconds, bool) or seconds <= 0):
        yield _fault(f"{key} is {seconds!r}: must be seconds above 0", f"correct the value of {key}", key)


def direction(objective: str, metrics: Values, allowed: Sequence[str]) -> str:
    """Return the direction of an objective: minimize or maximize.

    `metrics` are custom ones, whose code is loaded if `allowed` names it: only call it for a trusted configuration.
    More of such a metric is better unless its attribute `higher_is_better` is False.
    """
    higher = higher_is_better(objective)
    if metrics.get(objective) is not None:
        higher = getattr(metric_function(metrics[objective], allowed), "higher_is_better", None) is not False
    return "maximize" if higher else "minimize"


def _objective(values: Values, sweeper: Values) -> Iterator[Fault]:
    options, valid = mapping_at(values, "sweep"), objectives(values)
    objective = options.get("objective", SweepOptions.objective)
    names = objective if isinstance(objective, list) else [objective]
    unknown = [("sweep.objective", name) for name in names if name not in valid]
    unknown += [(f"sweep.constraints.{name}", name) for name in mapping_at(options, "constraints") if name not in valid]
    for key, name in unknown:
        yield _fault(f"{key.removesuffix(f'.{name}')} names {name!r}", did_you_mean(str(name), valid), key)
    if unknown:
        return
    if not names or len(set(names)) < len(names):
        yield _fault(f"sweep.objective is {objective}", "name one value, or several different ones", "sweep.objective")
        return
    configured, key = sweeper.get("direction", "minimize"), "hydra.sweeper.direction"
    directions = [str(each) for each in configured] if isinstance(configured, list) else [str(configured)]
    either = dict(zip(names, directions, strict=False))  # of a custom metric, whose code is not loaded yet
    right = [
        either.get(name, "maximize") if higher_is_better(name) is None else direction(name, {}, ()) for name in names
    ]
    if directions != right:
        written = right[0] if len(right) == 1 else f"[{','.join(right)}]"
        message = f"{key} is {configured}, but sweep.objective is {objective}"
        yield _fault(message, f"set '{key}={written}'", key)


def search_space(
    hydra: Mapping[str, Any], typed: Sequence[str], loader: ConfigLoaderImpl
) -> tuple[list[list[Override]], list[Fault]]:
    """Return the overrides to check for each searched key, and the faults of how the space is written.

    The space is `hydra.sweeper.params`, overridden by what was `typed`.
    """
    from hydra_plugins.kamerton._space import SweepError, parse_space

    params = mapping_at(mapping_at(hydra, "sweeper"), "params")
    try:
        space = parse_space(params, typed, loader)
    except SweepError as error:
        fix = "write choice(…), range(…), interval(…) or tag(log, interval(…)) (docs/how-to/sweeps.md)"
        lines = [line.strip() for line in str(error).splitlines()[1:]] or [str(error)]
        return [], [Fault("config.sweep", line, fix, column="hydra.sweeper.params") for line in lines]
    parser = OverridesParser.create()
    return [
        parser.parse_overrides([dimension.override(value) for value in dimension.samples()])
        for dimension in space.dimensions.values()
    ], []


def _fault(message: str, fix: str, key: str) -> Fault:
    return Fault("config.sweep", message, fix, column=key)
