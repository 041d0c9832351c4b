"""Training of SmolLM2-135M on rewards next to TRL's GRPOTrainer: steps per second, memory and completion lengths.

    python scripts/bench/rewards.py --trl PYTHON [--repeats 3] [--tasks long,short]

Prompts are those of scripts/bench/preferences.py: a list of facts and a question about one of them. Both sides generate
eight completions of four prompts in a step, at temperature 1, and learn from the same reward with the learning rate so
low that the model, and with it the length of completions, stays the same. The clock runs from before the first
completion is generated to the end of the last step. Every measurement is a process of its own, sides in turn.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import statistics
import sys
from pathlib import Path
from typing import Any

from preferences import CACHE, SMOLLM2, child, row

from kamerton.model.load import local_base

TASKS = {"long": 40, "short": 2}  # facts in a prompt
PROMPTS, SAMPLES, NEW_TOKENS = 4, 8, 48
TRL: dict[str, dict[str, Any]] = {"float32": {}, "bf16": {"bf16": True}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trl", required=True, help="the Python of an environment with TRL")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--tasks", type=lambda text: text.split(","), default=list(TASKS))
    parser.add_argument(
        "--flags", type=lambda text: text.split(","), default=list(TRL), help="TRL's, in the first repeat"
    )
    parser.add_argument("--work", type=Path, default=CACHE / "bench-rewards")
    options = parser.parse_args()
    results: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for repeat in range(options.repeats):
        for task in options.tasks:
            job = write_task(task, options.steps, options.work.resolve())
            names = options.flags if repeat == 0 else [fastest(results, task)]
            sides = ["Kamerton", *(f"TRL, {name}" for name in names)]
            for side in sides[repeat % 2 :] + sides[: repeat % 2]:
                result = measure(side, {**job, "seed": repeat + 1}, options)
                results.setdefault((task, side), []).append(result)
                print(repeat + 1, task, side, f"{result['steps_per_min']:.2f} steps/min", flush=True)
    print("| task | side | steps/min | least to most | peak memory (MiB) | tokens of a completion |")
    print("| --- | --- | --- | --- | --- | --- |")
    for (task, side), runs in results.items():
        rates = sorted(run["steps_per_min"] for run in runs)
        memory, length = (statistics.median(run[key] for run in runs) for key in ("peak_mib", "length"))
        print(f"| {task} | {side} | {statistics.median(rates):.2f} | {rates[0]:.2f} to {rates[-1]:.2f} |", end="")
        print(f" {memory:,.0f} | {length:.1f} |")


def write_task(task: str, steps: int, work: Path) -> dict[str, Any]:
    """Write the rows of a task; return what both sides need."""
    folder = work / task
    folder.mkdir(parents=True, exist_ok=True)
    draw = random.Random(task)
    rows = [row(draw, TASKS[task], 2) for _ in range(steps * PROMPTS)]
    file = folder / "rows.jsonl"
    file.write_text(
        "".join(json.dumps({"prompt": each["prompt"], "completion": each["chosen"]}) + "\n" for each in rows)
    )
    return {
        "rows": str(file),
        "model": str(local_base(SMOLLM2, 0)),
        "kind": "lora",
        "prompts": PROMPTS,
        "samples": SAMPLES,
        "max_new_tokens": NEW_TOKENS,
        "steps": steps,
        "lr": 1e-8,
    }


def fastest(results: dict[tuple[str, str], list[dict[str, Any]]], task: str) -> str:
    """The flags with which TRL was fastest in the first repeat."""
    rates = {
        name: float(results[task, f"TRL, {name}"][0]["steps_per_min"])
        for name in TRL
        if (task, f"TRL, {name}") in results
    }
    return max(rates, key=lambda name: rates[name])


def measure(side: str, job: dict[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    """Run one side in a process of its own."""
    is_ours = side == "Kamerton"
    out = options.work.resolve() / f"out-{side.replace(', ', '-')}-{job['seed']}-{Path(job['rows']).parent.name}"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    flags = {} if is_ours else TRL[side.removeprefix("TRL, ")]
    (out / "job.json").write_text(json.dumps({**job, "out": str(out), "flags": flags}))
    python, script = (sys.executable, "grpo_with_kamerton.py") if is_ours else (options.trl, "grpo_with_trl.py")
    result: dict[str, Any] = child(python, script, out / "job.json", out / "log.txt")
    seconds = result["ends"][-1] - result["begun"]
    lengths = json.loads((out / "lengths.json").read_text())
    return {**result, "steps_per_min": 60 * job["steps"] / seconds, "length": statistics.mean(lengths)}


if __name__ == "__main__":
    main()
