"""SmolLM2-135M tuned on answers, and then on preferences: accuracy on pairs and of its own answers.

    python scripts/bench/preference_results.py [--seeds 3] [--steps 20] [--work FOLDER]

A prompt lists four facts and asks for one of them; the chosen completion names it, the rejected one another fact. Each
seed trains on chosen completions, and from there with objective=dpo on pairs of other prompts. `kamerton compare` then
tests the second step against the first. docs/how-to/preferences.md shows the result.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

from preferences import row
from reward_results import kamerton

FACTS = 4
PROMPTS = 8  # in a step
SPLITS = {"answers": 160, "train": 160, "validation": 40, "test": 120}
SHARED = [
    "data=jsonl", "data.near_duplicates=null", f"batch.size={PROMPTS}", "score.mode=generate",
    "score.max_new_tokens=24", "scheduler.warmup_steps=2", "trainer=cpu", "logger=csv", "baselines=false", "name=facts",
]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--work", type=Path, default=Path("preference-results"))
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    write_facts(options.work)
    answers = [f"data.{split}={split}-answers.jsonl" for split in ("validation", "test")]
    pairs = [f"data.{split}={split}.jsonl" for split in ("train", "validation", "test")]
    for seed in range(1, options.seeds + 1):
        own = {
            f"sft-{seed}": ["data.train=answers-answers.jsonl", *answers, "optimizer.lr=3e-4"],
            f"dpo-{seed}": [
                "objective=dpo", *pairs, "optimizer.lr=1e-4", f"model.adapter=outputs/facts/sft-{seed}",
                "score.data=test-answers.jsonl",
            ],
        }  # fmt: skip
        for run_id, settings in own.items():
            if not (options.work / "outputs" / "facts" / run_id / "report.html").exists():
                run = [f"trainer.max_steps={options.steps}", f"seed={seed}", f"run_id={run_id}"]
                kamerton(options.work, ["train", *settings, *SHARED, *run])
    kamerton(options.work, ["compare", "runs=[outputs/facts/dpo-*]", "baseline=base"])


def write_facts(folder: Path) -> None:
    """Write each split as pairs and, for its chosen completions, as answers; no prompt is in two of them."""
    draw, seen = random.Random(0), set()
    for split, count in SPLITS.items():
        rows = []
        while len(rows) < count:
            pair = row(draw, FACTS, 2)
            if pair["prompt"] not in seen:
                seen.add(pair["prompt"])
                rows.append(pair)
        answers = [{"prompt": pair["prompt"], "completion": pair["chosen"]} for pair in rows]
        for name, values in ((f"{split}.jsonl", rows), (f"{split}-answers.jsonl", answers)):
            (folder / name).write_text("".join(json.dumps(value) + "\n" for value in values))


if __name__ == "__main__":
    main()
