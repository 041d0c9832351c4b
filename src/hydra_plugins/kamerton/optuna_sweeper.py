"""`hydra/sweeper=optuna`: the plugin that Hydra finds, and the options that it offers.

Hydra imports this file in every application: Optuna is imported only when a sweep begins.
"""

from __future__ import annotations

from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from hydra_plugins.kamerton import _overrides as _overrides  # also for what is read before a sweep: choice(null,1)
from hydra_plugins.kamerton._options import PRUNERS, SAMPLERS, OptunaSweeperConf

_store = ConfigStore.instance()
_store.store(group="hydra/sweeper", name="optuna", node=OptunaSweeperConf, provider="kamerton")
for _name, _node in SAMPLERS.items():
    _extra = {} if _name == "grid" else {"seed": None}
    _store.store(group="hydra/sweeper/sampler", name=_name, node={**_node, **_extra}, provider="kamerton")
for _name, _node in PRUNERS.items():
    _store.store(group="hydra/sweeper/pruner", name=_name, node=dict(_node), provider="kamerton")


class OptunaSweeper(Sweeper):
    """Hydra's side of a sweep. Every value is read from the configuration when the sweep is set up."""

    def __init__(self, **_: Any) -> None:
        super().__init__()
        self._run: Any = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Read the space, settle the study's name and storage, and make the launcher."""
        from hydra_plugins.kamerton._sweep import Sweep

        self._run = Sweep(hydra_context, task_function, config)
        self.hydra_context, self.config, self.launcher = self._run.context, config, self._run.launcher

    def sweep(self, arguments: list[str]) -> Any:
        """Run until every trial that was asked for has run; what was found, a `_results.Finished`."""
        self.validate_batch_is_legal(self._run.probes())
        return self._run.run()
