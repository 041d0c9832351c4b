"""What a run knows of its preferences before training: scores, and log-probabilities by the reference."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from rich.console import Console

from kamerton.assets import cache_dir
from kamerton.config.schema import Config
from kamerton.console import count_bar
from kamerton.data.encode.arrays import Encoded
from kamerton.objective.judgements import JudgedRows
from kamerton.objective.pair_loss import WITHOUT_REFERENCE
from kamerton.score.evaluate import score_split, scoring
from kamerton.score.pairs import preference_rows
from kamerton.train.layouts import EncodedExamples
from kamerton.train.objectives.mismatched import Mismatched
from kamerton.train.reference import reference_logprobs
from kamerton.train.step_preferences import Rows


def find_preferences(
    config: Config, model: Any, encoded: dict[str, Encoded], tokenizer: Any, console: Console
) -> dict[str, Rows]:
    """Return the preferences of each split; empty for supervised fine-tuning.

    `model` is the reference: the model as it is before training.
    """
    name = config.objective.name
    if name == "sft" or config.objective.generates:
        return {}
    rows: dict[str, Rows] = {}
    total = sum(len(data) * (2 if name == "kto" and split != "test" else 1) for split, data in encoded.items())
    with count_bar(console, "log-probabilities by the reference", total) as advance:

        def logprobs(data: EncodedExamples, fingerprint: str) -> npt.NDArray[np.float64]:
            return reference_logprobs(
                model,
                data,
                fingerprint,
                cache=cache_dir() / "data",
                max_tokens=int(config.batch.max_tokens),
                packing=config.batch.cut,
                pad=tokenizer.pad_token_id,
                precision=str(config.trainer.get("precision")),
                progress=advance,
            )

        for split, data in encoded.items():
            if split != "test":
                rows[split] = _rows(name, data, logprobs)
                continue
            # As scores, so that rewards of the test split are those of `kamerton evaluate` to the last digit.
            reference = np.zeros(len(data))
            if name not in WITHOUT_REFERENCE:
                reference = -_scored(config, model, data, tokenizer, advance)["nll"].to_numpy()
            pairs = preference_rows(data, reference)
            rows[split] = JudgedRows(pairs, np.zeros(len(data))) if name == "kto" else pairs
    return rows


def _scored(config: Config, model: Any, data: Encoded, tokenizer: Any, advance: Callable[[int], None]) -> pa.Table:
    """Return the score table of the completions by the reference."""
    return score_split(
        model,
        tokenizer,
        data,
        labels=None,
        options=scoring(config),
        max_tokens=int(config.batch.max_tokens),
        packing=config.batch.cut,
        partial=None,
        device=model.device,
        progress=advance,
    )


def _rows(name: str, data: Encoded, logprobs: Callable[[EncodedExamples, str], npt.NDArray[np.float64]]) -> Rows:
    """Return the preferences of a split for the objective `name`."""
    fingerprint = f"{data.fingerprint} {data.examples.fingerprint}"
    reference = np.zeros(len(data)) if name in WITHOUT_REFERENCE else logprobs(data, fingerprint)
    rows = preference_rows(data, reference)
    if name != "kto":
        return rows
    return JudgedRows(rows, logprobs(Mismatched(data, data.starts), f"{fingerprint} mismatched"))
