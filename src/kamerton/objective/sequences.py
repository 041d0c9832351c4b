"""Encoded sequences, and prompts with the completions of other examples, for the divergence that KTO estimates."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt


class EncodedExamples(Protocol):
    """Encoded data as plan and batches use them: the tokens of each example, and which of them are targets."""

    @property
    def lengths(self) -> npt.NDArray[np.int32]: ...
    @property
    def target_counts(self) -> npt.NDArray[np.int32]: ...
    def tokens(self, index: int) -> npt.NDArray[np.int32]: ...
    def targets(self, index: int) -> npt.NDArray[np.bool_]: ...
    def __len__(self) -> int: ...


class Mismatched:
    """Encoded examples with the completion of the next example in place of their own (the last has the first's).

    `starts` [examples] are the first sequences of the examples; the completion is that sequence's. As in the KTO
    paper's code, where the next completion of a batch is taken; here it does not depend on the batch.
    """

    def __init__(self, data: EncodedExamples, starts: npt.NDArray[np.int64]) -> None:
        self._data = data
        example = np.searchsorted(starts, np.arange(len(data)), side="right") - 1
        self._other = starts[(example + 1) % len(starts)]
        self._seams = np.array([int(np.argmax(data.targets(i))) for i in range(len(data))], np.int32)
        self.target_counts = data.target_counts[self._other]
        self.lengths = (self._seams + self.target_counts).astype(np.int32)

    def __len__(self) -> int:
        return len(self._data)

    def tokens(self, index: int) -> npt.NDArray[np.int32]:
        """Return the prompt of example `index` and the completion of the other one: [length]."""
        other = int(self._other[index])
        completion = self._data.tokens(other)[self._data.targets(other)]
        return np.concatenate([self._data.tokens(index)[: self._seams[index]], completion])

    def targets(self, index: int) -> npt.NDArray[np.bool_]:
        """Return the mask of the completion: [length]."""
        mask: npt.NDArray[np.bool_] = np.arange(self.lengths[index]) >= self._seams[index]
        return mask


class Both:
    """The sequences of two sets, those of the second numbered from the size of the first."""

    def __init__(self, first: EncodedExamples, second: EncodedExamples) -> None:
        self._sets = first, second
        self.lengths = np.concatenate([first.lengths, second.lengths])
        self.target_counts = np.concatenate([first.target_counts, second.target_counts])

    def __len__(self) -> int:
        return len(self.lengths)

    def tokens(self, index: int) -> npt.NDArray[np.int32]:
        """Return the token ids of a sequence: [length]."""
        first, second = self._sets
        return first.tokens(index) if index < len(first) else second.tokens(index - len(first))

    def targets(self, index: int) -> npt.NDArray[np.bool_]:
        """Return the mask of the targets of a sequence: [length]."""
        first, second = self._sets
        return first.targets(index) if index < len(first) else second.targets(index - len(first))
