"""The tokens of a chunk of examples, and what was found while they were rendered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kamerton.data.encode.control import LiteralToken
from kamerton.data.encode.render import AnnotatedStretches, RenderError, Rendering
from kamerton.data.encode.targets import LAST, Part, Stretch
from kamerton.data.encode.turns import TurnNote


@dataclass(frozen=True)
class TokenChunk:
    """Tokenised examples: `tokens` and `targets` of all their sequences concatenated, and `lengths` [sequences].

    `sizes` [examples] is the number of sequences of each example (`Part`), `ends` [sequences] the turn with which each
    ends, and `weights` [sequences] the weight of its targets. By position of the example, `failed` has the error of its
    template, `literals` the control tokens' strings in its texts, and `turns` the findings to report about its turns.
    `fallbacks` is what is written in the fallback form.
    """

    tokens: npt.NDArray[np.int32]
    targets: npt.NDArray[np.bool_]
    lengths: npt.NDArray[np.int32]
    failed: dict[int, str]
    literals: dict[int, list[LiteralToken]]
    turns: dict[int, list[TurnNote]]
    sizes: npt.NDArray[np.int32]
    ends: npt.NDArray[np.int32]
    weights: npt.NDArray[np.float64]
    fallbacks: set[str]


class Findings:
    """What `TokenChunk` has beside the tokens, collected example by example."""

    def __init__(self) -> None:
        self.failed: dict[int, str] = {}
        self.literals: dict[int, list[LiteralToken]] = {}
        self.turns: dict[int, list[TurnNote]] = {}
        self.fallbacks: set[str] = set()
        self.sizes: list[int] = []
        self.ends: list[int] = []
        self.weights: list[float] = []

    def add(self, i: int, rendering: Rendering) -> list[list[Stretch]]:
        """Add example i; return the stretches of its sequences."""
        parts: Sequence[Part] = ()
        if isinstance(rendering, RenderError):
            self.failed[i] = str(rendering)
        elif isinstance(rendering, AnnotatedStretches):
            self.literals |= {i: rendering.literals} if rendering.literals else {}
            self.turns |= {i: rendering.turns} if rendering.turns else {}
            self.fallbacks.update(rendering.fallbacks)
            parts = rendering.parts
        stretches = [part.stretches for part in parts] or [rendering if isinstance(rendering, list) else []]
        self.sizes.append(len(stretches))
        self.ends += [part.turn for part in parts] or [LAST]
        self.weights += [part.weight for part in parts] or [1.0]
        return stretches


def concatenate(
    tokens: list[list[int]], sequence: list[int], marks: list[bool], counts: list[int]
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.bool_], npt.NDArray[np.int32]]:
    """Return the tokens and targets of `sequence`, a list of piece numbers, and the lengths of the examples.

    `marks` are the targets by piece, `counts` the pieces of each example; vectorised.
    """
    sizes = np.fromiter(map(len, tokens), np.int64, len(tokens))
    flat = np.fromiter((token for piece in tokens for token in piece), np.int32, int(sizes.sum()))
    starts = np.cumsum(sizes) - sizes
    order = np.array(sequence, np.int64)
    ends = np.cumsum(sizes[order])
    total = int(ends[-1]) if len(ends) else 0
    index = np.arange(total) + np.repeat(starts[order] - (ends - sizes[order]), sizes[order])
    row_ends = np.r_[0, ends][np.cumsum(counts)] if counts else np.empty(0, np.int64)
    lengths = np.diff(row_ends, prepend=0).astype(np.int32)
    targets = np.repeat(np.array(marks, np.bool_), sizes[order])
    targets[(row_ends - lengths)[lengths > 0]] = False  # nothing predicts a first token
    return flat[index], targets, lengths
