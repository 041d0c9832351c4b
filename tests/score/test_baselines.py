"""Baselines: what a run must beat, on exactly its test examples, at the price of seconds."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from kamerton.data.example import DataExample
from kamerton.decide.report.run import write_report
from kamerton.score.baselines import majority, previous, tfidf, write_baselines
from kamerton.score.columns import label_probabilities
from kamerton.score.intervals import paired_differences
from kamerton.score.metrics import compute
from kamerton.score.table import scores_table
from kamerton.words import bounds_text, number, signed
from support import synthetic

LABELS = ["no", "yes", "maybe"]
TRAIN = [DataExample(f"{word} number {i}", label) for i in range(40) for word, label in (("cat", "yes"), ("dog", "no"))]


def examples_of(*pairs: tuple[str, str]) -> Any:
    """Return the score table of a model that always answers "maybe"."""
    rows = [
        {"example_id": f"{i:016x}", "prompt": prompt, "target": label, "label": label, "prediction": "maybe",
         "predicted_label": "maybe", "nll": 1.0, "target_tokens": 2, "correct_tokens": 0, "metadata": "{}"}
        for i, (prompt, label) in enumerate(pairs)
    ]  # fmt: skip
    return scores_table(rows, LABELS)


def test_majority_is_the_most_frequent_label_with_its_share_as_confidence() -> None:
    table = majority([*TRAIN, DataExample("cow", "yes")], examples_of(("a", "yes"), ("b", "no"), ("c", "yes")), LABELS)
    assert table["predicted_label"].to_pylist() == ["yes"] * 3
    assert compute(table)["accuracy"] == pytest.approx(2 / 3)
    assert label_probabilities(table)[0] == pytest.approx([40 / 81, 41 / 81, 0], abs=1e-6)


def test_tfidf_learns_from_words_and_keeps_the_examples() -> None:
    test = examples_of(("the cat number 99", "yes"), ("one dog", "no"), ("a dog number 77", "no"))
    table = tfidf(TRAIN, test, LABELS)
    assert table is not None
    assert table["predicted_label"].to_pylist() == ["yes", "no", "no"]
    for name in ("example_id", "prompt", "target", "label", "target_tokens", "metadata"):
        assert table[name].equals(test[name])
    assert table["nll"].null_count == table["correct_tokens"].null_count == 3
    result = compute(table)
    assert (result["accuracy"], result["loss"], result["token_accuracy"]) == (1, None, None)
    assert np.isfinite(label_probabilities(table)).all()
    assert tfidf(TRAIN, test, LABELS).equals(table)  # type: ignore[union-attr]


@pytest.mark.parametrize("train", [[DataExample("cat", "yes")] * 5, [DataExample("?!", a) for a in LABELS]])
def test_without_words_or_a_second_label_there_is_no_tfidf(train: list[DataExample]) -> None:
    assert tfidf(train, examples_of(("a cat", "yes")), LABELS) is None


def test_the_best_finished_run_on_the_same_examples_is_found(tmp_path: Path) -> None:
    def run(name: str, accuracy: float, rows: int = 200, state: str = "succeeded") -> Path:
        path = tmp_path / name
        path.mkdir()
        table = synthetic.scores(accuracy, rows, seed=len(name))
        synthetic.write_scores(path, "test", table)
        (path / "run.json").write_text(json.dumps({"state": state, "metrics": {"test": compute(table)}}))
        return path

    new = run("this", 0.99)
    test = pq.read_table(new / "scores" / "test.parquet")
    assert previous(new, test) is None
    run("poor", 0.2), run("better", 0.7), run("other-data", 0.9, rows=199), run("failed", 0.9, state="failed")
    (run("torn", 0.95) / "scores" / "test.parquet").write_bytes(b"PAR1")
    result = previous(new, test)
    assert result is not None
    assert result.schema.metadata[b"run"] == b"better"
    assert result["predicted_label"].equals(synthetic.scores(0.7, seed=6)["predicted_label"])


def test_existing_tables_are_kept(tmp_path: Path) -> None:
    (tmp_path / "scores").mkdir()
    pq.write_table(examples_of(("cat", "yes"), ("dog", "no")), tmp_path / "scores" / "test.parquet")
    first = write_baselines(tmp_path, TRAIN, LABELS)
    assert first.keys() == {"majority", "tfidf"}
    assert write_baselines(tmp_path, [DataExample("other", "maybe")], LABELS) == first
    assert write_baselines(tmp_path, TRAIN, None) == {}


def test_a_report_shows_baselines_with_the_paired_difference(
    make_run: Callable[..., Path], read_page: Callable[[Path], Any]
) -> None:
    run = make_run()
    tuned = pq.read_table(run / "scores" / "test.parquet")
    folder = run / "scores" / "baselines"
    folder.mkdir()
    simple = synthetic.scores(0.6, seed=5)
    pq.write_table(simple, folder / "tfidf.parquet")
    rows = {row[0]: row for row in read_page(write_report(run)).rows["metrics"] if row}
    change = paired_differences(simple, tuned)["accuracy"]
    row = rows["TF-IDF, linear"]
    assert row[1] == number(compute(simple)["accuracy"])
    assert row[-2:] == [f"{signed(change['difference'])}{bounds_text(change)}", "better"]
    assert {"base model", "this run"} <= rows.keys()
    assert "| TF-IDF, linear |" in (run / "report.md").read_text()
    shown = {item["name"]: item for item in json.loads((run / "report.json").read_text())["baselines"]}
    assert shown["tfidf"]["metrics"]["accuracy"] == pytest.approx(compute(simple)["accuracy"])
