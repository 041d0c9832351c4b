"""Questions to a model and its answers, the plain values of label scoring."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kamerton.score.labels.trie import Candidates, Floats, Tokens


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """An example's tokens with their target mask, and the label candidates for its completion."""

    tokens: Tokens
    targets: npt.NDArray[np.bool_]
    candidates: Candidates | None = None

    @property
    def start(self) -> int:
        """The position of the first target, at which the completion or a label begins."""
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
        """Return token ids and target mask of each sequence to score: the reference, then the labels."""
        labels = () if self.candidates is None else self.candidates.trie.labels
        prompt = self.prompt
        rows = [np.concatenate([prompt, label]) for label in labels]
        return [(self.tokens, self.targets), *((row, np.arange(len(row)) >= len(prompt)) for row in rows)]


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """The reference's summed nll in nats, number of target tokens and number of correctly predicted ones.

    With labels also the predicted one, and the log-probabilities (L,) in nats if all were scored.
    """

    nll: float
    tokens: int
    correct: int
    logprobs: Floats | None = None
    predicted: int | None = None
