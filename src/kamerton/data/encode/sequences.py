"""The sequences of a view's examples in the token arrays: one of each, its trained turns, or windows of a long text."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kamerton.data.encode.token_cache import TokenArrays
from kamerton.data.parts import ALTERNATIVE
from kamerton.data.store import Examples, Index

Mask = npt.NDArray[np.bool_]
Lengths = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Sequences:
    """Where the sequences of `examples` are in the arrays: all [sequences], in the order of the examples.

    `source` is the number of the example in the view, `position` its position in the pool, `counts` the number of
    targets, `weights` their weight in the loss (None: 1).
    """

    examples: Examples
    source: Index
    position: Index
    begins: Index
    lengths: Lengths
    counts: Lengths
    weights: npt.NDArray[np.float64] | None

    @property
    def first_of_row(self) -> Mask:
        """The mask of the first sequence of each row, for what is reported once."""
        is_first = np.zeros(len(self.position), bool)
        is_first[np.unique(self.position, return_index=True)[1]] = True
        return is_first

    @property
    def first_of_part(self) -> Mask:
        """The mask of sequences without those of a repeated row."""
        if self.examples.parts is None:
            return self.first_of_row
        is_first = np.zeros(len(self.position), bool)
        pairs = np.stack([self.position, self.examples.parts])
        is_first[np.unique(pairs, axis=1, return_index=True)[1]] = True
        return is_first

    @property
    def is_alternative(self) -> Mask:
        """The mask of sequences that end with an alternative of the completion."""
        parts = self.examples.parts
        return np.zeros(len(self.position), bool) if parts is None else parts >= ALTERNATIVE

    def in_windows(self, most: int) -> Sequences:
        """Return the sequences with plain texts of more than `most` tokens cut into windows of at most so many.

        Neighbouring windows share one token, which is context in the second, so each token is a target exactly once.
        """
        is_long = (self.lengths > most) & (self.counts == self.lengths - 1)
        if not is_long.any():
            return self
        number = np.where(is_long, -(-(self.lengths.astype(np.int64) - 1) // (most - 1)), 1)
        source, window = _repeat(number)
        begins = self.begins[source] + window * (most - 1)
        lengths = np.where(is_long[source], np.minimum(most, self.lengths[source] - window * (most - 1)), 0)
        lengths = np.where(is_long[source], lengths, self.lengths[source]).astype(np.int32)
        counts = np.where(is_long[source], lengths - 1, self.counts[source]).astype(np.int32)
        parts = np.zeros(len(number), np.int64) if self.examples.parts is None else self.examples.parts
        examples = self.examples.select(self.examples.rows[source], np.where(window > 0, -window, parts[source]))
        weights = None if self.weights is None else self.weights[source]
        return Sequences(examples, self.source[source], self.position[source], begins, lengths, counts, weights)


def find_sequences(examples: Examples, arrays: TokenArrays) -> Sequences:
    """Return the sequences of the examples, at their full lengths."""
    position = np.searchsorted(examples.pool, examples.rows)
    sequence, source = position, np.arange(len(position))
    if arrays.first is not None:
        source, number = _repeat(np.diff(arrays.first)[position])
        position = position[source]
        sequence = arrays.first[position] + number
        examples = examples.select(examples.rows[source])
    if arrays.ends is not None:
        examples = examples.select(examples.rows, arrays.ends[sequence].astype(np.int64))
    begins = arrays.offsets[sequence]
    lengths = (arrays.offsets[sequence + 1] - begins).astype(np.int32)
    weights = None if arrays.weights is None else arrays.weights[sequence]
    return Sequences(examples, source, position, begins, lengths, arrays.counts[sequence], weights)


def _repeat(numbers: Index) -> tuple[Index, Index]:
    """Return for each of `numbers[i]` copies of i: i, and its number among the copies."""
    source = np.repeat(np.arange(len(numbers)), numbers)
    return source, np.arange(len(source)) - np.repeat(np.cumsum(numbers) - numbers, numbers)
