"""A sweep next to hydra-optuna-sweeper's: best value and optimizer steps, same training, space, trials and seeds.

    python scripts/bench/sweep_peers.py --peer FOLDER [--seeds 5] [--trials 24] [--pruners asha,median] [--work FOLDER]

`--peer` holds hydra-optuna-sweeper 1.3.0 and the Optuna 2 that it needs, for no environment can have both:

    pip install --no-deps --target FOLDER hydra-optuna-sweeper==1.3.0 'optuna<3' cliff cmaes==0.9.1 colorlog

Each sweep is a process of its own with one thread: the tiny model on the embedded TREC questions, 40 % of an epoch,
eight validations. Both sides sample with TPE from the same seed and train with the same function; what Kamerton leaves
out, it leaves out by pruning. A step is counted when it was done. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import yaml

from kamerton.config.compose import compose_values

HERE = Path(__file__).parent
SPACE = ("optimizer.lr=tag(log, interval(1e-4, 3e-2))", "batch.size=choice(8, 16, 32, 64)")
TYPED = ("model=tiny", "adapter=full", "trainer.max_steps=-1", "trainer.limit_train_batches=0.4", "eval.every=0.05")
TYPED += ("callbacks.early_stopping=null", "callbacks.progress_bar=null", "callbacks.model_summary=null", "logger=csv")
TYPED += ("base=false", "baselines=false", "model.export=null", "threads=1")


@dataclasses.dataclass(frozen=True)
class Sweep:
    """How one sweep ended: its best value, the steps of all trials, and seconds."""

    best: float
    steps: int
    seconds: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--pruners", type=lambda text: text.split(","), default=["asha", "median"])
    parser.add_argument("--work", type=Path)
    options = parser.parse_args()
    rows: dict[str, list[tuple[Sweep, Sweep]]] = {pruner: [] for pruner in options.pruners}
    print("| pruner | seed | best, Kamerton | best, peer | steps, Kamerton | steps, peer | share of the steps |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as name:
        work = options.work or Path(name)
        for seed in range(options.seeds):
            theirs = peer(work / f"peer{seed}", seed, options)
            for pruner in options.pruners:
                ours = kamerton(work / f"{pruner}{seed}", seed, pruner, options)
                rows[pruner].append((ours, theirs))
                share = f"{ours.steps / theirs.steps:.2f}"
                values = (f"{ours.best:.4f}", f"{theirs.best:.4f}", ours.steps, theirs.steps, share)
                print(f"| {pruner} | {seed} | {' | '.join(map(str, values))} |", flush=True)
    for pruner, pairs in rows.items():
        say(pruner, pairs)


def say(pruner: str, pairs: list[tuple[Sweep, Sweep]]) -> None:
    """Medians and ranges over the seeds."""
    shares = [ours.steps / theirs.steps for ours, theirs in pairs]
    gaps = [ours.best - theirs.best for ours, theirs in pairs]
    seconds = [median(sweep.seconds for sweep in side) for side in zip(*pairs, strict=True)]
    print(f"\n{pruner}: share of the steps {median(shares):.2f} [{min(shares):.2f}, {max(shares):.2f}];", end=" ")
    print(f"best as good or better in {sum(gap <= 0 for gap in gaps)} of {len(gaps)};", end=" ")
    print(f"difference of the best {median(gaps):+.4f} [{min(gaps):+.4f}, {max(gaps):+.4f}];", end=" ")
    print(f"seconds {seconds[0]:.0f} against {seconds[1]:.0f}")


def kamerton(folder: Path, seed: int, pruner: str, options: argparse.Namespace) -> Sweep:
    command = [sys.executable, "-m", "kamerton.cli", "train", "sweep=lr_batch", *TYPED, *SPACE, "sweep.final=null"]
    command += [f"hydra/sweeper/pruner={pruner}", f"hydra.sweeper.seed={seed}", "hydra.sweeper.study_name=s"]
    command += [f"hydra.sweeper.n_trials={options.trials}", f"paths.outputs={folder}"]
    seconds = timed(command, {})
    summary = json.loads((folder / "trec" / "s" / "sweep.json").read_text())
    return Sweep(summary["best"][0]["values"][0], steps(folder / "trec" / "s"), seconds)


def peer(folder: Path, seed: int, options: argparse.Namespace) -> Sweep:
    folder.mkdir(parents=True, exist_ok=True)
    values = compose_values([*TYPED, f"paths.outputs={folder}"])
    (folder / "typed.yaml").write_text(yaml.safe_dump(values))
    command = [sys.executable, str(HERE / "sides" / "with_hydra_optuna_sweeper.py"), "-m", *SPACE]
    command += [f"hydra.sweeper.sampler.seed={seed}", f"hydra.sweeper.n_trials={options.trials}"]
    command += [f"+folder={folder}", f"+typed={folder / 'typed.yaml'}"]
    seconds = timed(command, {"PYTHONPATH": f"{options.peer}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"})
    results: dict[str, Any] = yaml.safe_load((folder / "optimization_results.yaml").read_text())
    return Sweep(results["best_value"], steps(folder), seconds)


def timed(command: list[str], more: dict[str, str]) -> float:
    began = time.perf_counter()
    done = subprocess.run(command, env={**os.environ, **more}, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return time.perf_counter() - began


def steps(folder: Path) -> int:
    """Optimizer steps that the trials of a sweep took."""
    records = [json.loads(file.read_text()) for file in folder.glob("trials/*/run.json")]
    return sum(record["progress"]["step"] for record in records)


if __name__ == "__main__":
    main()
