"""The directory of a run on rewards with made-up numbers, written as a real run writes it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from kamerton.score.metrics import compute
from kamerton.score.table import scores_table
from support.synthetic import record, write_config, write_scores

STEPS = 40


def answers(right: float, rows: int = 60, *, parts: bool = True, seed: int = 0, text: str = "") -> pa.Table:
    """A score table of generated answers, about a share `right` of them right; `parts`: with two rewards."""
    draw = np.random.default_rng(seed)
    is_right = draw.random(rows) < right
    lines = [
        {
            "example_id": f"{i:016x}",
            "prompt": f"What is {i} + {i}? {text}",
            "target": str(2 * i),
            "prediction": f"{2 * i if is_right[i] else 2 * i + 1} {text}".strip(),
            "nll": float(draw.exponential()),
            "target_tokens": 3,
            "correct_tokens": int(is_right[i]) * 3,
            "metadata": "{}",
            "finish_reason": "stop",
        }
        for i in range(rows)
    ]
    number, length = is_right.astype(float), draw.choice([0.0, 0.5, 1.0], rows)
    columns = {"reward": number + 0.2 * length if parts else number}
    columns |= {"reward_number": number, "reward_length": length} if parts else {}
    table = scores_table(lines, None)
    for name, values in columns.items():
        table = table.append_column(pa.field(f"metric:{name}", pa.float64()), pa.array(values))
    return table


def sample(step: int, example: int, number: int, reward: float, text: str = "") -> dict[str, Any]:
    """A line of `samples.jsonl`."""
    return {
        "step": step,
        "example_id": f"{example:016x}",
        "number": number,
        **({} if number else {"prompt": f"question of example {example} {text}".strip()}),
        "completion": f"answer {number} of step {step} {text}".strip(),
        "finish_reason": "length" if number == 1 else "stop",
        "tokens": 5 + number,
        "reward": reward,
        "rewards": {"number": reward, "length": 0.5},
    }


def write_reward_run(outputs: Path, tuned: pa.Table, base: pa.Table | None = None, *, text: str = "") -> Path:
    """The directory of a finished run on the rewards `number` and `length`."""
    run = outputs / "sums" / "grpo0001"
    run.mkdir(parents=True)
    (run / "run.json").write_text(
        json.dumps(record(run_id="grpo0001", experiment="sums", metrics={"test": compute(tuned)}))
    )
    (run / "events.jsonl").write_text("")
    config = {"model": {"name": "tiny"}, "objective": {"name": "grpo"}, "reward": {"number": {"weight": 1.0}}}
    write_config(run, config, ["objective=grpo"])
    names = ("loss", "reward", "reward_number", "reward_length", "reward_spread", "no_signal", "length", "truncated")
    lines = [",".join(["step", *(f"train/{name}" for name in (*names, "entropy", "kl")), "lr", "val/loss,val/reward"])]
    for step in range(1, STEPS + 1):
        done = 1 - math.exp(-step / 15)
        values = [1e-4, 0.2 + 0.7 * done, 0.1 + 0.7 * done, 0.5, 0.3, 0.2 + 0.3 * done, 12 - 4 * done, 0.1, 2 - done]
        lines.append(",".join([str(step), *(f"{value:.4f}" for value in [*values, 0.1 * done]), "0.001,,"]))
        if step % 10 == 0:
            lines.append(f"{step}{',' * 11},{1.2 + done:.3f},{0.25 + 0.6 * done:.3f}")
    (run / "metrics.csv").write_text("\n".join(lines) + "\n")
    rows = [
        sample(step, 4 * step + example, number, float((step + example + number) % 3 == 0), text)
        for step in range(STEPS)
        for example in range(4)
        for number in range(3)
    ]
    (run / "samples.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    write_scores(run, "test", tuned)
    if base is not None:
        write_scores(run, "base", base)
    return run
