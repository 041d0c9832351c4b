"""SmolLM2-135M trained on rewards and on written answers, from the same prompts: rewards of both and of the base model.

    python scripts/bench/reward_results.py [--seeds 3] [--steps 15] [--work FOLDER]

The task is to write a sentence about a person as JSON; the reward is the share of right fields. Each seed trains
objective=grpo and supervised fine-tuning for as many steps of four prompts; `kamerton compare` then tests them against
the base model and each other, example by example. docs/how-to/rewards.md shows the result.
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

PROMPTS = 4  # in a step
SPLITS = {"train": 200, "validation": 20, "test": 120}
NAMES = "Ada Ben Cleo Dan Eva Finn Gita Hugo Ines Jan Kira Leo Mia Noah Olga Pavel Quinn Rosa Sven Tara".split()  # noqa: SIM905
CITIES = "Oslo Rome Paris Lima Cairo Delhi Tokyo Quito Berlin Madrid Vienna Warsaw".split()  # noqa: SIM905
JOBS = "baker nurse pilot painter farmer teacher tailor plumber singer lawyer".split()  # noqa: SIM905
SENTENCES = (
    "{name} is a {job}, {age} years old, and lives in {city}.",
    "At the age of {age}, {name} works as a {job} in {city}.",
    "The {job} next door, {name} from {city}, has just turned {age}.",
)
SHARED = [
    "data=jsonl", "data.near_duplicates=null", "data.train=train.jsonl", "data.validation=validation.jsonl",
    "data.test=test.jsonl", f"batch.size={PROMPTS}", "reward._target_=reward_of_fields.right_fields",
    "allow_targets=[reward_of_fields.]", "score.max_new_tokens=64", "optimizer.lr=3e-4", "scheduler.warmup_steps=2",
    "trainer=cpu", "logger=csv", "baselines=false", "name=people",
]  # fmt: skip
METHODS = {"grpo": ["objective=grpo", "objective.max_new_tokens=64"], "sft": ["score.mode=generate"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument("--work", type=Path, default=Path("reward-results"))
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    write_people(options.work)
    for seed in range(1, options.seeds + 1):
        for method, settings in METHODS.items():
            run_id = f"{method}-{seed}"
            if not (options.work / "outputs" / "people" / run_id / "report.html").exists():
                run = [f"trainer.max_steps={options.steps}", f"seed={seed}", f"run_id={run_id}"]
                kamerton(options.work, ["train", *settings, *SHARED, *run])
    for baseline in ("base", "outputs/people/sft-*"):
        kamerton(options.work, ["compare", "runs=[outputs/people/grpo-*]", f"baseline={baseline}"])


def write_people(folder: Path) -> None:
    """Write the splits; no person is in two of them."""
    draw, seen = random.Random(0), set()
    for name, count in SPLITS.items():
        rows = []
        while len(rows) < count:
            person = {"name": draw.choice(NAMES), "age": draw.randint(18, 80)}
            person |= {"job": draw.choice(JOBS), "city": draw.choice(CITIES)}
            if (text := json.dumps(person)) in seen:
                continue
            seen.add(text)
            sentence = draw.choice(SENTENCES).format(**person)
            task = 'Write this as JSON with the keys "name", "age", "job" and "city", and nothing else.'
            rows.append({"prompt": f"{sentence} {task}", "completion": text})
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def kamerton(folder: Path, arguments: list[str]) -> None:
    """Run a command in the folder, after printing it."""
    print(f"\n$ kamerton {shlex.join(arguments)}", flush=True)
    program = Path(sys.executable).with_name("kamerton")
    modules = str(Path(__file__).parent / "sides")
    environment = {**os.environ, "WANDB_MODE": "offline", "PYTHONPATH": modules}
    subprocess.run([program, *arguments], cwd=folder, env=environment, check=True)


if __name__ == "__main__":
    main()
