"""A run of preferences on the tiny model, its scores again by `kamerton evaluate`, and what it is compared with."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from kamerton.cli import main
from kamerton.score.table import read_scores
from support.pairs import judged_rows, pair_rows
from support.rows import write_jsonl
from support.runs import TINY, record

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("preferences")


@pytest.fixture(scope="module")
def pairs(folder: Path) -> Path:
    rows = [
        {"prompt": f"say {i}", "chosen": f"it is {i * 7} for sure", "rejected": f"no idea about {i}"} for i in range(60)
    ]
    return write_jsonl(folder / "pairs.jsonl", rows)


@pytest.fixture(scope="module")
def task(folder: Path) -> Path:
    rows = [{"prompt": f"say {i}", "completion": f"it is {i * 7}"} for i in range(100, 120)]
    return write_jsonl(folder / "task.jsonl", rows)


@pytest.fixture(scope="module")
def dpo(folder: Path, pairs: Path, task: Path, own_cache: Path) -> Path:
    options = ["objective=dpo", "optimizer.lr=0.01", f"score.data={task}", "baselines=false"]
    return train(folder, "dpo", *options, f"data.path={pairs}")


@pytest.fixture(scope="module")
def sft(folder: Path, own_cache: Path) -> Path:
    rows = [{"prompt": f"say {i}", "completion": f"it is {i * 7}"} for i in range(200, 260)]
    data = write_jsonl(folder / "single.jsonl", rows)
    return train(folder, "sft", f"data.path={data}", "optimizer.lr=0.01")


def train(folder: Path, name: str, *overrides: str) -> Path:
    more = ["trainer.max_steps=6", "data.near_duplicates=null", f"name={name}", f"run_id={name}"]
    assert main(["train", *TINY, *more, f"paths.outputs={folder}", *overrides]) == 0
    return folder / name / name


def evaluate(folder: Path, *overrides: str, code: int = 0) -> dict[str, Any]:
    assert main(["evaluate", f"paths.outputs={folder}", *overrides]) == code
    paths = sorted(folder.glob("evaluations/*/evaluation.json"), key=lambda path: path.stat().st_mtime_ns)
    return json.loads(paths[-1].read_text()) | {"path": paths[-1].parent} if paths else {}


def test_an_evaluation_has_the_metrics_of_the_run_and_says_pairs(
    folder: Path, dpo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    result = evaluate(folder, f"run={dpo}")
    assert {name: value for name, value in result["metrics"]["test"].items() if value is not None} == record(dpo)[
        "metrics"
    ]["test"]
    table, again = (read_scores(path / "scores" / "test.parquet") for path in (dpo, result["path"]))
    assert again.equals(table)
    assert result["data"]["examples"] == table.num_rows
    assert f"test split of jsonl by dpo/dpo: {table.num_rows} pairs" in capsys.readouterr().out


def test_judged_completions_are_evaluated_as_the_run_scored_them(folder: Path, own_cache: Path) -> None:
    """Also pairs, of which the chosen completion is desired."""
    data = write_jsonl(folder / "judged.jsonl", judged_rows())
    run = train(folder, "kto", "objective=kto", "optimizer.lr=0.01", "baselines=false", f"data.path={data}")
    table = read_scores(run / "scores" / "test.parquet")
    assert table["reference_point"][0].as_py() > 0
    metrics = record(run)["metrics"]
    assert metrics["base"]["preference_accuracy"] == 0.5
    assert metrics["test"]["preference_accuracy"] not in (None, 0.5)
    result = evaluate(folder, f"run={run}")
    assert read_scores(result["path"] / "scores" / "test.parquet").equals(table)
    pairs = write_jsonl(folder / "few.jsonl", pair_rows(20))
    of_pairs = evaluate(folder, f"run={run}", f"data.test={pairs}")
    assert of_pairs["data"]["examples"] == 40
    assert of_pairs["metrics"]["test"]["preference_accuracy"] is not None


def test_the_base_model_prefers_neither_completion(dpo: Path) -> None:
    metrics = record(dpo)["metrics"]
    assert metrics["base"]["preference_accuracy"] == 0.5
    assert metrics["base"]["margin"] == pytest.approx(0, abs=1e-5)
    assert metrics["test"]["margin"] > 0


def test_single_completions_are_scored_with_the_same_weights(folder: Path, dpo: Path, task: Path) -> None:
    metrics = record(dpo)["metrics"]
    assert read_scores(dpo / "scores" / "task.parquet").num_rows == 20
    assert {"task", "task_base"} <= metrics.keys()
    result = evaluate(folder, f"run={dpo}", "data.rows=completions", f"data.test={task}")
    assert result["metrics"]["test"]["loss"] == pytest.approx(metrics["task"]["loss"], rel=1e-9)


def test_a_run_of_single_completions_is_compared_on_the_pairs(
    folder: Path, dpo: Path, sft: Path, pairs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["compare", f"runs=[{dpo}]", f"paths.outputs={folder}"]
    capsys.readouterr()
    assert main([*command, f"baseline={sft}"]) == 2
    printed = capsys.readouterr()
    fix = " ".join((printed.out + printed.err).split())
    assert "kamerton evaluate" in fix
    options = shlex.split(fix.partition("kamerton evaluate ")[2].partition("; then")[0])
    assert "data.rows=preferences" in options
    result = evaluate(folder, *options)
    assert result["metrics"]["test"]["ranking_accuracy"] is not None
    assert main([*command, f"baseline={result['path']}"]) == 0
    printed = capsys.readouterr()
    assert "ranking_accuracy" in printed.out
    assert "on the test set score.data" in printed.out


def test_options_that_preferences_cannot_have_are_refused(
    folder: Path, dpo: Path, pairs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", f"run={dpo}", "score.mode=generate", f"paths.outputs={folder}"]) == 2
    assert "not by score.mode=generate" in capsys.readouterr().err
    options = ["objective=dpo", "score.mode=generate", f"data.path={pairs}", f"paths.outputs={folder}"]
    assert main(["train", *TINY, *options]) == 2
    assert "score.data=FILE" in capsys.readouterr().err
    test_set = write_jsonl(folder / "prompts.jsonl", [{"prompt": f"say {i}"} for i in range(3)])
    options += ["reward=exact_match", f"score.data={test_set}"]
    assert main(["train", *TINY, *options]) == 2
    assert "prompts.jsonl:completion: no row has a completion" in capsys.readouterr().err
