"""How near training comes to the machine's limits, what the framework costs, and how both grow with the data.

    python scripts/bench/limits.py flops --data FOLDER        achieved FLOP/s of a full fine-tune over the GEMM rate
    python scripts/bench/limits.py overhead --data FOLDER     the trainer next to a bare loop, step by step
    python scripts/bench/limits.py size [--most 1000000]      steps from 10^2 to 10^6 rows, one process each

Every measurement runs `kamerton train` in its own process and prints a line of a Markdown table. The table is kept
beside the results of `train.py`, which renders both: `train.py --repeats 0 --out docs/benchmarks.md`.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

from train_tasks import TASKS, write_task

from data import cell, write_rows
from train import HERE, RESULTS, child, keep, load


def main() -> None:
    options = parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # leaving this way ends the process that is measured, too
    measured = {"flops": flops, "overhead": overhead, "size": sizes}[options.what]
    rows = []
    with tempfile.TemporaryDirectory() as name:
        options.work = Path(name)
        for row in measured(options):
            rows.append([cell(value) for value in row])
            print("| " + " | ".join(rows[-1]) + " |", flush=True)
    results = load(options.results)
    results["limits"][options.what] = rows
    keep(results, options.results)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["flops", "overhead", "size"])
    parser.add_argument("--data", type=Path, help="folder with banking77/ and gsm8k/")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--tasks", type=lambda text: text.split(","), help="of the tasks of train.py")
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--most", type=int, default=1_000_000, help="size: the most rows")
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


def flops(options: argparse.Namespace) -> Iterator[list[Any]]:
    """For each task, the run of median share."""
    for task in options.tasks or ["bank-full", "gsm-full"]:
        runs = [probe(task, "Flops", options) for _ in range(options.repeats)]
        run = sorted(runs, key=lambda run: run["flops_per_s"] / run["shaped_flops_per_s"])[len(runs) // 2]
        rates = [run[key] for key in ("flops_per_s", "shaped_flops_per_s", "square_flops_per_s")]
        shares = [rates[0] / rate for rate in rates[1:]]
        yield [task, run["tokens_of_a_pass"], *(int(rate / 1e9) for rate in rates), *shares]


def overhead(options: argparse.Namespace) -> Iterator[list[Any]]:
    """For each task, medians over the repeats; the overhead of each step beside its twin, then the median."""
    for task in options.tasks or ["bank-lora", "bank-full"]:
        runs = [probe(task, "BareLoop", options) for _ in range(options.repeats)]
        steps = [1000 * median(run[key] for run in runs) for key in ("trainer_s", "bare_s")]
        yield [task, *steps, 100 * (median(run["median_ratio"] for run in runs) - 1)]


def probe(task: str, name: str, options: argparse.Namespace) -> dict[str, Any]:
    """One run of `kamerton train` with a callback of `sides/probes.py`."""
    plan = TASKS[task]
    files = write_task(task, options.data, options.work / task, options.steps)
    job = {"kind": plan.kind, "lr": plan.lr, "batch": plan.batch, **files}
    return run(job, [f"+callbacks.probe._target_=probes.{name}", "model.export=null"], options)


def sizes(options: argparse.Namespace) -> Iterator[list[Any]]:
    """The tiny model over more and more rows: reading and encoding them is not counted, planning is."""
    rows = 100
    while rows <= options.most:
        path = write_rows(options.work / f"{rows}.jsonl", rows)
        job = {"kind": "full", "lr": 1e-3, "batch": 8, "model": "tiny", "rows": str(path)}
        steps = f"trainer.max_steps={min(options.steps, rows // 8)}"
        result = run(job, [steps, "model.export=null"], options)
        ends = result["ends"]
        rate = 8 * (len(ends) - 1) / (ends[-1] - ends[0])
        yield [rows, rate, ends[0] - result["begun"], int(result["peak_mib"])]
        path.unlink()
        rows *= 10


def run(job: dict[str, Any], overrides: list[str], options: argparse.Namespace) -> dict[str, Any]:
    """The result of one process; its cache of data goes with the folder of this command."""
    out = Path(tempfile.mkdtemp(dir=options.work))
    (out / "job.json").write_text(json.dumps({"seed": 1, "out": str(out), "flags": {"overrides": overrides}, **job}))
    os.environ["KAMERTON_CACHE"] = str(options.work / "cache")
    command = [sys.executable, str(HERE / "sides" / "with_kamerton.py"), str(out / "job.json")]
    result: dict[str, Any] = json.loads(child(command, options, out / "log.txt"))
    return result


if __name__ == "__main__":
    main()
