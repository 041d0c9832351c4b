"""For jobs of a sweep: `from hydra_plugins.kamerton.trial import current_trial`.

Hydra executes this file whenever it scans for plugins, even if it was imported before; so nothing is defined here: a
job that is pickled for another process would otherwise include the running trial.
"""

from __future__ import annotations

from hydra_plugins.kamerton._trial import current_trial, original_number

__all__ = ["current_trial", "original_number"]
