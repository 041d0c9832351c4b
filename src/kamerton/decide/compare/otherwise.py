"""Whether a table's labels are right by another way of scoring that the same table tells, though not by its own.

A model that is trained briefly gives every token little probability, so that the total of a short label beats that of
a long one whatever the prompt is; divided by length, or generated, its answers may be right all the same.
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

LEVEL = 0.01  # of McNemar's test of another way against the table's own
LEAST = 0.1  # gain in accuracy that is worth a word

GENERATE = "score.mode=generate"


@dataclass(frozen=True, slots=True)
class Otherwise:
    """Accuracy by the table's own way (`way`, an option), and by each other way by its option, the best one first.

    That of generating is the least it can be: the share of rows in which every reference token is the likeliest.
    `only` is the label that every row is answered with, if there is one.
    """

    way: str
    accuracy: float
    others: dict[str, float]
    only: str | None

    @property
    def best(self) -> str:
        """What gives the most right answers, as it is typed."""
        return next(iter(self.others))

    @property
    def message(self) -> str:
        """What the table shows."""
        values = [f"{'at least ' if way == GENERATE else ''}{share:.3f} by {way}" for way, share in self.others.items()]
        same = f", every answer is {self.only!r}" if self.only else ""
        return f"accuracy is {self.accuracy:.3f} by {self.way}{same}; on the same rows it is {', '.join(values)}"

    def fix(self, run: Path | None) -> str:
        """What to type; `run` is the run directory that the table is of."""
        command = shlex.join(["kamerton", "evaluate", _run_option(run), self.best]) if run else self.best
        reason = "labels differ in length, and a model that was trained little prefers short ones"
        return f"{command} ({reason}; train longer, or settle the way of scoring on other rows than these)"


def otherwise(table: pa.Table) -> Otherwise | None:
    """The better way of scoring that the table itself shows; None where its own is as good, or it tells no other.

    Better is at least `LEAST` in accuracy, and not by chance (McNemar). It is found on the rows that it is judged on,
    so it is a hint, and no result.
    """
    if not is_labelled(table) or table["finish_reason"].null_count < table.num_rows:
        return None
    truth, guess = label_indices(table)
    rows = truth >= 0
    right = (guess == truth)[rows]
    answers = answers_by_normalization(table)
    own = next((name for name, each in answers.items() if np.array_equal(each, guess)), None)
    if answers and own is None:
        return None  # calibrated by a content-free prompt: the table does not tell the other ways
    ways = {f"score.normalization={name}": each == truth for name, each in answers.items() if name != own}
    if not table["correct_tokens"].null_count:
        ways[GENERATE] = table["correct_tokens"].to_numpy() == table["target_tokens"].to_numpy()
    if not any(_is_better(hits[rows], right) for hits in ways.values()):
        return None
    shares = {way: float(hits[rows].mean()) for way, hits in ways.items()}
    labels = set(table["predicted_label"].to_pylist())
    return Otherwise(
        f"score.normalization={own}" if own else "score.labels=argmax",
        float(right.mean()),
        dict(sorted(shares.items(), key=lambda each: -each[1])),
        labels.pop() if len(labels) == 1 else None,
    )


def _run_option(run: Path) -> str:
    """`run=DIR` as Hydra reads it back, in quotes only where they are needed."""
    here = os.path.relpath(run) if run.resolve().is_relative_to(Path.cwd()) else str(run)
    return f"run={here}" if re.fullmatch(r"[\w./-]+", here) else override("run", here)


def _is_better(other: NDArray[np.bool_], own: NDArray[np.bool_]) -> bool:
    gain = float(other.mean() - own.mean()) if len(own) else 0.0
    return gain >= LEAST and mcnemar(int((other & ~own).sum()), int((own & ~other).sum())).p < LEVEL
