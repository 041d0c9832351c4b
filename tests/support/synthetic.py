"""Score tables and a run directory with made-up numbers, written as a real run writes them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from kamerton.objective.pairs import PreferenceRows
from kamerton.score.metrics import compute
from kamerton.score.pairs import pairs_table
from kamerton.score.table import scores_table

LABELS = ["ABBR", "DESC", "ENTY", "HUM", "LOC", "NUM"]


def scores(accuracy: float, rows: int = 200, *, labelled: bool = True, seed: int = 0) -> pa.Table:
    """A score table with about `accuracy` right rows; the examples are the same for every `seed`."""
    truth = np.random.default_rng(99).integers(len(LABELS), size=rows)
    generator = np.random.default_rng(seed)
    lines = []
    for i, label in enumerate(truth):
        right = generator.random() < accuracy
        logits = generator.normal(size=len(LABELS))
        logits[label] += 6.0 if right else -1.0
        logprobs = logits - math.log(np.exp(logits).sum())
        guess = int(logits.argmax())
        line = {
            "example_id": f"{i:016x}",
            "prompt": f"Who was climber number {i} of the mountain of questions, and why?",
            "target": LABELS[label],
            "prediction": LABELS[guess],
            "nll": float(-logprobs[label] + 0.1),
            "target_tokens": 3,
            "correct_tokens": 3 if guess == label else 2,
            "metadata": "{}",
        }
        if labelled:
            line |= {
                "label": LABELS[label],
                "predicted_label": LABELS[guess],
                "label_logprobs": logprobs.tolist(),
            }
        lines.append(line)
    return scores_table(lines, LABELS if labelled else None)


def write_scores(run: Path, name: str, table: pa.Table) -> None:
    (run / "scores").mkdir(exist_ok=True)
    pq.write_table(table, run / "scores" / f"{name}.parquet")


def record(**changes: Any) -> dict[str, Any]:
    """The content of run.json."""
    return {
        "state": "succeeded",
        "run_id": "ab12cd34",
        "experiment": "trec",
        "provider": "local",
        "times": {
            "created": "2026-11-22T08:00:00+00:00",
            "started": "2026-11-22T08:00:05+00:00",
            "finished": "2026-11-22T08:05:17+00:00",
        },
        "pid": 4242,
        "heartbeat": "2026-11-22T08:05:17+00:00",
        "progress": {"epoch": 1.0, "step": 300, "steps": 300, "examples": {"processed": 2400, "total": 2400}},
        "metrics": {
            "train": {"loss": 0.31, "token_accuracy": 0.93},
            "validation": {"loss": 0.42, "perplexity": 1.522, "token_accuracy": 0.91},
            "best": {"loss": 0.41, "step": 250},
        },
        "model": {"name": "SmolLM2-135M-Instruct", "parameters": 134515008, "trainable_parameters": 460800},
        "data": {
            "fingerprint": "9f3c2b7a",
            "counts": {"train": 3765, "validation": 807, "test": 807},
            "report": {
                "rows_read": 15452,
                "duplicates_removed": 10073,
                "distinct": 5379,
                "label_distribution": {
                    "train": {"ABBR": 60, "DESC": 800, "ENTY": 860},
                    "test": {"ABBR": 13, "DESC": 180, "ENTY": 190},
                },
            },
        },
        "versions": {"kamerton": "0.1.0", "torch": "2.13.0", "transformers": "5.17.0"},
        "git": {"commit": "77f518d0a1b2c3d4", "dirty": True},
        "seed": 0,
        "trial": None,
        "parent": None,
        "error": None,
        "throughput": {"examples_per_s": 8.71, "tokens_per_s": 412.3},
    } | changes


def write_curves(run: Path, steps: int = 300, *, validation: bool = True) -> None:
    generator = np.random.default_rng(0)
    lines = ["step,epoch,train/loss,train/grad_norm,lr,val/loss,val/perplexity"]
    for step in range(1, steps + 1):
        loss = 0.3 + 2.2 * math.exp(-step / 40) + 0.12 * generator.random()
        rate = 1e-3 * min(step / 30, 1) * (1 - step / (steps + 1))
        lines.append(f"{step},{step / steps:.4f},{loss:.5f},1.0,{rate:.3g},,")
        if validation and step % 50 == 0:
            lines.append(f"{step},{step / steps:.4f},,,,{0.4 + 2 * math.exp(-step / 40):.5f},1.5")
    (run / "metrics.csv").write_text("\n".join(lines) + "\n")


def write_config(run: Path, config: dict[str, Any], overrides: list[str]) -> None:
    (run / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    (run / "overrides.yaml").write_text(yaml.safe_dump(overrides))


EVENTS = [
    {
        "time": "2026-11-22T08:00:06+00:00",
        "level": "info",
        "code": "data_ready",
        "message": "Data are ready.",
    },
    {
        "time": "2026-11-22T08:03:00+00:00",
        "level": "warn",
        "code": "loss_spike",
        "message": "The loss rose to 2.10.",
        "evidence": {"step": 140, "loss": 2.1},
        "advice": "Lower optimizer.lr.",
    },
]


def write_run(outputs: Path, **changes: Any) -> Path:
    run = outputs / "trec" / "ab12cd34"
    run.mkdir(parents=True)
    (run / "run.json").write_text(json.dumps(record(**changes)))
    (run / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in EVENTS))
    config = {
        "model": {"name": "smollm2"},
        "optimizer": {"lr": 0.001},
        "batch": {"size": 8, "max_tokens": 2048},
    }
    write_config(run, config, ["optimizer.lr=0.001", "seed=0"])
    write_curves(run)
    write_scores(run, "test", scores(0.9, seed=1))
    write_scores(run, "base", scores(0.1, seed=2))
    return run


def pairs(
    shift: float,
    rows: int = 60,
    *,
    seed: int = 0,
    noise: float = 1.0,
    drop: float = 0.0,
    beta: float = 0.1,
    reference: bool = True,
) -> pa.Table:
    """Scores of pairs, the same ones with the same reference for every `seed`.

    Against the reference, chosen completions have gained `shift` nats over rejected ones on average, and both have lost
    `drop`; without `noise` all pairs alike.
    """
    draw = np.random.default_rng(99)
    tokens = draw.integers(4, 40, 2 * rows).astype(np.int32)
    before = -1.5 * tokens + draw.normal(size=2 * rows)
    gained = np.tile([shift / 2, -shift / 2], rows) + noise * np.random.default_rng(seed).normal(size=2 * rows)
    lines = [
        {
            "example_id": f"{i:016x}",
            "prompt": f"Question number {i // 2}: what is <b>best</b>?",
            "target": f"answer {i} " * int(tokens[i] // 2),
            "nll": float(drop - before[i] - gained[i]),
            "target_tokens": int(tokens[i]),
            "correct_tokens": 1,
            "metadata": "{}",
        }
        for i in range(2 * rows)
    ]
    scored = np.tile([1.0, 0.0], rows)
    preferences = PreferenceRows(scored, before, tokens, np.arange(0, 2 * rows, 2), np.ones(rows))
    return pairs_table(scores_table(lines, None), preferences, beta=beta, reference=reference)


def write_pair_run(outputs: Path, tuned: pa.Table, base: pa.Table | None = None, name: str = "pair0001") -> Path:
    """The directory of a finished run of preferences."""
    run = outputs / "pairs" / name
    run.mkdir(parents=True)
    (run / "run.json").write_text(json.dumps(record(run_id=name, experiment="pairs", metrics={"test": compute(tuned)})))
    (run / "events.jsonl").write_text("")
    config = {"model": {"name": "smollm2"}, "data": {"name": "pairs", "rows": "preferences", "path": "pairs.jsonl"}}
    write_config(
        run, {**config, "objective": {"name": "dpo", "beta": 0.1}, "seed": 0, "ema_decay": name}, ["objective=dpo"]
    )
    lines = ["step,train/loss,train/margin,train/reward_chosen,train/reward_rejected,lr,val/loss,val/reward_chosen"]
    for step in range(1, 81):
        value = 1 - math.exp(-step / 30)
        lines.append(f"{step},{0.69 - 0.5 * value:.4f},{value:.4f},{0.4 * value:.4f},{-0.6 * value:.4f},0.001,,")
        if step % 20 == 0:
            lines.append(f"{step},,,,,,{0.7 - 0.4 * value:.4f},{0.3 * value:.4f}")
    (run / "metrics.csv").write_text("\n".join(lines) + "\n")
    write_scores(run, "test", tuned)
    if base is not None:
        write_scores(run, "base", base)
    return run
