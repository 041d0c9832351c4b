"""What a trial costs beyond its job as their number grows: a sweep of a trivial objective, time and memory by hundreds.

    python scripts/bench/sweep_trials.py --folder /tmp/sweep --sampler tpe --trials 2000
    python scripts/bench/sweep_trials.py --folder /tmp/sweep --sampler random --trials 2000 --storage postgresql://…

The whole path is measured: Hydra composes each job's configuration, the job runs in the sweep's process, Optuna
suggests, stores and is told. Killed, or ended by --seconds, it goes on when it is started again with the same folder;
times between two runs are not counted.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import time
from itertools import pairwise
from pathlib import Path
from statistics import mean
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig

CONFIG = {
    "defaults": [
        *("_self_", {"override hydra/job_logging": "none"}, {"override hydra/hydra_logging": "none"}),
        {"override hydra/sweeper": "optuna"},
    ],
    "x": 0.0,
    "y": 0.0,
    "z": 0,
    "hydra": {"mode": "MULTIRUN", "output_subdir": None, "sweep": {"dir": "???", "subdir": "."}},
}
SPACE = ("x=interval(-5,5)", "y=tag(log, interval(1e-5,1e-1))", "z=range(0,8)")


def main() -> None:
    """Run or go on with the sweep, then print the curve."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--sampler", default="tpe")
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--seconds", type=float, help="stop after so many seconds; start again to go on")
    parser.add_argument("--storage", help="default: SQLite in the folder")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    log = options.folder / "trials.log"
    sweep(options, log)
    show(log)


def sweep(options: argparse.Namespace, log: Path) -> None:
    """Run as if the overrides had been typed; the job writes when it ran and how large the process is."""
    ConfigStore.instance().store(name="bench", node=CONFIG)
    storage = [f"hydra.sweeper.storage='{options.storage}'"] if options.storage else []
    timeout = [f"hydra.sweeper.timeout={options.seconds}"] if options.seconds else []
    sys.argv[1:] = [
        *SPACE,
        f"hydra.sweep.dir={options.folder}",
        f"hydra.sweeper.study_name={options.folder.name}",
        f"hydra.sweeper.n_trials={options.trials}",
        f"hydra/sweeper/sampler={options.sampler}",
        *storage,
        *timeout,
    ]

    def job(cfg: Any) -> float:
        megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        with log.open("a") as file:
            file.write(f"{HydraConfig.get().job.num} {os.getpid()} {time.monotonic()} {megabytes:.1f}\n")
        return float(cfg.x**2 + cfg.y + cfg.z)

    hydra.main(version_base="1.3", config_path=str(Path(__file__).resolve().parent), config_name="bench")(job)()


def show(log: Path) -> None:
    """Milliseconds a trial and the process's largest size, by hundreds of trials."""
    lines = [line.split() for line in log.read_text().splitlines()]
    rows = [(int(number), pid, float(at), float(size)) for number, pid, at, size in lines]
    print(f"{'trials':>12} {'ms each':>8} {'peak MB':>8}")
    for first in range(0, len(rows), 100):
        part = rows[first : first + 101]
        gaps = [after[2] - before[2] for before, after in pairwise(part) if before[1] == after[1]]
        if gaps:
            span = f"{first}-{first + len(part) - 1}"
            print(f"{span:>12} {1000 * mean(gaps):>8.1f} {max(row[3] for row in part):>8.1f}")


if __name__ == "__main__":
    main()
