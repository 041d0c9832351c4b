"""The keys of `hydra.sweeper`, with the samplers and pruners that can be chosen by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING


@dataclass
class OptunaSweeperConf:
    """The keys of `hydra.sweeper`; docs/how-to/sweeps_plugin.md says what each does."""

    defaults: list[Any] = field(default_factory=lambda: [{"sampler": "tpe"}, {"pruner": "median"}])
    _target_: str = "hydra_plugins.kamerton.optuna_sweeper.OptunaSweeper"
    _recursive_: bool = False
    study_name: str | None = None
    storage: str | None = None
    direction: Any = "minimize"
    n_trials: int | None = 20
    timeout: float | None = None
    n_jobs: int = 1
    max_failures: int | None = 10
    seed: int | None = 42
    sampler: Any = MISSING
    pruner: Any = MISSING
    params: dict[str, Any] = field(default_factory=dict)
    custom_search_space: str | None = None
    enqueue: list[Any] = field(default_factory=list)
    heartbeat_interval: int = 15
    grace_period: int = 60


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
