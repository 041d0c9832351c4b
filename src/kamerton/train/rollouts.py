"""The completions that a model generates for the prompts of one optimizer step, with their rewards."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Completion:
    """A generated completion: its tokens with the end token (unless it was cut off), and their log-probabilities."""

    prompt: npt.NDArray[np.int32]
    tokens: npt.NDArray[np.int32]
    logprobs: Floats  # (tokens,) nats, by the model that generated it
    truncated: bool  # by the limit of new tokens


@dataclass(frozen=True)
class Rollout:
    """The completions of a rank's prompts, those of a prompt after each other, as sequences to train on.

    `rewards` are (prompts, completions of each), `components` the rewards without weights by name, of the same shape.
    """

    completions: tuple[Completion, ...]
    rewards: Floats
    components: Mapping[str, Floats]

    @property
    def lengths(self) -> npt.NDArray[np.int32]:
        """The number of tokens of each sequence."""
        return np.array([len(each.prompt) + len(each.tokens) for each in self.completions], np.int32)

    @property
    def target_counts(self) -> npt.NDArray[np.int32]:
        """The number of generated tokens of each sequence."""
        return np.array([len(each.tokens) for each in self.completions], np.int32)

    @property
    def groups(self) -> list[tuple[int, ...]]:
        """The sequences of each prompt."""
        count, size = self.rewards.shape
        return [tuple(range(group * size, (group + 1) * size)) for group in range(count)]

    def tokens(self, index: int) -> npt.NDArray[np.int32]:
        """Return the tokens of a sequence: [length]."""
        return np.concatenate([self.completions[index].prompt, self.completions[index].tokens])

    def targets(self, index: int) -> npt.NDArray[np.bool_]:
        """Return the mask of the generated tokens of a sequence: [length]."""
        each = self.completions[index]
        mask: npt.NDArray[np.bool_] = np.arange(len(each.prompt) + len(each.tokens)) >= len(each.prompt)
        return mask

    def __len__(self) -> int:
        return len(self.completions)


# From a model, examples of the training data, and the number of the step; all ranks call it, with their own examples.
RollOut = Callable[[Any, Sequence[int], int], Rollout]
