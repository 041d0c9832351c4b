"""Detect labels that are wrong under a table's scoring method but correct under another one, from the same table.

A briefly trained model gives every token a low probability, so a short label's total beats that of a long one for every
prompt. Normalised by length, or generated, its answers may still be correct.
"""

from __future__ import annotations

import os
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hydra_plugins.kamerton._overrides import override
from kamerton.decide.compare.significance import mcnemar
from kamerton.score.columns import is_labelled, label_indices
from kamerton.score.normalizations import answers_by_normalization

LEVEL = 0.01  # of McNemar's test of another method against the table's
MIN_GAIN = 0.1  # in accuracy

GENERATE = "score.mode=generate"


@dataclass(frozen=True, slots=True)
class BetterScoring:
    """Accuracy under the table's scoring method, and under each other method, the best one first.

    Methods are named by their option, e.g. `score.mode=generate`. The accuracy of generation is a lower bound: the
    share of rows in which every reference token is the most likely one. `constant` is the label that every row is
    answered with, if there is such a label.
    """

    method: str
    accuracy: float
    others: dict[str, float]
    constant: str | None

    @property
    def best(self) -> str:
        """The option of the most accurate other method."""
        return next(iter(self.others))

    @property
    def message(self) -> str:
        """The accuracies as a sentence."""
        values = [
            f"{'at least ' if method == GENERATE else ''}{accuracy:.3f} by {method}"
            for method, accuracy in self.others.items()
        ]
        constant = f", every answer is {self.constant!r}" if self.constant else ""
        return f"accuracy is {self.accuracy:.3f} by {self.method}{constant}; on the same rows it is {', '.join(values)}"

    def fix(self, run: Path | None) -> str:
        """Return the option to use, as a command if the table belongs to a `run` directory."""
        command = self.best
        if run is not None:
            path = os.path.relpath(run) if run.resolve().is_relative_to(Path.cwd()) else str(run)
            option = f"run={path}" if re.fullmatch(r"[\w./-]+", path) else override("run", path)
            command = shlex.join(["kamerton", "evaluate", option, self.best])
        reason = "labels differ in length, and a briefly trained model prefers short ones"
        return f"{command} ({reason}; train longer, or choose the scoring method on other rows)"


def better_scoring(table: pa.Table) -> BetterScoring | None:
    """Return the accuracy of other scoring methods if one of them is better; None if not, or if none can be computed.

    Better means a gain in accuracy of at least `MIN_GAIN` that is significant (McNemar). The method is chosen on the
    rows that it is tested on, so this is a hint, not a result.
    """
    if not is_labelled(table) or table["finish_reason"].null_count < table.num_rows:
        return None
    truth, guess = label_indices(table)
    labelled = truth >= 0
    correct = (guess == truth)[labelled]
    answers = answers_by_normalization(table)
    normalization = next((name for name, answer in answers.items() if np.array_equal(answer, guess)), None)
    if answers and normalization is None:
        return None  # calibrated with a content-free prompt: other methods cannot be computed from the table
    methods = {
        f"score.normalization={name}": (answer == truth)[labelled]
        for name, answer in answers.items()
        if name != normalization
    }
    if not table["correct_tokens"].null_count:
        generated = table["correct_tokens"].to_numpy() == table["target_tokens"].to_numpy()
        methods[GENERATE] = generated[labelled]
    if not any(_is_better(other, correct) for other in methods.values()):
        return None
    accuracies = {method: float(other.mean()) for method, other in methods.items()}
    labels = set(table["predicted_label"].to_pylist())
    return BetterScoring(
        f"score.normalization={normalization}" if normalization else "score.labels=argmax",
        float(correct.mean()),
        dict(sorted(accuracies.items(), key=lambda item: -item[1])),
        labels.pop() if len(labels) == 1 else None,
    )


def _is_better(other: NDArray[np.bool_], current: NDArray[np.bool_]) -> bool:
    gain = float(other.mean() - current.mean()) if len(current) else 0.0
    return gain >= MIN_GAIN and mcnemar(int((other & ~current).sum()), int((current & ~other).sum())).p < LEVEL
