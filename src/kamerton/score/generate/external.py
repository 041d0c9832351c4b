"""The scores table of answers from an external engine, which returns texts without token probabilities."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from kamerton.data.example import DataExample
from kamerton.data.store import Examples
from kamerton.score.generate.answers import GeneratedRow, fingerprint_of, with_answers
from kamerton.score.partial import Partial
from kamerton.score.table import example_row, scores_table

Ask = Callable[[list[tuple[int, DataExample]]], Iterable[dict[int, GeneratedRow]]]


def answered_table(
    examples: Examples,
    labels: Sequence[str] | None,
    ask: Ask,
    partial: Path,
    request: tuple[Any, ...],
    progress: Callable[[int], None] = lambda done: None,
) -> tuple[pa.Table, int]:
    """Return the table, and how many of its answers were in the file `partial` already.

    `ask` gets the examples without an answer, with their positions, and yields answers by position, which are added to
    `partial` at once. `request` is everything that the answers depend on.
    """
    example_list = list(examples)
    with Partial(partial, fingerprint_of(*request)) as done:
        reused = len(done.rows)
        progress(reused)
        pending = [(position, example) for position, example in enumerate(example_list) if position not in done.rows]
        for answers in ask(pending):
            done.add(answers)
            progress(len(answers))
        generated = [done.rows[position] for position in range(len(example_list))]
    no_scores = {"nll": None, "target_tokens": 0, "correct_tokens": None}
    ids = examples.ids.to_pylist()
    rows = [example_row(example, key) | no_scores for example, key in zip(example_list, ids, strict=True)]
    return with_answers(scores_table(rows, labels), generated, labels), reused
