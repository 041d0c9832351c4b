"""The keys of `hydra.sweeper`, with the samplers and pruners that can be chosen by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING


@dataclass
class OptunaSweeperConf:
    """The keys of `hydra.sweeper`; docs/how-to/sweeps_plugin.md shows their use."""

    defaults: list[Any] = field(default_factory=lambda: [{"sampler": "tpe"}, {"pruner": "median"}])
    _target_: str = "hydra_plugins.kamerton.optuna_sweeper.OptunaSweeper"
    _recursive_: bool = False
    study_name: str | None = None  # null: from the space and the fixed values: the same command is the same study
    storage: str | None = None  # null: study.db in hydra.sweep.dir; or a URL
    direction: Any = "minimize"  # minimize, maximize, or a list for several objectives
    n_trials: int | None = 20  # total of the study, over all runs and workers; null: no limit
    timeout: float | None = None  # seconds after which this worker starts no further trial
    n_jobs: int = 1  # parallel trials of a worker; above 1 needs a launcher that starts processes
    max_failures: int | None = 10  # failed trials that end this worker; null: no limit
    seed: int | None = 42  # seed of the sampler; null: random
    sampler: Any = MISSING  # tpe, gp, cmaes, qmc, random, grid, nsga2, nsga3
    pruner: Any = MISSING  # median, percentile, hyperband, asha, patient, wilcoxon, none
    params: dict[str, Any] = field(default_factory=dict)  # the space, by key
    custom_search_space: str | None = None  # a function of the space, as package.function
    enqueue: list[Any] = field(default_factory=list)  # tried first: {key: value, …}, or directories of sweeps
    heartbeat_interval: int = 15  # seconds between heartbeats of a worker
    grace_period: int = 60  # seconds without a heartbeat until a trial counts as killed; the longer one


SAMPLERS: Mapping[str, Mapping[str, Any]] = {
    "tpe": {"_target_": "optuna.samplers.TPESampler", "n_startup_trials": 10, "n_ei_candidates": 24},
    "gp": {"_target_": "optuna.samplers.GPSampler", "n_startup_trials": 10, "deterministic_objective": False},
    "cmaes": {"_target_": "optuna.samplers.CmaEsSampler", "n_startup_trials": 1, "sigma0": None},
    "qmc": {"_target_": "optuna.samplers.QMCSampler", "qmc_type": "sobol", "scramble": True},
    "random": {"_target_": "optuna.samplers.RandomSampler"},
    "grid": {"_target_": "optuna.samplers.GridSampler"},
    "nsga2": {"_target_": "optuna.samplers.NSGAIISampler", "population_size": 50},
    "nsga3": {"_target_": "optuna.samplers.NSGAIIISampler", "population_size": 50},
}
_MEDIAN = {"_target_": "optuna.pruners.MedianPruner", "n_startup_trials": 5, "n_warmup_steps": 0, "interval_steps": 1}
PRUNERS: Mapping[str, Mapping[str, Any]] = {
    "median": _MEDIAN,
    "percentile": {**_MEDIAN, "_target_": "optuna.pruners.PercentilePruner", "percentile": 25.0},
    "hyperband": {
        "_target_": "optuna.pruners.HyperbandPruner",
        "min_resource": 1,
        "max_resource": "auto",
        "reduction_factor": 3,
    },
    "asha": {"_target_": "optuna.pruners.SuccessiveHalvingPruner", "min_resource": 1, "reduction_factor": 4},
    "patient": {"_target_": "optuna.pruners.PatientPruner", "wrapped_pruner": dict(_MEDIAN), "patience": 2},
    "wilcoxon": {"_target_": "optuna.pruners.WilcoxonPruner", "p_threshold": 0.1, "n_startup_steps": 2},
    "none": {"_target_": "optuna.pruners.NopPruner"},
}
