"""What a trial of a sweep costs beyond its training: in one warm process, and in processes of their own.

    python scripts/bench/sweeps.py [--trials 6] [--starts 4] [--folder DIR]

SmolLM2-135M with LoRA on TREC, each trial two steps and a short validation. Everything between the end of one trial's
training and the beginning of the next one's counts: what Optuna and Hydra do, the study's database, the terminal, the
run directory, reports. A bare `kamerton train` with the same options is what the start of a process is held to: from
the command to the beginning of its training. The first trial of a sweep is not counted where a trial is warm from the
one before.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna

SIDES = Path(__file__).parent / "sides"
SHORT = ["trainer.max_steps=2", "eval.strategy=steps", "eval.every=2", "trainer.limit_val_batches=1", "logger=csv"]
SHORT += ["base=false", "baselines=false", "model.export=null", "callbacks.progress_bar=null"]
CLOCK = ["allow_targets=[clocked.]", "+callbacks.clock={_target_: clocked.Clock}"]
SWEEP = [
    "sweep=default",
    "optimizer.lr=tag(log,interval(1e-4,1e-3))",
    "hydra/sweeper/sampler=random",
    "sweep.final=null",
]


def command(folder: Path, *options: str) -> subprocess.Popen[str]:
    """`kamerton train` with the clock, in `folder`."""
    path = os.pathsep.join([str(SIDES), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [sys.executable, "-m", "kamerton", "train", *options, *SHORT, *CLOCK, f"paths.outputs={folder}/outputs"],
        env={**os.environ, "PYTHONPATH": path, "CLOCK": str(folder / "clock.jsonl")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def noted(folder: Path, what: str) -> list[float]:
    """When each training began, or ended."""
    path = folder / "clock.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [line["time"] for line in lines if line["what"] == what]


def bare(folder: Path) -> float:
    """Seconds from the command to the beginning of its training; it is ended there."""
    start = time.time()
    process = command(folder)
    while not (begins := noted(folder, "begin")):
        if process.poll() is not None:
            raise RuntimeError(process.communicate()[0])
        time.sleep(0.005)
    process.kill()
    process.communicate()
    return begins[0] - start


def sweep(folder: Path, launcher: str, trials: int) -> dict[str, list[float]]:
    """By trial: seconds from its beginning in the study to that of its training, and between two trainings."""
    study = ["hydra.sweeper.study_name=bench", f"hydra.sweeper.n_trials={trials}", f"launcher={launcher}"]
    process = command(folder, *SWEEP, *study)
    output, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(output)
    begins, ends = noted(folder, "begin"), noted(folder, "end")
    (database,) = folder.glob("outputs/*/bench/study.db")
    study_trials = optuna.load_study(study_name="bench", storage=f"sqlite:///{database}").trials
    starts = [_seconds(trial.datetime_start) for trial in study_trials]
    return {
        "start": [begin - start for begin, start in zip(begins, starts, strict=True)],
        "beyond": [begin - end for begin, end in zip(begins[1:], ends, strict=False)],
    }


def _seconds(moment: datetime | None) -> float:
    assert moment is not None
    return moment.timestamp()


def row(name: str, seconds: Sequence[float]) -> str:
    """A line of the table: median, least and most."""
    middle, low, high = statistics.median(seconds), min(seconds), max(seconds)
    return f"| {name} | {middle:.2f} | {low:.2f} to {high:.2f} | {len(seconds)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=6)
    parser.add_argument("--starts", type=int, default=4)
    parser.add_argument("--folder", type=Path, default=None, help="where runs are kept; a temporary folder without it")
    options: Any = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        home = options.folder or Path(temporary)
        folders = {name: home / name for name in ("warm", "process", *(f"bare{i}" for i in range(options.starts)))}
        for folder in folders.values():
            folder.mkdir(parents=True)
        bare(folders["bare0"])  # fills the caches
        warm = sweep(folders["warm"], "warm", options.trials)
        starts = [bare(folders[f"bare{i}"]) for i in range(1, options.starts)]
        process = sweep(folders["process"], "process", options.trials)
    print("| seconds | median | range | of |\n| --- | --- | --- | --- |")
    print(row("warm: beyond training, a trial", warm["beyond"]))
    print(row("process: beyond training, a trial", process["beyond"]))
    print(row("process: from the study's trial to its training", process["start"]))
    print(row("bare `kamerton train`: from the command to its training", starts))
    print(f"\nprocess / bare: {statistics.median(process['start']) / statistics.median(starts):.2f}")


if __name__ == "__main__":
    main()
