"""The monitor on real runs of the tiny model, with faults of preferences and rewards planted by what a user may do.

    python scripts/bench/monitor_plants.py [--first 0] [--seeds 4] [--plain 60] [--only 'CAUSE;…'] [--work DIR]

Each run goes on from a model that was tuned on answers: one of four words, decided by the letter that ends the
prompt, and "ok" up to three times. Whether a fault happened is decided by the texts and the validations of the
run (`monitor_happened.py`), which the detectors do not see; it is found if they report it from `metrics.csv`, at any
step. Prints a Markdown table, and exits with 1 if fewer than 95 % of any fault are found, or if more than one plain run
in 60 has a false report.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monitor_happened import WORDS, Degrees, is_right, of_preferences, of_rewards

from kamerton.monitor.detect import find_issues
from kamerton.monitor.series import Setting, read_rows
from kamerton.quiet import quiet_training
from kamerton.train.schedule import WARMUP
from monitor import run

OF_THE_MACHINE = ("data-starvation", "throughput-drop", "memory-creep")  # what else runs on it decides
Rows = list[dict[str, Any]]


# Rewards: functions that a user would write.
def right(prompt: str, completion: str, reference: str, metadata: object) -> float:
    """1 if the answer begins with the right word and is one."""
    return float(is_right(completion, reference))


def longer(prompt: str, completion: str, reference: str, metadata: object) -> float:
    """The number of words, meant to make answers detailed."""
    return len(completion.split()) / 8


def constant(prompt: str, completion: str, reference: str, metadata: object) -> float:
    """A reward with a mistake: it compares the reference with itself."""
    return float(reference == reference.strip())


def strict(prompt: str, completion: str, reference: str, metadata: object) -> float:
    """A reward that no answer reaches: it looks for a form that the model never writes."""
    return float(completion == f"<answer>{reference}</answer>")


def asked(draw: random.Random) -> tuple[str, int]:
    label = draw.randrange(4)
    return f"{draw.randrange(10**6)} {'ABCD'[label] * 8}", label


def answered(draw: random.Random, count: int, wrong: float, most: int = 3) -> Rows:
    """Prompts with an answer; a share `wrong` of the words is drawn at random."""
    rows = []
    for _ in range(count):
        prompt, label = asked(draw)
        label = draw.randrange(4) if draw.random() < wrong else label
        rows.append({"prompt": prompt, "completion": WORDS[label] + " ok" * draw.randint(0, most)})
    return rows


def compared(draw: random.Random, count: int, noise: float = 0.1) -> Rows:
    """Pairs by the word, of any lengths; a share `noise` is the wrong way round."""
    rows = []
    for _ in range(count):
        prompt, label = asked(draw)
        good, bad = (WORDS[(label + step) % 4] + " ok" * draw.randint(0, 3) for step in (0, draw.randint(1, 3)))
        good, bad = (bad, good) if draw.random() < noise else (good, bad)
        rows.append({"prompt": prompt, "chosen": good, "rejected": bad})
    return rows


def by_length(draw: random.Random, count: int) -> Rows:
    """Pairs of the same word whose chosen completion is always longer."""
    rows = []
    for _ in range(count):
        prompt, label = asked(draw)
        few = draw.randint(0, 1)
        long, short = (WORDS[label] + " ok" * times for times in (few + draw.randint(2, 3), few))
        rows.append({"prompt": prompt, "chosen": long, "rejected": short})
    return rows


def separable(draw: random.Random, count: int) -> Rows:
    """Pairs whose rejected completion is always the same refusal."""
    rows = answered(draw, count, 0.0)
    return [{"prompt": row["prompt"], "chosen": row["completion"], "rejected": "no"} for row in rows]


def judged(draw: random.Random, count: int, noise: float = 0.1) -> Rows:
    rows = compared(draw, count, noise)
    sides = [draw.choice(("chosen", "rejected")) for _ in rows]
    return [
        {"prompt": row["prompt"], "completion": row[side], "label": side == "chosen"}
        for row, side in zip(rows, sides, strict=True)
    ]


@dataclass
class Cause:
    """What a user does: settings, and pairs if the run learns from preferences."""

    typed: tuple[str, ...]
    rows: Callable[[random.Random, int], Rows] | None = None


def given(*names: str) -> tuple[str, ...]:
    return tuple(f"reward.{name}._target_=monitor_plants.{name}" for name in names)


DPO, GRPO = "objective=dpo", ("objective=grpo", "optimizer.lr=3e-4")
CAUSES = {
    "a reward for length alone": Cause((*GRPO, *given("longer"))),
    "a reward for length beside right answers": Cause((*GRPO, *given("right", "longer"))),
    "a reward that is always the same": Cause((*GRPO, *given("constant"))),
    "a reward that is never reached": Cause((*GRPO, *given("strict"))),
    "learning rate x 100": Cause((GRPO[0], "optimizer.lr=1e-2", *given("right"))),
    "learning rate x 100, a small KL weight": Cause(
        (GRPO[0], "optimizer.lr=1e-2", "objective.kl_weight=1e-3", *given("right"))
    ),
    "DPO, learning rate x 30": Cause((DPO, "optimizer.lr=1e-2"), compared),
    "DPO, learning rate x 30, beta / 10": Cause((DPO, "optimizer.lr=1e-2", "objective.beta=0.01"), compared),
    "DPO, chosen is always longer": Cause((DPO, "optimizer.lr=1e-4"), by_length),
    "DPO, rejected is always one refusal": Cause((DPO, "optimizer.lr=1e-3"), separable),
}
REWARDED = ("objective.max_new_tokens=18", "trainer.max_steps=100", "batch.size=4", "allow_targets=[monitor_plants.]")


def tuned(folder: Path, seed: int) -> Path:
    """The directory of a model tuned on answers of which about half are right."""
    path = folder / "watch" / f"tuned-{seed}"
    if not (path / "scores" / "test.parquet").exists():
        draw = random.Random(seed)
        data = {
            "train": answered(draw, 2400, 0.7),
            "validation": answered(draw, 48, 0.0),
            "test": answered(draw, 96, 0.0),
        }
        typed = [f"seed={seed}", "trainer.max_steps=200", "model.export=adapter", "score.mode=generate"]
        run(folder, path.name, [*typed, "score.temperature=1", "score.max_new_tokens=18"], data, None)
    return path


def learn(folder: Path, name: str, seed: int, cause: Cause) -> Path:
    """A run that goes on from the tuned model of this seed."""
    start = tuned(folder, seed)
    draw = random.Random(1000 + seed)
    typed = [f"seed={seed}", f"model.name={start}/model", *cause.typed]
    if cause.rows:
        held = folder / f"{name}-held.jsonl"
        held.write_text("".join(json.dumps(row) + "\n" for row in answered(draw, 96, 0.0)))
        typed += [f"score.data={held}", "score.mode=generate", "score.temperature=1", "score.max_new_tokens=18"]
        data = {"train": cause.rows(draw, 1280), "validation": cause.rows(draw, 48)}
    else:
        typed = [*REWARDED, *typed]
        data = {part: answered(draw, count, 0.0, most=0) for part, count in (("train", 640), ("validation", 16))}
    path = folder / "watch" / name
    return path if (path / "metrics.csv").exists() else run(folder, name, typed, data, None)


def judge(folder: Path, name: str, seed: int, cause: Cause) -> tuple[Degrees, dict[str, int], str]:
    """The degrees of the faults, the steps of the reports, and the numbers."""
    path = learn(folder, name, seed, cause)
    degrees, text = of_preferences(path, tuned(folder, seed)) if cause.rows else of_rewards(path)
    objective = next(word for word in cause.typed if word.startswith("objective=")).partition("=")[2]
    rows = read_rows(path / "metrics.csv")
    found = find_issues(rows, Setting(rows[-1][0], 1.0, WARMUP, objective))
    return degrees, {issue.code: issue.step for issue in found if issue.code not in OF_THE_MACHINE}, text


def planted(folder: Path, chosen: Sequence[str], seeds: Sequence[int]) -> bool:
    print("| cause | runs | happened: found, at step | false |\n| --- | --- | --- | --- |")
    happened, found = Counter[str](), Counter[str]()
    for kind in chosen:
        steps, false = dict[str, list[int | str]](), Counter[str]()
        for seed in seeds:
            degrees, reported, text = judge(folder, f"{list(CAUSES).index(kind)}-{seed}", seed, CAUSES[kind])
            print(f"{kind}, {seed}: {reported} {text}", file=sys.stderr, flush=True)
            false.update(code for code in reported if degrees.get(code, 0) < 0.5)
            for code in (code for code, degree in degrees.items() if degree >= 1):
                steps.setdefault(code, []).append(reported.get(code, "-"))
                happened[code] += 1
                found[code] += code in reported
        cells = [
            f"`{code}` {sum(s != '-' for s in at)} of {len(at)} ({', '.join(map(str, at))})"
            for code, at in steps.items()
        ]
        wrong = ", ".join(f"`{code}` {count}" for code, count in false.items())
        print(f"| {kind} | {len(seeds)} | {'; '.join(cells)} | {wrong} |", flush=True)
    for code, count in happened.items():
        print(f"{code}: {found[code]} of {count} found")
    return all(found[code] >= 0.95 * count for code, count in happened.items())


def sensible(number: int) -> Cause:
    """What a careful user does: objectives, rewards, learning rates, noise and lengths of runs of all sorts."""
    draw = random.Random(number)
    steps = f"trainer.max_steps={draw.choice((100, 120))}"
    if number % 3:
        objective = ("dpo", "ipo", "apo", "kto", "simpo", "orpo", "dpo")[number % 7]
        make, noise = judged if objective == "kto" else compared, draw.choice((0.05, 0.1, 0.2))
        typed = (f"objective={objective}", f"optimizer.lr={draw.choice((3e-5, 1e-4, 3e-4))}", steps)
        return Cause(typed, lambda draw, count: make(draw, count, noise))
    brief = ("reward.length._target_=kamerton.objective.rewards.length", "reward.length.most=3")
    objective, rewards = draw.choice(("grpo", "rloo")), draw.choice((given("right"), (*given("right"), *brief)))
    typed = (f"objective={objective}", f"optimizer.lr={draw.choice((3e-5, 1e-4, 3e-4))}", steps)
    return Cause((*typed, f"objective.kl_weight={draw.choice((0, 0.04))}", *rewards))


def plain(folder: Path, numbers: Sequence[int]) -> bool:
    false, true, happened, found = [], 0, Counter[str](), Counter[str]()
    for number in numbers:
        cause = sensible(number)
        degrees, reported, text = judge(folder, f"plain-{number}", number % 6, cause)
        print(f"plain {number}: {reported} {cause.typed} {text}", file=sys.stderr, flush=True)
        real = {code for code, degree in degrees.items() if degree >= 1}
        happened.update(real)
        found.update(real & reported.keys())
        wrong = {code for code in reported if degrees.get(code, 0) < 0.5}
        true += bool(reported) and not wrong
        if wrong:
            false.append((number, sorted(wrong), cause.typed, text))
    print(f"{len(false)} of {len(numbers)} plain runs with a false report; {true} with reports of what happened")
    for code, count in happened.items():
        print(f"{code}: {found[code]} of {count} found in plain runs")
    for entry in false:
        print("  ", *entry)
    return len(false) <= max(1, len(numbers) // 60)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--first", type=int, default=0, help="the first seed, and the first plain run")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--plain", type=int, default=60)
    parser.add_argument("--only", help="causes, with semicolons")
    parser.add_argument("--work", type=Path, help="keep the runs here, and do not repeat those that are there")
    options = parser.parse_args()
    chosen = [kind for kind in CAUSES if not options.only or kind in options.only.split(";")]
    quiet_training()
    with tempfile.TemporaryDirectory() as name:
        folder = options.work or Path(name)
        folder.mkdir(exist_ok=True)
        os.environ["KAMERTON_CACHE"] = f"{folder}/cache"
        good = planted(folder, chosen, range(options.first, options.first + options.seeds))
        good &= plain(folder, range(options.first, options.first + options.plain))
    sys.exit(not good)


if __name__ == "__main__":
    main()
