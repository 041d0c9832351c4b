"""The trial of a job of a sweep: `current_trial().report(value, step)`, `.should_prune()`.

Imported in every application, so Optuna is imported only when a trial is opened.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

if TYPE_CHECKING:
    from optuna import Trial
    from optuna.trial import FrozenTrial

SWEEPER = "hydra_plugins.kamerton.optuna_sweeper.OptunaSweeper"
TRIAL_VARIABLE = "KAMERTON_TRIAL"
"""Set for a job that runs in its own process: JSON with `study_name`, `storage` (a URL) and `number`."""
STORAGE_VARIABLE = "KAMERTON_SWEEP_STORAGE"
"""Holds the storage's URL if it has a password, which no command line or file may show."""

_running: dict[tuple[str, int], Trial] = {}


def current_trial() -> Trial | None:
    """Return the trial of this job, or None outside a sweep.

    In the process of the sweep it is the object that Optuna made. In any other process it is opened from the storage;
    if a job has several ranks, only the first should call this.
    """
    address = _from_hydra()
    if address and (address[0], address[2]) in _running:
        return _running[address[0], address[2]]
    if text := os.environ.get(TRIAL_VARIABLE):
        trial = json.loads(text)
        return _opened(trial["study_name"], trial["storage"], trial["number"])
    return _opened(*address) if address else None


def original_number(trial: Trial | FrozenTrial) -> int:
    """Return the number under which the trial first ran: a trial that was killed or interrupted is retried with another
    number, in the run directory of the first.
    """
    storage = getattr(trial, "storage", None)
    attributes = storage.get_trial_system_attrs(trial._trial_id) if storage else trial.system_attrs  # type: ignore[union-attr]
    return int(attributes.get("failed_trial", trial.number))


@contextmanager
def running(trial: Trial) -> Iterator[None]:
    """Inside, `current_trial()` returns `trial` in this process."""
    key = (trial.study.study_name, trial.number)
    _running[key] = trial
    try:
        yield
    finally:
        _running.pop(key, None)


def _from_hydra() -> tuple[str, str, int] | None:
    """Return study, storage and number from the job's Hydra configuration."""
    if not HydraConfig.initialized():
        return None
    hydra: Any = HydraConfig.get()
    if hydra.sweeper.get("_target_") != SWEEPER or OmegaConf.is_missing(hydra.job, "num"):
        return None
    if hydra.sweeper.study_name is None or hydra.sweeper.storage is None:
        return None
    return str(hydra.sweeper.study_name), str(hydra.sweeper.storage), int(hydra.job.num)


@lru_cache(maxsize=1)
def _opened(study_name: str, storage: str, number: int) -> Trial:
    from hydra_plugins.kamerton._study import open_trial

    return open_trial(study_name, storage, number)
