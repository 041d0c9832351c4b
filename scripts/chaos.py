"""Kill training at random moments, and prove that the result is that of a run which nobody touched.

    python scripts/chaos.py [--kills 25] [--seed 0] [key=value ...]

One run goes straight through. Then the same run is started again and again, killed with SIGKILL at a random moment
each time (one in five from its first instruction on, the others once it trains: in a step, in validation, in writing a
checkpoint, in scoring or reporting) and resumed by the same command, until it finishes; and so on with further runs
until there were `--kills` kills. Every one of them must end with the same weights, optimizer state, metrics, scores and
exported files, bit for bit. Exit code 1 if one does not.

The runs are forked from this process, so that a start costs no imports. A few minutes on two cores.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import peft  # noqa: F401 (what a run imports, once, before any fork)
import pyarrow.parquet as pq
from transformers import LlamaForCausalLM, get_scheduler  # noqa: F401

import kamerton.pipeline.run  # noqa: F401
from kamerton.run.checkpoints import read_checkpoint

OPTIONS = [
    *(
        "model=tiny",
        "data=jsonl",
        "batch.size=8",
        "adapter.dropout=0.1",
        "trainer.max_epochs=3",
        "batch.max_tokens=300",
    ),
    *("eval.strategy=steps", "eval.every=4", "save.strategy=steps", "save.every=1", "resume=auto"),
    *(
        "logger=csv",
        "base=false",
        "callbacks.progress_bar=null",
        "callbacks.model_summary=null",
        "callbacks.throughput=null",
    ),
]
TIMES = ("tokens_per_s", "perf/")  # columns of metrics.csv that measure time


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=25)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("overrides", nargs="*")
    options = parser.parse_args()
    random.seed(options.seed)

    with tempfile.TemporaryDirectory(prefix="kamerton-chaos-") as folder:
        os.environ["KAMERTON_CACHE"] = f"{folder}/cache"
        overrides = [*OPTIONS, f"data.path={animals(Path(folder))}", f"paths.outputs={folder}", *options.overrides]
        straight = finish(start([*overrides, "run_id=straight"], Path(folder)), Path(folder) / "jsonl" / "straight")
        expected = result(straight)
        kills, runs = 0, 0
        while kills < options.kills:
            runs += 1
            run = Path(folder) / "jsonl" / f"killed{runs}"
            kills += kill_until_finished([*overrides, f"run_id={run.name}"], run, options.kills - kills)
            different = [name for name, value in result(run).items() if value != expected[name]]
            if different:
                print(f"{run.name} differs from the run that nobody touched: {', '.join(different)}")
                return 1
        print(f"{kills} kills, {runs} runs: every one equal to the run that nobody touched, bit for bit")
    return 0


def animals(folder: Path) -> Path:
    """120 rows, two labels that a letter of the prompt decides."""
    rows = [
        {"prompt": f"the {word} number {number}", "completion": label}
        for number in range(60)
        for word, label in (("cat", "yes"), ("dog", "no"))
    ]
    path = folder / "animals.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def start(options: list[str], folder: Path) -> int:
    """`kamerton train` in a child process; its output goes to a file."""
    child = os.fork()
    if child:
        return child
    log = os.open(folder / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    from kamerton.cli import main as kamerton

    os._exit(kamerton(["train", *options]))


def finish(child: int, run: Path) -> Path:
    """Wait for a child that must succeed."""
    _, status = os.waitpid(child, 0)
    if status != 0:
        sys.exit(
            f"{run.name} ended with {os.waitstatus_to_exitcode(status)}:\n{(run.parents[1] / 'log.txt').read_text()}"
        )
    return run


def kill_until_finished(options: list[str], run: Path, most: int) -> int:
    """Start, kill, start again; after `most` kills the run may finish. Returns the number of kills."""
    for kills in range(most):
        child = start(options, run.parents[1])
        wait = random.uniform(0, 2)
        deadline = time.monotonic() + wait if kills % 5 == 0 else None  # None: it does not train yet
        while deadline is None or time.monotonic() < deadline:
            if os.waitpid(child, os.WNOHANG) != (0, 0):
                return kills if (run / "report.html").exists() else sys.exit((run.parents[1] / "log.txt").read_text())
            if deadline is None and state(run) == ("running", child):
                deadline = time.monotonic() + wait
            time.sleep(0.01)  # when the wait begins; how long it is decides the moment
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        print(f"{run.name}, kill {kills + 1}: {moment(run)}", flush=True)
        if state(run)[0] == "succeeded":  # killed after its last word
            return kills + 1
    finish(start(options, run.parents[1]), run)
    return most


def state(run: Path) -> tuple[str, int]:
    """A run's state and the process that wrote it."""
    if not (run / "run.json").exists():
        return "", 0
    record = json.loads((run / "run.json").read_text())
    return record.get("state", ""), record["pid"]


def moment(run: Path) -> str:
    """What a run was doing when it was killed."""
    if not (run / "run.json").exists():
        return "before it had a directory"
    record = json.loads((run / "run.json").read_text())
    saved = run / "checkpoints" / "last.ckpt"
    step = read_checkpoint(saved)["global_step"] if saved.exists() else 0
    writing = "".join(f", writing {path.name[1:-8]}" for path in run.rglob("*.partial"))
    return f"{record.get('state', 'opening')}, step {step} saved{writing}"


def result(run: Path) -> dict[str, Any]:
    """Everything that must not depend on the kills, in comparable form."""
    with (run / "metrics.csv").open(newline="") as file:
        rows = [
            {key: text for key, text in row.items() if not any(t in key for t in TIMES)} for row in csv.DictReader(file)
        ]
    record = json.loads((run / "run.json").read_text())
    metrics = {split: timeless(values) for split, values in record["metrics"].items()}
    files = sorted(path for path in (run / "model").iterdir())
    return {
        "metrics.csv": rows,
        "metrics in run.json": metrics,
        "last.ckpt": tensors(run / "checkpoints" / "last.ckpt"),
        "best.ckpt": tensors(run / "checkpoints" / "best.ckpt"),
        "scores": [pq.read_table(path).to_pylist() for path in sorted((run / "scores").glob("*.parquet"))],
        "left behind": sorted(path.name for path in run.rglob(".*") if path.name != ".lock"),
        "model": [(path.name, path.read_bytes()) for path in files],
    }


def timeless(values: dict[str, Any]) -> dict[str, Any]:
    """Metrics without those that measure time."""
    return {key: value for key, value in values.items() if not any(name in key for name in TIMES)}


def tensors(path: Path) -> dict[str, bytes]:
    """Weights and optimizer state of a checkpoint, as bytes by name."""
    saved = read_checkpoint(path)
    values = dict(saved["state_dict"])
    for number, state in saved["optimizer_states"][0]["state"].items():
        values |= {f"{number}.{name}": value for name, value in state.items()}
    return {name: value.numpy().tobytes() for name, value in values.items() if hasattr(value, "numpy")}


if __name__ == "__main__":
    sys.exit(main())
