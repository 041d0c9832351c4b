"""From a micro-batch of encoded examples to the tensors of a forward pass."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from kamerton.model.loss import PaddedRows, build_padded
from kamerton.model.tree import TreeRow, build_row
from kamerton.objective.sequences import EncodedExamples
from kamerton.plan.packing import MicroBatch, Packing

Layout = TreeRow | PaddedRows


def layout(data: EncodedExamples, micro: MicroBatch, *, packing: Packing, pad: int) -> Layout:
    """Return the tensors of one micro-batch."""
    sequences = [data.tokens(example) for example in micro.examples]
    targets = [data.targets(example) for example in micro.examples]
    if packing == "padded":
        return build_padded(sequences, targets, pad=pad)
    return build_row(sequences, targets, share=packing == "tree")


def input_lengths(data: EncodedExamples) -> npt.NDArray[np.int32]:
    """Return how many tokens of each example run through the model: all but the last, which predicts nothing."""
    return np.maximum(data.lengths - 1, 1)
