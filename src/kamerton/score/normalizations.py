"""What a scores table of labels answers under every `score.normalization`; nothing is scored again.

The table holds each label's log-probability, and its schema metadata under `LABEL_TOKENS` how many tokens each label
has. Tables of earlier versions lack that: there a label is as long as the `target_tokens` of its rows, which also
count what a template writes after the end of turn.
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
    """Each row's likeliest label, as a position in `labels_of(table)`, under `sum`, `token` and `byte`.

    Those that the table cannot tell are left out: all without every log-probability, or of a baseline that is no
    language model (no `nll`); `token` where the length of a label is unknown.
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
    """How many tokens each label has, in the order of `label_logprobs`; None where that of one is unknown."""
    metadata = table.schema.metadata or {}
    if LABEL_TOKENS in metadata:
        return np.array(json.loads(metadata[LABEL_TOKENS]), np.int64)
    truth, _ = label_indices(table)
    sizes = np.zeros(len(table["label_logprobs"][0]), np.int64)
    known = (truth >= 0) & (truth < len(sizes))
    sizes[truth[known]] = table["target_tokens"].to_numpy()[known]
    return sizes if sizes.all() else None
