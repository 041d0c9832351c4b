"""Training of SmolLM2-135M on rewards next to TRL's GRPOTrainer: steps per second, memory and completion lengths.

    python scripts/bench/rewards.py --trl PYTHON [--repeats 3] [--tasks long,short]

Prompts are those of scripts/bench/preferences.py: a list of facts and a question about one of them. Both sides generate
eight completions of four prompts in a step, at temperature 1, and learn from the same reward with the learning rate so
low that the model, and with it the length of completions, stays the same. The clock runs from before the first
completion is generated to the end of the last step. Every measurement is a process of its own, sides in turn.
"""

from __future__ import annotations

import json
import random
import statistics
import sys
from pathlib import Path
from typing import Any

from next_to_trl import OURS, compare, parser_of, run_side
from preferences import SMOLLM2, row

from kamerton.model.load import local_base

TASKS = {"long": 40, "short": 2}  # facts in a prompt
PROMPTS, SAMPLES, NEW_TOKENS = 4, 8, 48
TRL: dict[str, dict[str, Any]] = {"float32": {}, "bf16": {"bf16": True}}


def main() -> None:
    options = parser_of(__doc__, tasks=TASKS, flags=TRL, steps=8, work="bench-rewards").parse_args()

    def measure(job: dict[str, Any], side: str, seed: int) -> dict[str, Any]:
        is_ours = side == OURS
        out = options.work / f"out-{side.replace(', ', '-')}-{seed}-{Path(job['rows']).parent.name}"
        python, script = (sys.executable, "grpo_with_kamerton.py") if is_ours else (options.trl, "grpo_with_trl.py")
        flags = {} if is_ours else TRL[side.removeprefix("TRL, ")]
        result = run_side(python, script, {**job, "seed": seed, "flags": flags}, out)
        seconds = result["ends"][-1] - result["begun"]
        lengths = json.loads((out / "lengths.json").read_text())
        return {**result, "rate": 60 * job["steps"] / seconds, "length": statistics.mean(lengths)}

    compare(
        options,
        lambda task: write_task(task, options.steps, options.work),
        measure,
        unit="steps/min",
        digits=2,
        last_column=("tokens of a completion", lambda runs: f"{statistics.median(run['length'] for run in runs):.1f}"),
    )


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


if __name__ == "__main__":
    main()
