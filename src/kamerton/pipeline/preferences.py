"""What a run knows of its preferences before training: scores, and log-probabilities by the reference."""

from __future__ import annotations

from typing import Any

import numpy as np
from rich.console import Console

from kamerton.assets import cache_dir
from kamerton.config.schema import Config
from kamerton.console import count_bar
from kamerton.data.encode.arrays import Encoded
from kamerton.objective.pair_loss import WITHOUT_REFERENCE
from kamerton.objective.pairs import PreferenceRows
from kamerton.train.reference import reference_logprobs


def find_preferences(
    config: Config, model: Any, encoded: dict[str, Encoded], tokenizer: Any, console: Console
) -> dict[str, PreferenceRows]:
    """Return the preferences of each split; empty for supervised fine-tuning.

    `model` is the reference: the model as it is before training.
    """
    if config.objective.name == "sft":
        return {}
    total = sum(map(len, encoded.values()))
    rows = {}
    with count_bar(console, "log-probabilities by the reference", total) as advance:
        for name, data in encoded.items():
            reference = np.zeros(len(data))
            if config.objective.name not in WITHOUT_REFERENCE:
                reference = reference_logprobs(
                    model,
                    data,
                    cache=cache_dir() / "data",
                    max_tokens=int(config.batch.max_tokens),
                    packing=config.batch.cut,
                    pad=tokenizer.pad_token_id,
                    precision=str(config.trainer.get("precision")),
                    progress=advance,
                )
            rows[name] = preference_rows(data, reference)
    return rows


def preference_rows(data: Encoded, reference: np.ndarray) -> PreferenceRows:
    """Return the preferences of a split."""
    scores = np.array([float(example.score or 0.0) for example in data.examples])
    weights = np.ones(len(data.starts)) if data.weights is None else data.weights[data.starts]
    return PreferenceRows(scores, reference, data.target_counts, data.starts, weights)
