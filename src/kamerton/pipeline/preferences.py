"""What a run knows of its preferences before training: scores, and log-probabilities by the reference."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from rich.console import Console

from kamerton.assets import cache_dir
from kamerton.config.schema import Config
from kamerton.console import count_bar
from kamerton.data.encode.arrays import Encoded
from kamerton.model.switches import precision_of
from kamerton.objective.judgements import JudgedRows
from kamerton.objective.pair_loss import WITHOUT_REFERENCE
from kamerton.objective.sequences import EncodedExamples, Mismatched
from kamerton.run.distributed import broadcast, rank_info, receive
from kamerton.score.evaluate import score_mismatched, score_split, scoring
from kamerton.score.preferences import preference_rows
from kamerton.train.reference import reference_logprobs, weights_fingerprint
from kamerton.train.step_preferences import Rows

LogProbs = Callable[[EncodedExamples, str], npt.NDArray[np.float64]]


def find_preferences(
    config: Config, model: Any, encoded: dict[str, Encoded], tokenizer: Any, console: Console
) -> tuple[dict[str, Rows], pa.Table | None]:
    """Return the preferences of each split (empty for supervised fine-tuning), and the test scores of the reference.

    `model` is the reference: the model as it is before training. Training and validation run in the precision of the
    trainer, and so does the reference for them. The test split is scored without autocast, by the reference as by the
    trained model: its rewards are those of `kamerton evaluate` to the last digit. The scores are None without a test
    split or a reference.
    """
    name = config.objective.name
    if name == "sft" or config.objective.generates:
        return {}, None
    total = sum(map(len, encoded.values())) * (2 if name == "kto" else 1)
    with count_bar(console, "log-probabilities by the reference", total) as advance:
        logprobs = None if name in WITHOUT_REFERENCE else _logprobs(config, model, tokenizer, advance)
        with _rank_0_first() if logprobs else nullcontext():
            rows = {split: _rows(name, data, logprobs) for split, data in encoded.items() if split != "test"}
        if "test" not in encoded:
            return rows, None
        data, scores = encoded["test"], None
        reference = np.zeros(len(data))
        if logprobs is not None:
            options, passes = scoring(config), _passes(config, model, advance)
            scores = score_split(model, tokenizer, data, labels=None, options=options, partial=None, **passes)
            reference = -scores["nll"].to_numpy()
        pairs = preference_rows(data, reference)
        rows["test"] = pairs
        if name == "kto":
            others = score_mismatched(model, tokenizer, data, **_passes(config, model, advance))
            rows["test"] = JudgedRows(pairs, others)
    return rows, scores


@contextmanager
def _rank_0_first() -> Iterator[None]:
    """Run the block on rank 0 before the other ranks that a launcher started, which then read what it has cached.

    They would compute the same at the same time, on a CPU: their devices are set up when training starts.
    """
    here = rank_info()
    if here.rank > 0 and here.launcher:
        receive()
    try:
        yield
    finally:
        if here.rank == 0 and here.world_size > 1:
            broadcast("the reference is cached")


def _logprobs(config: Config, model: Any, tokenizer: Any, advance: Callable[[int], None]) -> LogProbs:
    """Return the function from data and their fingerprint to the log-probabilities of their sequences by `model`."""
    weights = weights_fingerprint(model)

    def logprobs(data: EncodedExamples, fingerprint: str) -> npt.NDArray[np.float64]:
        return reference_logprobs(
            model,
            data,
            f"{weights} {fingerprint}",
            cache=cache_dir() / "data",
            max_tokens=int(config.batch.max_tokens),
            packing=config.batch.cut,
            pad=tokenizer.pad_token_id,
            precision=precision_of(config.trainer),
            progress=advance,
        )

    return logprobs


def _passes(config: Config, model: Any, advance: Callable[[int], None]) -> dict[str, Any]:
    """Return how scores are computed, as arguments."""
    batch = config.batch
    return {
        "max_tokens": int(batch.max_tokens),
        "packing": batch.cut,
        "device": model.device,
        "progress": advance,
    }


def _rows(name: str, data: Encoded, logprobs: LogProbs | None) -> Rows:
    """Return the preferences of a split for the objective `name`; `logprobs` is None without a reference."""
    if logprobs is None:
        return preference_rows(data, np.zeros(len(data)))
    fingerprint = f"{data.fingerprint} {data.examples.fingerprint}"
    rows = preference_rows(data, logprobs(data, fingerprint))
    if name != "kto":
        return rows
    return JudgedRows(rows, logprobs(Mismatched(data, data.starts), f"{fingerprint} mismatched"))
