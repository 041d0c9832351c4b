"""Labels that are correct under another scoring method are reported as such; chance is not."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from kamerton.decide.compare.other_scoring import GENERATE, better_scoring
from kamerton.decide.compare.predictions import validate_results
from kamerton.decide.report import verdict
from kamerton.decide.report.metric_tables import metric_table
from kamerton.decide.report.run_files import RunFiles
from kamerton.score.normalizations import LABEL_TOKENS, answers_by_normalization
from kamerton.score.table import scores_table

LABELS = ["other", "shipping", "technical support"]
TOKENS = [len(label) + 1 for label in LABELS]  # bytes, and the end of turn


def table(per_token: float, *, rows: int = 60, gap: float = 0.3, knows: bool = True, **columns: Any) -> pa.Table:
    """Labels whose every token has this log-probability, less by `gap` in those that are not the row's own."""
    lines = []
    for i in range(rows):
        truth = i % 3
        loves = truth if knows else 0
        logprobs = [(per_token - gap * (label != loves)) * size for label, size in enumerate(TOKENS)]
        guess = int(np.argmax(logprobs))
        line = {
            "example_id": f"{i:016x}",
            "prompt": f"question {i}",
            "target": LABELS[truth],
            "prediction": LABELS[guess],
            "label": LABELS[truth],
            "predicted_label": LABELS[guess],
            "label_logprobs": logprobs,
            "nll": -logprobs[truth],
            "target_tokens": TOKENS[truth],
            "correct_tokens": TOKENS[truth] if loves == truth else 1,
            "metadata": "{}",
        }
        lines.append(line | columns)
    result = scores_table(lines, LABELS)
    return result.replace_schema_metadata({**result.schema.metadata, LABEL_TOKENS: json.dumps(TOKENS)})


UNSURE = table(-4.3)  # a model that was trained little: the sum prefers "other" in every row
SURE = table(-0.01)  # a model that was trained


def test_another_normalization_that_gets_the_rows_right_is_named_with_its_numbers() -> None:
    result = better_scoring(UNSURE)
    assert result is not None
    assert (result.method, result.accuracy, result.constant) == ("score.normalization=sum", 1 / 3, "other")
    assert result.best == "score.normalization=token"
    assert result.others["score.normalization=token"] == result.others[GENERATE] == 1
    assert "accuracy is 0.333 by score.normalization=sum, every answer is 'other'" in result.message
    assert "1.000 by score.normalization=token" in result.message
    assert "at least 1.000 by score.mode=generate" in result.message


@pytest.mark.parametrize(
    "sound",
    [
        SURE,
        table(-4.3, knows=False),  # no way of scoring gets it right
        UNSURE.slice(0, 6),  # too few rows to tell
        table(-4.3, finish_reason="stop"),  # generated answers
        table(-4.3, predicted_label="shipping"),  # none of the three ways gives these: calibrated ones
        table(-4.3, nll=None, correct_tokens=None),  # a baseline that is not a language model
    ],
)
def test_nothing_is_reported_without_a_better_scoring_method(sound: pa.Table) -> None:
    assert better_scoring(sound) is None


def test_best_label_search_still_compares_with_generation() -> None:
    result = better_scoring(table(-4.3, label_logprobs=None))
    assert result is not None
    assert (result.method, result.others) == ("score.labels=argmax", {GENERATE: 1.0})


def test_tables_of_earlier_versions_have_the_lengths_of_their_references() -> None:
    old = UNSURE.replace_schema_metadata({b"labels": json.dumps(LABELS).encode()})
    assert answers_by_normalization(old)["token"].tolist() == answers_by_normalization(UNSURE)["token"].tolist()
    without_one = old.filter(pa.array([label != "shipping" for label in old["label"].to_pylist()]))
    assert set(answers_by_normalization(without_one)) == {"sum", "byte"}


def test_the_command_in_the_advice_is_one_for_hydra_and_the_shell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = better_scoring(UNSURE)
    assert result is not None
    start = "kamerton evaluate run=outputs/mine/k9 score.normalization=token ("
    assert result.fix(tmp_path / "outputs" / "mine" / "k9").startswith(start)
    odd = result.fix(Path("/my runs/a,b")).partition(" (")[0]
    assert shlex.split(odd)[2] == "run='/my runs/a,b'"


def test_a_right_model_is_not_reported_as_broken() -> None:
    result = validate_results(UNSURE)
    assert result.is_valid
    assert [fault.code for fault in result.warnings] == ["results.scoring"]
    assert "score.normalization=token" in result.warnings[0].fix
    run = RunFiles(Path("outputs/mine/k9"), base=UNSURE, tuned=UNSURE)
    rows, _ = metric_table(run)
    sentence, tone = verdict.headline(run, rows)
    assert sentence.endswith("On the same rows score.normalization=token gives accuracy 1.000.")
    assert tone == "open"
    (caution,) = verdict.cautions(run, rows)
    assert "kamerton evaluate run=outputs/mine/k9 score.normalization=token" in caution
    assert "learning rate" not in caution
