"""Convert an endpoint's reports of a job to a run's formats: rows of `metrics.csv`, metrics by split."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from kamerton.files import write_text

Rows = dict[int, dict[str, float]]  # by optimizer step

COMPARED = ("preference_accuracy", "margin", "reward_chosen", "reward_rejected", "logprob_chosen", "logprob_rejected")
REWARDED = ("reward_spread", "no_signal", "truncated", "entropy")
# OpenAI's names. `valid_*` are of a part of the validation file, `full_valid_*` of all of it at the end of an epoch.
# The metrics of preferences and `REWARDED` are those of `kamerton serve`.
_NAMES = {
    "train_loss": "train/loss",
    "train_mean_token_accuracy": "train/token_accuracy",
    "train_accuracy": "train/token_accuracy",
    "learning_rate": "lr",
    "valid_loss": "val_part/loss",
    "valid_mean_token_accuracy": "val_part/token_accuracy",
    "full_valid_loss": "val/loss",
    "full_valid_mean_token_accuracy": "val/token_accuracy",
    "train_mean_reward": "train/reward",
    "full_valid_mean_reward": "val/reward",
    "completion_tokens_mean": "train/length",
    **{f"train_{name}": f"train/{name}" for name in (*COMPARED, *REWARDED)},
    **{f"full_valid_{name}": f"val/{name}" for name in COMPARED},
}
_MAX_LOSS = 700.0  # exp of more overflows


def metric_row(data: Mapping[str, Any], *, likelihood: bool = True) -> dict[str, float]:
    """Return the metrics of one step under the names that every run has, without non-finite values.

    `likelihood`: the loss is that of tokens, so that its exponential is the perplexity.
    """
    row = {
        _NAMES[key]: float(value)
        for key, value in data.items()
        if key in _NAMES and isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    }
    perplexities = {
        key.replace("loss", "perplexity"): math.exp(value)
        for key, value in row.items()
        if likelihood and key in ("train/loss", "val/loss") and value < _MAX_LOSS
    }
    return row | perplexities


def step_of(data: object) -> int | None:
    """Return the step of an event's data; None if they have none."""
    step = data.get("step") if isinstance(data, Mapping) else None
    return int(step) if isinstance(step, int | float) and not isinstance(step, bool) and step > 0 else None


def merge(rows: Rows, logged: Iterable[tuple[int, Mapping[str, float]]]) -> bool:
    """Add logged metrics by step to `rows`; return whether anything is new."""
    before = {step: dict(row) for step, row in rows.items()}
    for step, row in logged:
        if row:
            rows[step] = {**rows.get(step, {}), **row}
    return rows != before


def write_rows(path: Path, rows: Rows, steps_per_epoch: float) -> None:
    """Replace `metrics.csv`, the steps in order."""
    columns = ["step", "epoch", *dict.fromkeys(key for row in rows.values() for key in row if key != "epoch")]
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, restval="", lineterminator="\n")
    writer.writeheader()
    for step in sorted(rows):
        writer.writerow({**rows[step], "step": step, "epoch": round(step / steps_per_epoch, 4)})
    write_text(path, buffer.getvalue())


def latest(rows: Rows) -> dict[str, dict[str, float]]:
    """Return the metrics by split: the latest of training and validation, and the best validation, by its reward or, if
    it has none, its loss.
    """
    metrics: dict[str, dict[str, float]] = {}
    for step in sorted(rows):
        for split, prefix in (("train", "train/"), ("validation", "val/")):
            values = {key.removeprefix(prefix): value for key, value in rows[step].items() if key.startswith(prefix)}
            if not values:
                continue
            metrics[split] = {"step": step, **values} if split == "validation" else values
            if split == "validation" and _badness(values) < _badness(metrics.get("best", {})):
                metrics["best"] = metrics[split]
    return metrics


def _badness(values: Mapping[str, float]) -> float:
    return -values["reward"] if "reward" in values else values.get("loss", math.inf)
