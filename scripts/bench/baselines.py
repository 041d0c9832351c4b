"""What the baselines of labelled data take, and how good they are: baselines.py [data=trec | data=csv data.path=...].

Prepares the data as `kamerton train` does, then fits and scores on this process's cores.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from kamerton.assets import cache_dir
from kamerton.config.check import to_config
from kamerton.config.compose import compose_values
from kamerton.data.example import DataExample
from kamerton.data.gate import prepare
from kamerton.data.read.sources import local_data
from kamerton.score.baselines import majority, tfidf
from kamerton.score.metrics import compute
from kamerton.score.table import scores_table


def unanswered(examples: Sequence[DataExample], labels: list[str]) -> pa.Table:
    """A score table of the examples before any model answers."""
    rows: list[dict[str, Any]] = [
        {
            "example_id": example.id,
            "prompt": example.prompt_text,
            "target": example.completion,
            "label": example.completion,
            "target_tokens": 1,
            "metadata": "{}",
        }
        for example in examples
    ]
    return scores_table(rows, labels)


def main(overrides: list[str]) -> None:
    config = to_config(compose_values(overrides))
    prepared = prepare(local_data(config.data), config.split, cache=cache_dir() / "data")
    if prepared.labels is None:
        sys.exit("these data have no labels")
    train, test = prepared.splits["train"], unanswered(prepared.splits["test"], prepared.labels)
    for baseline in (majority, tfidf):
        start = time.perf_counter()
        table = baseline(train, test, prepared.labels)
        seconds = time.perf_counter() - start
        accuracy = compute(table)["accuracy"] if table is not None else None
        sizes = f"{len(train):,} training rows, {test.num_rows:,} test rows, {len(prepared.labels)} labels"
        print(f"{baseline.__name__}: {seconds:.2f} s, accuracy {accuracy}, {sizes}")


if __name__ == "__main__":
    main(sys.argv[1:])
