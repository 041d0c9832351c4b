"""Cheap baselines as score tables of the same examples.

- `majority`: always the most frequent label of the training split.
- `tfidf`: a linear classifier on words and pairs of words (TF-IDF weights, multinomial logistic regression).
- `previous`: the best earlier run of the same experiment on the same test examples. It is chosen by its test result,
  which is therefore slightly optimistic.

The run itself scores the base model. The first two have no token probabilities: `nll` is null.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kamerton.data.example import DataExample
from kamerton.direction import LOWER_IS_BETTER
from kamerton.errors import UserError
from kamerton.run.directory import record_at
from kamerton.score.columns import is_labelled
from kamerton.score.metrics import compute
from kamerton.score.preferences import main_metric
from kamerton.score.references import incomparable, same_reference
from kamerton.score.table import read_scores, write_scores

NAMES = ("majority", "tfidf", "previous")
MAX_ROWS = 50_000  # of the training split for TF-IDF, so that it takes seconds
MAX_WORDS = 200_000
SOURCE = b"run"  # key in the schema metadata: the run of a `previous` table
_EXAMPLE_COLUMNS = ("example_id", "prompt", "target", "label", "target_tokens", "metadata")
_MIN_PROBABILITY = 1e-9  # of labels that do not occur in the training split


def write_baselines(
    run: Path, train: Sequence[DataExample], labels: Sequence[str] | None
) -> dict[str, dict[str, float | None]]:
    """Write the score tables of all baselines on a finished run's test split; return the metrics of each by name.

    `train` are the run's training examples. Existing tables of `majority` and `tfidf` are reused.
    """
    test = read_scores(run / "scores" / "test.parquet")
    tables: dict[str, pa.Table | None] = {"previous": previous(run, test)}
    if labels is not None and is_labelled(test):
        for name, build in (("majority", majority), ("tfidf", tfidf)):
            path = table_path(run, name)
            tables[name] = read_scores(path) if path.exists() else build(train, test, labels)
    metrics = {}
    for name, table in tables.items():
        if table is not None:
            write_scores(table, table_path(run, name))
            metrics[name] = compute(table)
    return metrics


def table_path(run: Path, name: str) -> Path:
    """Return the path of a baseline's score table in a run directory."""
    return run / "scores" / "baselines" / f"{name}.parquet"


def majority(train: Sequence[DataExample], test: pa.Table, labels: Sequence[str]) -> pa.Table:
    """Return the score table of always answering the most frequent label, with the label shares as probabilities."""
    counts = Counter(example.completion for example in train)
    shares = np.array([[counts[label] for label in labels]], np.float64) + _MIN_PROBABILITY
    return _label_table(test, np.repeat(shares / shares.sum(), test.num_rows, axis=0), labels)


def tfidf(train: Sequence[DataExample], test: pa.Table, labels: Sequence[str]) -> pa.Table | None:
    """Return the score table of a linear classifier on the prompts' words; None without words or with one label.

    At most `MAX_ROWS` training examples are used: the first ones, which are a random sample, because examples are
    ordered by a hash of their content.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    chosen = train[:MAX_ROWS]
    answers = [example.completion for example in chosen]
    if len(set(answers)) < 2:
        return None
    words = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), token_pattern=r"\b\w+\b", max_features=MAX_WORDS)
    try:
        features = words.fit_transform([example.prompt_text for example in chosen])
    except ValueError:  # no prompt has a word
        return None
    classifier = LogisticRegression(C=10, max_iter=200, tol=1e-3).fit(features, answers)
    predicted = classifier.predict_proba(words.transform(test["prompt"].to_pylist()))
    probabilities = np.full((test.num_rows, len(labels)), _MIN_PROBABILITY)
    probabilities[:, [labels.index(name) for name in classifier.classes_]] += predicted
    return _label_table(test, probabilities / probabilities.sum(axis=1, keepdims=True), labels)


def previous(run: Path, test: pa.Table, *, name: str = "test") -> pa.Table | None:
    """Return the score table of the best other run in the experiment's folder that scored the same examples as `name`.

    Best is the best value of the main metric (accuracy; without labels the reward or the loss, of pairs the preference
    accuracy). A run with other rewards, or with rewards against another reference, is left out. The table's metadata
    name the run (`SOURCE`). None if there is no such run.
    """
    ids, metric = sorted(test["example_id"].to_pylist()), main_metric(test)
    others = [path.parent for path in run.resolve().parent.glob("*/run.json") if path.parent != run.resolve()]
    scored = [path for path in others if (path / "scores" / f"{name}.parquet").exists()]
    for path in sorted(scored, key=lambda path: _rank(path, name, metric), reverse=True):
        try:
            table = read_scores(path / "scores" / f"{name}.parquet")
        except (UserError, OSError, ValueError):
            continue  # damaged
        is_same = sorted(table["example_id"].to_pylist()) == ids
        if not is_same or incomparable("reward", table, test):
            continue
        if same_reference(table.sort_by("example_id"), test.sort_by("example_id")):
            return table.replace_schema_metadata({**(table.schema.metadata or {}), SOURCE: path.name})
    return None


def _rank(path: Path, name: str, metric: str) -> tuple[float, str]:
    """Return a sort key, higher is better; ties go to the later name. Unfinished runs come last."""
    try:
        record = record_at(path)
        value = record.metrics[name][metric]
        better = -value if metric in LOWER_IS_BETTER else value
        return better if record.state == "succeeded" else -np.inf, path.name
    except (UserError, KeyError, TypeError):
        return -np.inf, path.name


def _label_table(test: pa.Table, probabilities: NDArray[np.float64], labels: Sequence[str]) -> pa.Table:
    """Return `test` with these label probabilities, `[rows, labels]`, and the most likely label as the answer."""
    answers = pa.array([labels[best] for best in probabilities.argmax(axis=1)], pa.string())
    columns: dict[str, Any] = {
        **{name: test[name] for name in _EXAMPLE_COLUMNS},
        "prediction": answers,
        "predicted_label": answers,
        "label_logprobs": pa.array(list(np.log(probabilities)), pa.list_(pa.float64())),
        "nll": pa.nulls(test.num_rows, pa.float64()),
        "correct_tokens": pa.nulls(test.num_rows, pa.int32()),
        "finish_reason": pa.nulls(test.num_rows, pa.string()),
    }
    return pa.table(columns, metadata={b"labels": json.dumps(list(labels)).encode()})
