"""Prompts, and completions of them with rewards, that are drawn instead of generated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from kamerton.train.rollouts import Completion, Rollout


class Prompts:
    """Prompts of random tokens with one reference each; some begin alike."""

    def __init__(self, count: int) -> None:
        draw = np.random.default_rng(3)
        system = draw.integers(4, 250, 12)
        self.prompts = [
            np.concatenate([system, draw.integers(4, 250, 1 + 5 * i)]).astype(np.int32) for i in range(count)
        ]
        self.lengths = np.array([len(prompt) + 1 for prompt in self.prompts], np.int32)
        self.target_counts = np.ones(count, np.int32)

    def tokens(self, index: int) -> npt.NDArray[np.int32]:
        return np.append(self.prompts[index], np.int32(7))

    def targets(self, index: int) -> npt.NDArray[np.bool_]:
        mask: npt.NDArray[np.bool_] = np.arange(self.lengths[index]) == self.lengths[index] - 1
        return mask

    def __len__(self) -> int:
        return len(self.prompts)

    def roll_out(self, model: Any, examples: Sequence[int], step: int) -> Rollout:
        """1 to 11 tokens, four times for each example, whatever the model; those of example 1 are rewarded equally."""
        completions, rewards = [], []
        for example in examples:
            draw = np.random.default_rng([example, step])
            for _ in range(4):
                tokens = draw.integers(4, 250, draw.integers(1, 12)).astype(np.int32)
                logprobs = -5.5 + draw.normal(size=len(tokens))
                completions.append(Completion(self.prompts[example], tokens, logprobs, bool(len(tokens) > 9)))
            rewards.append(np.full(4, 0.3) if example == 1 else draw.normal(size=4))
        table = np.array(rewards).reshape(-1, 4)
        return Rollout(tuple(completions), table, {"half": table / 2})
