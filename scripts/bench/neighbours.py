"""Training speed beside other processes: threads that share the cores against threads that wait as OpenMP does.

    python scripts/bench/neighbours.py [--busy 0,3] [--steps 16] [--repeats 3] [--model smollm2|tiny] [--pairs]

The sides take turns: `adaptive` is Kamerton as it is; `default` sets GOMP_SPINCOUNT=300000, which is how libgomp waits
if nothing is set. `--busy` are numbers of busy loops that run beside each measurement. `--pairs` instead measures two
runs at once against one after the other. The losses of both sides must be the same to the last digit.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SIDES = {"adaptive": {}, "default": {"GOMP_SPINCOUNT": "300000"}}
LOOP = "while True: pass"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--busy", type=lambda text: [int(part) for part in text.split(",")], default=[0, 3])
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--pairs", action="store_true")
    options = parser.parse_args()
    (pairs if options.pairs else beside)(options)


def beside(options: argparse.Namespace) -> None:
    """Print tokens per second of both sides beside busy loops, and the ratio of each repeat."""
    print("| busy loops | adaptive, tokens/s | default, tokens/s | ratio, median (smallest to largest) |")
    print("| --- | --- | --- | --- |")
    for busy in options.busy:
        speeds: dict[str, list[float]] = {side: [] for side in SIDES}
        losses = set()
        for repeat in range(options.repeats):
            for side in sorted(SIDES, reverse=repeat % 2 == 1):
                loops = [subprocess.Popen([sys.executable, "-c", LOOP]) for _ in range(busy)]
                try:
                    speed, loss, _ = train([side], options)
                finally:
                    for loop in loops:
                        loop.kill()
                        loop.wait()
                speeds[side].append(speed)
                losses.add(loss)
        assert len(losses) == 1, f"the losses differ: {losses}"
        ratios = [a / b for a, b in zip(speeds["adaptive"], speeds["default"], strict=True)]
        cells = [f"{statistics.median(speeds[side]):,.0f}" for side in ("adaptive", "default")]
        spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        print(f"| {busy} | {cells[0]} | {cells[1]} | {spread} |", flush=True)


def pairs(options: argparse.Namespace) -> None:
    """Print the time of two runs at once as a share of the time of the same two after each other."""
    print("| side | one after the other, s | at once, s | throughput at once, median (smallest to largest) |")
    print("| --- | --- | --- | --- |")
    for side in SIDES:
        alone, together = list[float](), list[float]()
        for _ in range(options.repeats):
            alone.append(train([side], options)[2] + train([side], options)[2])
            together.append(train([side, side], options)[2])
        ratios = [a / b for a, b in zip(alone, together, strict=True)]
        spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        print(f"| {side} | {statistics.median(alone):.1f} | {statistics.median(together):.1f} | {spread} |", flush=True)


def train(sides: list[str], options: argparse.Namespace) -> tuple[float, str, float]:
    """Train a run of each side at once. Return the first one's tokens/s and last loss, and the seconds of all."""
    command = [sys.executable, "-m", "kamerton", "train", f"model={options.model}", "baselines=false", "logger=csv"]
    command += [f"trainer.max_steps={options.steps}"]
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        runs = [
            subprocess.Popen(
                [*command, f"name=side{number}"],
                cwd=folder,
                env={**os.environ, **SIDES[side]},
                stdout=subprocess.DEVNULL,
            )
            for number, side in enumerate(sides)
        ]
        codes = [run.wait() for run in runs]
        seconds = time.perf_counter() - start
        assert not any(codes), codes
        (path,) = Path(folder).glob("outputs/side0/*/run.json")
        with open(path.parent / "metrics.csv", encoding="utf-8") as file:
            losses = [row["train/loss"] for row in csv.DictReader(file) if row.get("train/loss")]
        return json.loads(path.read_text())["throughput"]["tokens_per_s"], losses[-1], seconds


if __name__ == "__main__":
    main()
