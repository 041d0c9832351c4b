"""For jobs of a sweep: `from hydra_plugins.kamerton.trial import current_trial`.

Hydra runs this file whenever it looks for plugins, also where it was imported before; so nothing is defined here: a job
that is pickled for another process would otherwise take the running trial with it.
"""

from __future__ import annotations

from hydra_plugins.kamerton._trial import current_trial, original_number

__all__ = ["current_trial", "original_number"]
