"""SmolLM2-135M trained on rewards and on written answers, from the same sums: accuracy of both and of the base model.

    python scripts/bench/reward_results.py [--seeds 3] [--steps 40] [--work FOLDER]

Writes sums of two numbers, trains objective=grpo and supervised fine-tuning for as many steps of eight prompts with
each seed, and compares them example by example. docs/how-to/rewards.md shows the result.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shlex
import subprocess
import sys
from pathlib import Path

PROMPTS = 8  # in a step
SPLITS = {"train": 320, "validation": 40, "test": 300}
SHARED = [
    "data=jsonl", "data.near_duplicates=null", "data.train=train.jsonl", "data.validation=validation.jsonl",
    "data.test=test.jsonl", "data.max_length=128", f"batch.size={PROMPTS}", "reward=number", "scheduler.warmup_steps=4",
    "trainer=cpu", "logger=csv", "baselines=false", "name=sums",
]  # fmt: skip
METHODS = {
    "grpo": ["objective=grpo", "objective.max_new_tokens=24", "optimizer.lr=2e-4"],
    "sft": ["score.mode=generate", "score.max_new_tokens=24", "optimizer.lr=2e-4"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--work", type=Path, default=Path("reward-results"))
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    write_sums(options.work)
    for seed in range(1, options.seeds + 1):
        for method, settings in METHODS.items():
            run_id = f"{method}-{seed}"
            if not (options.work / "outputs" / "sums" / run_id / "report.html").exists():
                run = [f"trainer.max_steps={options.steps}", f"seed={seed}", f"run_id={run_id}"]
                kamerton(options.work, ["train", *settings, *SHARED, *run])
    for baseline in ("base", "outputs/sums/sft-*"):
        kamerton(options.work, ["compare", "runs=[outputs/sums/grpo-*]", f"baseline={baseline}"])


def write_sums(folder: Path) -> None:
    """Write the splits; no sum is in two of them."""
    pairs = [(a, b) for a in range(10, 60) for b in range(10, 60)]
    random.Random(0).shuffle(pairs)
    for name, count in SPLITS.items():
        rows = [
            {"prompt": f"What is {a} + {b}? Answer with the number alone.", "completion": str(a + b)}
            for a, b in (pairs.pop() for _ in range(count))
        ]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def kamerton(folder: Path, arguments: list[str]) -> None:
    """Run a command in the folder, after printing it."""
    print(f"\n$ kamerton {shlex.join(arguments)}", flush=True)
    program = Path(sys.executable).with_name("kamerton")
    subprocess.run([program, *arguments], cwd=folder, env={**os.environ, "WANDB_MODE": "offline"}, check=True)


if __name__ == "__main__":
    main()
