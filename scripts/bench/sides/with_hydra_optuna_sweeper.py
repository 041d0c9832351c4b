"""A sweep of hydra-optuna-sweeper over Kamerton's own training: the side of `sweep_peers.py` that does not prune.

    python with_hydra_optuna_sweeper.py -m hydra.sweeper.sampler.seed=0 +folder=FOLDER +typed=[model=tiny,…]

Its packages must come first on the path: it needs Optuna 2. A trial is trained by the function that trains Kamerton's
trials, in `FOLDER/trials/<number>`, with learning rate and batch size of its own.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf
from rich.console import Console

import hydra_plugins
from kamerton.config.check import to_config
from kamerton.pipeline.session import Invocation
from kamerton.pipeline.shared_cache import SharedCache
from kamerton.quiet import quiet_training
from kamerton.sweep.trial import train_trial_run
from kamerton.sweep.trial_runs import TrialRun

# Hydra looks for plugins here: Kamerton's own sweeper has the same name, and must not be found.
hydra_plugins.__path__ = [path for path in hydra_plugins.__path__ if (Path(path) / "hydra_optuna_sweeper").is_dir()]

WARM = SharedCache()
ConfigStore.instance().store(
    name="config",
    node={
        "defaults": [{"override hydra/sweeper": "optuna"}, "_self_"],
        "optimizer": {"lr": 1e-3},
        "batch": {"size": 16},
        "hydra": {
            "output_subdir": None,
            "run": {"dir": "."},
            "sweep": {"dir": "${folder}", "subdir": "."},
            "sweeper": {"n_jobs": 1, "direction": "minimize"},
        },
    },
)


@hydra.main(version_base="1.3", config_name="config")
def main(config: Any) -> float:
    quiet_training()
    values: dict[str, Any] = OmegaConf.to_container(OmegaConf.load(config.typed))  # type: ignore[assignment]
    run = to_config(values)
    run = dataclasses.replace(
        run,
        run_id=str(HydraConfig.get().job.num),
        optimizer={**run.optimizer, "lr": config.optimizer.lr},
        batch=dataclasses.replace(run.batch, size=config.batch.size),
    )
    trial, invocation = TrialRun(Path(config.folder) / "trials", run), Invocation((), Console(quiet=True), None, WARM)
    return float(train_trial_run(trial, invocation).metrics["best"]["loss"])


if __name__ == "__main__":
    main()
