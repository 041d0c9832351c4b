"""Answers of a scores table of labels under every `score.normalization`, without scoring again.

The table holds each label's log-probability, and its schema metadata under `LABEL_TOKENS` the number of tokens of each
label. Tables of earlier versions lack the latter: a label's length is then the `target_tokens` of its rows, which also
count tokens that a template writes after the end of turn.
"""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from kamerton.score.columns import label_indices, labels_of

LABEL_TOKENS = b"label_tokens"


def answers_by_normalization(table: pa.Table) -> dict[str, NDArray[np.int64]]:
    """Return each row's most likely label, as a position in `labels_of(table)`, under `sum`, `token` and `byte`.

    Normalizations that cannot be computed are left out: all of them if a log-probability is missing or the scorer is
    not a language model (no `nll`), `token` if the length of a label is unknown.
    """
    logprobs = table["label_logprobs"]
    if not table.num_rows or logprobs.null_count or table["nll"].null_count:
        return {}
    values = pc.list_flatten(logprobs).to_numpy().reshape(table.num_rows, -1)
    labels = labels_of(table)[: values.shape[1]]
    sizes_in_bytes = [len(label.encode()) for label in labels]
    lengths = {"sum": np.ones(len(labels)), "token": label_tokens(table), "byte": sizes_in_bytes}
    return {
        name: (values / np.maximum(sizes, 1)).argmax(axis=1) for name, sizes in lengths.items() if sizes is not None
    }


def label_tokens(table: pa.Table) -> NDArray[np.int64] | None:
    """Return the number of tokens of each label, in the order of `label_logprobs`; None if one is unknown."""
    metadata = table.schema.metadata or {}
    if LABEL_TOKENS in metadata:
        return np.array(json.loads(metadata[LABEL_TOKENS]), np.int64)
    truth, _ = label_indices(table)
    sizes = np.zeros(len(table["label_logprobs"][0]), np.int64)
    labelled = (truth >= 0) & (truth < len(sizes))
    sizes[truth[labelled]] = table["target_tokens"].to_numpy()[labelled]
    return sizes if sizes.all() else None
