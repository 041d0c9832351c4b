"""The monitor on preferences: faults planted into runs of the tiny model, and plain runs without any.

    python scripts/bench/monitor_preferences.py [--seeds 5] [--plain 60] [--only KIND,…] [--work DIR]

As `monitor.py`: a planted fault counts as found if its code is reported before half of the rest of the run after it
began; anything reported in a plain run is a false alarm. Prints a Markdown table and exits with 1 if fewer than 95 %
are found, or more than one plain run in 60 has a report.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kamerton.quiet import quiet_training
from monitor import issues, run

Rows = dict[str, list[dict[str, Any]]]
WORDS = ("wren walks", "xeno yells", "yarn zooms", "zinc waits")


@dataclass
class Plant:
    """A kind of fault: its code, what is typed, the rows, and the share of the run after which it can be seen."""

    code: str
    overrides: tuple[str, ...]
    rows: Callable[[random.Random], Rows]
    since: float = 0.0


def pairs(draw: random.Random, count: int = 320, noise: float = 0.1, labels: int = 4) -> list[dict[str, Any]]:
    """The letter at the end of a prompt decides which word is better; a share `noise` is the wrong way round."""
    rows = []
    for number in range(count):
        label = draw.randrange(labels)
        good, bad = WORDS[label], WORDS[(label + draw.randrange(1, labels)) % labels]
        if draw.random() < noise:
            good, bad = bad, good
        rows.append({"prompt": f"{number} {'ABCD'[label] * 8}", "chosen": good, "rejected": bad})
    return rows


def judged(draw: random.Random, count: int = 320, noise: float = 0.1) -> list[dict[str, Any]]:
    """The same, each completion judged alone."""
    rows = []
    for row in pairs(draw, count, noise):
        side = draw.choice(("chosen", "rejected"))
        rows.append({"prompt": row["prompt"], "completion": row[side], "label": side == "chosen"})
    return rows


def both(make: Callable[..., list[dict[str, Any]]], draw: random.Random, **options: Any) -> Rows:
    return {"train": make(draw, **options), "validation": make(draw, **{**options, "count": 48})}


def text(draw: random.Random, size: int) -> str:
    return "".join(draw.choice("abcdefgh ") for _ in range(size)).strip() or "a"


def trivial(draw: random.Random, count: int = 320) -> list[dict[str, Any]]:
    """One answer is always better."""
    return [
        {"prompt": f"{number} {text(draw, 9)}", "chosen": "yes indeed", "rejected": "no"} for number in range(count)
    ]


PLANTS = {
    "random preferences": Plant(
        "no-preference", ("objective=dpo",), lambda draw: both(pairs, draw, count=1280, noise=0.5), 0.5
    ),
    "random judgements": Plant(
        "no-preference", ("objective=kto",), lambda draw: both(judged, draw, count=1280, noise=0.5), 0.5
    ),
    "one answer is better": Plant("margin-saturated", ("objective=dpo",), lambda draw: both(trivial, draw)),
}
PLAIN = ("dpo", "dpo", "ipo", "apo", "kto", "simpo", "orpo")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--plain", type=int, default=60)
    parser.add_argument("--only", help="kinds of faults, with commas")
    parser.add_argument("--work", type=Path, help="keep the runs here")
    options = parser.parse_args()
    chosen = options.only.split(",") if options.only else list(PLANTS)
    quiet_training()
    with tempfile.TemporaryDirectory() as name:
        folder = options.work or Path(name)
        folder.mkdir(exist_ok=True)
        os.environ["KAMERTON_CACHE"] = f"{folder}/cache"
        good = planted(folder, chosen, options.seeds) & plain(folder, options.plain)
    sys.exit(not good)


def planted(folder: Path, chosen: list[str], seeds: int) -> bool:
    print("| planted | code | found in time | at step | also reported |\n| --- | --- | --- | --- | --- |")
    hits = total = 0
    for kind in chosen:
        plant, steps, also = PLANTS[kind], list[int | None](), set[str]()
        for seed in range(seeds):
            name = f"{list(PLANTS).index(kind)}-{seed}"
            path = run(folder, name, [f"seed={seed}", *plant.overrides], plant.rows(random.Random(seed)), None)
            length = json.loads((path / "run.json").read_text())["progress"]["steps"]
            latest = length * (1 + plant.since) / 2
            reported = issues(path)
            steps.append(min((step for code, step in reported if code == plant.code and step <= latest), default=None))
            also |= {f"{code} at {step}" for code, step in reported if code != plant.code}
        count = sum(step is not None for step in steps)
        hits, total = hits + count, total + seeds
        cells = kind, plant.code, f"{count} of {seeds}", ", ".join(map(str, steps)), ", ".join(sorted(also))
        print(f"| {' | '.join(cells)} |", flush=True)
    print(f"\n{hits} of {total} found in time ({hits / max(1, total):.0%})\n", flush=True)
    return hits >= 0.95 * total


def plain(folder: Path, count: int) -> bool:
    """Objectives, learning rates, batch sizes, shares of wrong preferences and adapters of all sorts."""
    accused = []
    for number in range(count):
        draw = random.Random(number)
        objective, noise = PLAIN[number % len(PLAIN)], draw.choice((0.05, 0.1, 0.2))
        rows = both(judged, draw, noise=noise) if objective == "kto" else both(pairs, draw, noise=noise)
        typed = [f"seed={number}", f"objective={objective}", f"optimizer.lr={draw.choice((3e-4, 1e-3))}"]
        typed += [f"batch.size={draw.choice((8, 16))}", f"scheduler={draw.choice(('linear', 'cosine'))}"]
        if objective in ("dpo", "apo", "kto"):
            typed.append(f"objective.beta={draw.choice((0.1, 0.3))}")
        reported = issues(run(folder, f"plain-{number}", typed, rows, None))
        if reported:
            accused.append((typed, noise, reported))
    print(f"{len(accused)} of {count} plain runs with a report")
    for entry in accused:
        print("  ", *entry)
    return len(accused) <= max(1, count // 60)


if __name__ == "__main__":
    main()
