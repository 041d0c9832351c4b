"""How long it takes to list many runs, and to read the metrics of a long one; beside an earlier checkout, in turns.

    git worktree add ../before COMMIT
    python scripts/bench/reading.py [--runs 5000] [--rows 1000000] [--repeats 5] [--before ../before]

Each measurement is a process of its own, from its start to its end. Prints a Markdown table: medians [least, most] of
the seconds, and the median of the ratios of two neighbours.
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
from pathlib import Path

STATES = ("succeeded", "failed", "paused", "cancelled", "running")
TRACK = """
import asyncio, sys
from kamerton import TrainingMonitor
found = asyncio.run(TrainingMonitor(sys.argv[1]).track_metrics("long"))
assert found.step == int(sys.argv[2]), found
"""
REPORT = """
import sys
from kamerton import TrainingMonitor
TrainingMonitor(sys.argv[1]).generate_report("long")
"""


def make_runs(root: Path, count: int) -> None:
    """Runs as they are after training: every fifth one is lost, and their records have the size of real ones."""
    for number in range(count):
        path = root / f"name{number % 10}" / f"r{number:05d}"
        path.mkdir(parents=True)
        state = STATES[number % len(STATES)]
        split = {"loss": 0.5, "perplexity": 1.6, "token_accuracy": 0.9, "accuracy": 0.9, "f1": 0.8}
        record = {
            "run_id": path.name,
            "state": state,
            "times": {"created": f"2026-01-01T{number % 24:02d}:00:00+00:00"},
            "error": {"code": "x", "message": "it failed", "param": None} if state == "failed" else None,
            "progress": {"step": 3, "steps": 9, "epoch": 0.5, "examples": {"processed": 3, "total": 9}, "eta_s": 1.0},
            "metrics": dict.fromkeys(("train", "validation", "best", "test", "base"), split),
            "model": {"name": "tiny"},
            "data": {"report": {"warnings": [{"code": "mojibake", "message": "x" * 150} for _ in range(20)]}},
        }
        (path / "run.json").write_text(json.dumps(record, indent=2))


def make_long(root: Path, rows: int) -> None:
    """A finished run with so many steps logged."""
    path = root / "long" / "long"
    path.mkdir(parents=True)
    record = {"run_id": "long", "state": "succeeded", "progress": {"step": rows, "steps": rows}}
    (path / "run.json").write_text(json.dumps(record))
    (path / "config.yaml").write_text("clip_norm: 1.0\nscheduler: {warmup_steps: 10}\n")
    with (path / "metrics.csv").open("w") as file:
        file.write("step,epoch,train/loss,train/token_accuracy,train/grad_norm,lr,val/loss\n")
        for step in range(1, rows + 1):
            last = repr(1 / step) if step % 1000 == 0 else ""
            file.write(f"{step},{step / rows!r},{1 / step!r},{1 - 1 / step!r},{2 / step!r},{1e-4 / step!r},{last}\n")


def seconds(code: Path, words: list[str]) -> float:
    """The time of one process that runs the package of a checkout."""
    environment = {**os.environ, "PYTHONPATH": str(code / "src"), "KAMERTON_CACHE": tempfile.gettempdir()}
    begin = time.perf_counter()
    subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL, env=environment)
    return time.perf_counter() - begin


def shown(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} [{min(values):.2f}, {max(values):.2f}]"


def main(options: argparse.Namespace) -> None:
    here = Path(__file__).parents[2]
    sides = {"now": here, **({"before": options.before.absolute()} if options.before else {})}
    with tempfile.TemporaryDirectory() as folder:
        many, long_run = Path(folder) / "many", Path(folder) / "one"
        make_runs(many, options.runs)
        make_long(long_run, options.rows)
        commands = {
            "start of Python and of the package": ["-c", "import kamerton.commands.runs"],
            f"`kamerton runs` over {options.runs:,} runs": ["-m", "kamerton", "runs", "--outputs", str(many)],
            f"`track_metrics` over {options.rows:,} rows": ["-c", TRACK, str(long_run), str(options.rows)],
            f"`generate_report` over {options.rows:,} rows": ["-c", REPORT, str(long_run)],
        }
        print(f"| seconds | {' | '.join(sides)} | before / now |\n|{' --- |' * (len(sides) + 2)}")
        for name, words in commands.items():
            taken: dict[str, list[float]] = {side: [] for side in sides}
            for _ in range(options.repeats):
                for side, code in sides.items():
                    taken[side].append(seconds(code, words))
            pairs = [before / now for now, before in zip(*taken.values(), strict=True)] if options.before else []
            ratio = f"{statistics.median(pairs):.1f}" if pairs else ""
            print(f"| {name} | {' | '.join(map(shown, taken.values()))} | {ratio} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5000)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--before", type=Path, help="an earlier checkout")
    main(parser.parse_args())
