"""Generated preference data: groups of completions of one prompt, as tokens."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from kamerton.objective.pairs import PreferenceRows


class Groups:
    """Prompts with 1 to 4 completions each, of random tokens; some prompts begin alike. Scores are sometimes equal."""

    def __init__(self, prompts: int, seed: int = 0) -> None:
        draw = np.random.default_rng(seed)
        system = draw.integers(4, 250, 12)
        self._rows: list[npt.NDArray[np.int32]] = []
        self._targets: list[npt.NDArray[np.bool_]] = []
        starts, scores = [], []
        for _ in range(prompts):
            starts.append(len(self._rows))
            prompt = np.concatenate([system, draw.integers(4, 250, draw.integers(1, 20))])
            for k in range(draw.integers(2, 5)):
                completion = draw.integers(4, 250, draw.integers(1, 12))
                self._rows.append(np.concatenate([prompt, completion]).astype(np.int32))
                self._targets.append(np.arange(len(self._rows[-1])) >= len(prompt))
                scores.append(float(draw.integers(0, 3)) if k > 1 else float(1 - k))
        self.starts, self.scores = np.array(starts), np.array(scores)

    @property
    def lengths(self) -> npt.NDArray[np.int32]:
        return np.array([len(row) for row in self._rows], np.int32)

    @property
    def target_counts(self) -> npt.NDArray[np.int32]:
        return np.array([mask.sum() for mask in self._targets], np.int32)

    def tokens(self, index: int) -> npt.NDArray[np.int32]:
        return self._rows[index]

    def targets(self, index: int) -> npt.NDArray[np.bool_]:
        return self._targets[index]

    def __len__(self) -> int:
        return len(self._rows)

    def preferences(self, seed: int = 1) -> PreferenceRows:
        """Their scores, with reference log-probabilities and weights that are drawn."""
        draw = np.random.default_rng(seed)
        reference = -5.5 * self.target_counts + draw.normal(size=len(self))
        weights = draw.uniform(0.5, 2, len(self.starts))
        return PreferenceRows(self.scores, reference, self.target_counts, self.starts, weights)


def pair_rows(count: int = 60) -> list[dict[str, str]]:
    """Rows of preferences, in which a letter of the prompt decides which completion is better."""
    words = (("cat", "it says meow", "it barks"), ("dog", "it barks loud", "it says meow"))
    return [
        {"prompt": f"the {word} number {number}", "chosen": chosen, "rejected": rejected}
        for number in range(count // 2)
        for word, chosen, rejected in words
    ]


def judged_rows(count: int = 60) -> list[dict[str, object]]:
    """Rows of judged completions, in which a letter of the prompt decides which is desired."""
    return [
        {"prompt": row["prompt"], "completion": row["chosen" if number % 3 else "rejected"], "label": bool(number % 3)}
        for number, row in enumerate(pair_rows(count))
    ]
