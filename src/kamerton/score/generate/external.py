"""The scores table of answers that another process or machine gives: texts alone, without the tokens' probabilities."""

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
    asked: tuple[Any, ...],
    progress: Callable[[int], None] = lambda done: None,
) -> tuple[pa.Table, int]:
    """The table, and how many of its answers the file `partial` had from before.

    `ask` is given the examples without an answer, by their position. Answers are kept in `partial` as they come in;
    `asked` is what they depend on.
    """
    every = list(examples)
    with Partial(partial, fingerprint_of(*asked)) as done:
        before = len(done.rows)
        progress(before)
        for answers in ask([(at, example) for at, example in enumerate(every) if at not in done.rows]):
            done.add(answers)
            progress(len(answers))
        generated = [done.rows[at] for at in range(len(every))]
    unknown = {"nll": None, "target_tokens": 0, "correct_tokens": None}
    ids = examples.ids.to_pylist()
    rows = [example_row(example, key) | unknown for example, key in zip(every, ids, strict=True)]
    return with_answers(scores_table(rows, labels), generated, labels), before
