"""What a model must beat to be worth its weights: baselines that cost seconds, as score tables of the same examples.

- `majority`: the most frequent label of the training split, always.
- `tfidf`: a linear classifier on words and pairs of words (TF-IDF weights, multinomial logistic regression).
- `previous`: the best earlier run of the same experiment on the same test examples. It is chosen by its test result,
  so luck makes it look a little better than it is.

The untouched base model is scored by the run itself. The first two have no probabilities of tokens: `nll` is null.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kamerton.data.example import DataExample
from kamerton.errors import UserError
from kamerton.run.directory import read_record
from kamerton.score.columns import is_labelled
from kamerton.score.metrics import compute
from kamerton.score.table import read_scores, write_scores

NAMES = ("majority", "tfidf", "previous")
MOST_ROWS = 50_000  # of the training split, for TF-IDF: it is to take seconds
MOST_WORDS = 200_000
SOURCE = b"run"  # the schema's metadata says where a previous run's table is from
_OF_THE_EXAMPLE = ("example_id", "prompt", "target", "label", "target_tokens", "metadata")
_LEAST = 1e-9  # probability of a label that the training split does not have


def write_baselines(
    run: Path, train: Sequence[DataExample], labels: Sequence[str] | None
) -> dict[str, dict[str, float | None]]:
    """Write the score table of every baseline of a finished run's test split; the metrics of each, by name.

    `train` is what the run could learn from. A table that is there already is kept.
    """
    test = read_scores(run / "scores" / "test.parquet")
    found: dict[str, pa.Table | None] = {"previous": previous(run, test, labelled=is_labelled(test))}
    if labels is not None and is_labelled(test):
        for name, build in (("majority", majority), ("tfidf", tfidf)):
            path = table_path(run, name)
            found[name] = read_scores(path) if path.exists() else build(train, test, labels)
    return {name: _kept(run, name, table) for name, table in found.items() if table is not None}


def table_path(run: Path, name: str) -> Path:
    """Where a run keeps the score table of a baseline."""
    return run / "scores" / "baselines" / f"{name}.parquet"


def _kept(run: Path, name: str, table: pa.Table) -> dict[str, float | None]:
    write_scores(table, table_path(run, name))
    return compute(table)


def majority(train: Sequence[DataExample], test: pa.Table, labels: Sequence[str]) -> pa.Table:
    """The score table of always answering the most frequent label; probabilities are the shares of the labels."""
    counts = Counter(example.completion for example in train)
    shares = np.array([[counts[label] for label in labels]], np.float64) + _LEAST
    return _answered(test, np.repeat(shares / shares.sum(), test.num_rows, axis=0), labels)


def tfidf(train: Sequence[DataExample], test: pa.Table, labels: Sequence[str]) -> pa.Table | None:
    """The score table of a linear classifier on the prompts' words; None where there are no words or no two labels.

    Of a long training split, `MOST_ROWS` examples are used (they come in the order of a hash of their content, so the
    first of them are a random sample).
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    chosen = train[:MOST_ROWS]
    answers = [example.completion for example in chosen]
    if len(set(answers)) < 2:
        return None
    words = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), token_pattern=r"\b\w+\b", max_features=MOST_WORDS)
    try:
        features = words.fit_transform([example.prompt_text for example in chosen])
    except ValueError:  # no prompt has a word
        return None
    classifier = LogisticRegression(C=10, max_iter=200, tol=1e-3).fit(features, answers)
    found = classifier.predict_proba(words.transform(test["prompt"].to_pylist()))
    shares = np.full((test.num_rows, len(labels)), _LEAST)
    shares[:, [labels.index(name) for name in classifier.classes_]] += found
    return _answered(test, shares / shares.sum(axis=1, keepdims=True), labels)


def previous(run: Path, test: pa.Table, *, labelled: bool, name: str = "test") -> pa.Table | None:
    """The score table of the best finished run beside `run` whose table `name` holds the same examples; None if none.

    Best is the highest accuracy, without labels the lowest loss. The table's metadata says whose it is.
    """
    ids = sorted(test["example_id"].to_pylist())
    for path in sorted(_finished(run, name), key=lambda path: _rank(path, name, labelled), reverse=True):
        try:
            table = read_scores(path / "scores" / f"{name}.parquet")
        except (UserError, OSError, ValueError):
            continue  # not whole
        if sorted(table["example_id"].to_pylist()) == ids:
            return table.replace_schema_metadata({**(table.schema.metadata or {}), SOURCE: path.name})
    return None


def _finished(run: Path, name: str) -> Iterator[Path]:
    for path in run.resolve().parent.glob("*/run.json"):
        if path.parent != run.resolve() and (path.parent / "scores" / f"{name}.parquet").exists():
            yield path.parent


def _rank(path: Path, name: str, labelled: bool) -> tuple[float, str]:
    """Higher is better; of equals the later name. A run that is not finished or lacks the metric comes last."""
    try:
        record = read_record(path) or {}
        value = record["metrics"][name]["accuracy" if labelled else "loss"]
        return (value if labelled else -value) if record["state"] == "succeeded" else -np.inf, path.name
    except (UserError, KeyError, TypeError):
        return -np.inf, path.name


def _answered(test: pa.Table, shares: NDArray[np.float64], labels: Sequence[str]) -> pa.Table:
    """`test` with these probabilities of the labels `[rows, labels]`, and the likeliest label as the answer."""
    answers = pa.array([labels[best] for best in shares.argmax(axis=1)], pa.string())
    columns: dict[str, Any] = {
        **{name: test[name] for name in _OF_THE_EXAMPLE},
        "prediction": answers,
        "predicted_label": answers,
        "label_logprobs": pa.array(list(np.log(shares)), pa.list_(pa.float64())),
        "nll": pa.nulls(test.num_rows, pa.float64()),
        "correct_tokens": pa.nulls(test.num_rows, pa.int32()),
        "finish_reason": pa.nulls(test.num_rows, pa.string()),
    }
    return pa.table(columns, metadata={b"labels": json.dumps(list(labels)).encode()})
