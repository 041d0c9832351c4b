"""The monitor on preferences: faults planted into runs of the tiny model, and plain runs without any.

    python scripts/bench/monitor_preferences.py [--seeds 5] [--plain 60] [--only KIND,…] [--work DIR]

As `monitor.py`: a planted fault counts as found if its code is reported before half of the rest of the run after it
began; anything reported in a plain run is a false alarm. Prints a Markdown table and exits with 1 if fewer than 95 %
are found, or more than one plain run in 60 has a report.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from monitor import BEGIN, Plant, command_line, few, issues, judge_run, run

Rows = dict[str, list[dict[str, Any]]]
WORDS = ("wren walks", "xeno yells", "yarn zooms", "zinc waits")


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
        ("no-preference",),
        ("objective=dpo",),
        lambda draw: both(pairs, draw, count=1280, noise=0.5),
        since=BEGIN,
    ),
    "random judgements": Plant(
        ("no-preference",),
        ("objective=kto",),
        lambda draw: both(judged, draw, count=1280, noise=0.5),
        since=BEGIN,
    ),
    "one answer is better": Plant(("margin-saturated",), ("objective=dpo",), lambda draw: both(trivial, draw)),
}
PLAIN = ("dpo", "dpo", "ipo", "apo", "kto", "simpo", "orpo")


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
    return few(accused, count)


if __name__ == "__main__":
    command_line(__doc__, PLANTS, judge_run, plain)
