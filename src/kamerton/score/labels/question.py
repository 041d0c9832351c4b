"""What is asked of a model, and what it answers: plain values between the files of label scoring."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kamerton.score.labels.trie import Candidates, Floats, Tokens


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """An example's tokens with its targets, and the labels that are scored in place of its completion."""

    tokens: Tokens
    targets: npt.NDArray[np.bool_]
    candidates: Candidates | None = None

    @property
    def start(self) -> int:
        """The first target: where the completion, or a label, begins."""
        return int(np.argmax(self.targets))

    @property
    def prompt(self) -> Tokens:
        """The tokens before the first target."""
        return self.tokens[: self.start]

    @property
    def size(self) -> int:
        """The number of labels."""
        return 0 if self.candidates is None else len(self.candidates.trie.labels)

    def sequences(self) -> list[tuple[Tokens, npt.NDArray[np.bool_]]]:
        """What runs through the model, the reference first: token ids and targets."""
        labels = () if self.candidates is None else self.candidates.trie.labels
        prompt = self.prompt
        ended = [np.concatenate([prompt, label]) for label in labels]
        return [(self.tokens, self.targets), *((row, np.arange(len(row)) >= len(prompt)) for row in ended)]


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """Of the reference: summed nll in nats, target tokens, and those that were the most likely.

    Of the labels: their log-probabilities (L,) in nats where all were asked for, and which one is predicted.
    """

    nll: float
    tokens: int
    correct: int
    logprobs: Floats | None = None
    predicted: int | None = None
