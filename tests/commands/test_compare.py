"""`kamerton compare` on run directories with score tables: what a user types, reads and finds."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from rich.console import Console

from kamerton.cli import main
from kamerton.decide.compare.comparison import Comparison, read
from kamerton.decide.report.terminal import print_comparison
from support import synthetic

Compare = Callable[..., Comparison]


@pytest.fixture
def run_of(tmp_path: Path) -> Callable[..., Path]:
    """Writes a scored run directory below outputs/trec; `config` holds the settings that tell it apart."""

    def write(name: str, table: pa.Table, base: pa.Table | None = None, **config: Any) -> Path:
        run = tmp_path / "outputs" / "trec" / name
        run.mkdir(parents=True)
        (run / "run.json").write_text(json.dumps({"state": "succeeded", "run_id": name}))
        model = {"model": {"name": "tiny", "revision": None}}
        synthetic.write_config(run, {"run_id": name, **model, **config}, [])
        synthetic.write_scores(run, "test", table)
        if base is not None:
            synthetic.write_scores(run, "base", base)
        return run

    return write


@pytest.fixture
def compare(tmp_path: Path) -> Compare:
    """Runs the command and reads what it wrote."""

    def run(*arguments: str, code: int = 0) -> Comparison:
        assert main(["compare", *arguments, f"paths.outputs={tmp_path}/outputs", "name=it"]) == code
        return read(tmp_path / "outputs" / "comparisons" / "it")

    return run


def test_runs_are_compared_with_their_base_model(
    run_of: Callable[..., Path],
    compare: Compare,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    base = synthetic.scores(0.3, rows=80, seed=9)
    run_of("good", synthetic.scores(0.9, rows=80, seed=1), base, seed=1, adapter={"kind": "lora"})
    run_of("bad", synthetic.scores(0.3, rows=80, seed=2), base, seed=1, adapter={"kind": "full"})
    result = compare(f"runs=[{tmp_path}/outputs/trec/*]", "baseline=base")
    assert [side.name for side in result.sides] == ["base", "adapter.kind=full", "adapter.kind=lora"]
    verdicts = {(difference.candidate, difference.metric): difference.verdict for difference in result.differences}
    assert verdicts["adapter.kind=lora", "accuracy"] == verdicts["adapter.kind=lora", "loss"] == "better"
    assert verdicts["adapter.kind=full", "accuracy"] == "no difference shown"
    shown = " ".join(capsys.readouterr().out.split())
    assert "adapter.kind=lora is better than base: Accuracy" in shown
    assert "adapter.kind=full: no difference from base shown" in shown


def test_the_table_is_whole_at_every_width(run_of: Callable[..., Path], compare: Compare, tmp_path: Path) -> None:
    run_of("good", synthetic.scores(0.9, rows=80, seed=1), synthetic.scores(0.3, rows=80, seed=9), seed=1)
    result = compare(f"runs=[{tmp_path}/outputs/trec/*]", "baseline=base")
    result = replace(
        result,
        differences=[replace(difference, metric=f"{difference.metric:x<34}") for difference in result.differences],
    )
    shown = {}
    for width in range(80, 181, 4):
        output = io.StringIO()
        print_comparison(Console(file=output, width=width), result)
        shown[width] = output.getvalue()
    assert not [width for width, text in shown.items() if "…" in text]
    assert ("would show" in shown[80], "would show" in shown[180]) == (False, True)


def test_help_needs_no_runs_and_all_mistyped_options_are_reported_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "--help"]) == 0
    assert "kamerton compare runs=[new.parquet] baseline=old.parquet" in capsys.readouterr().out
    assert main(["compare", "baselin=x", "gate.max_drop.accuracy=much"]) == 2
    output = capsys.readouterr().err
    for words in ("runs is not set", "did you mean 'baseline'?", "gate.max_drop.accuracy is 'much'"):
        assert words in output


def test_different_test_sets_and_unknown_limits_exit_with_2(
    run_of: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    first = run_of("one", synthetic.scores(0.9, rows=40), seed=1)
    second = run_of("other", synthetic.scores(0.9, rows=41), seed=1, adapter={"kind": "full"})
    assert main(["compare", f"runs=[{first}]", f"baseline={second}"]) == 2
    assert "lacks 1 examples (0000000000000028)" in capsys.readouterr().err
    assert (
        main(["compare", f"runs=[{first}]", f"baseline={first}/scores/test.parquet", "gate.max_drop.acuracy=0.1"]) == 2
    )
    output = capsys.readouterr().err
    assert "did you mean 'accuracy'?" in output
    assert output.count("gate.max_drop.acuracy") == 1


def test_a_failed_gate_exits_with_3_and_prints_why(
    run_of: Callable[..., Path], compare: Compare, capsys: pytest.CaptureFixture[str]
) -> None:
    old = run_of("old", synthetic.scores(0.9, rows=200, seed=1), seed=1)
    new = run_of("new", synthetic.scores(0.6, rows=200, seed=2), seed=1, adapter={"kind": "full"})
    result = compare(f"runs=[{new}]", f"baseline={old}", "gate.max_drop.accuracy=0.05", code=3)
    assert not result.gate.passed
    shown = " ".join(capsys.readouterr().out.split())
    assert "0.050 is allowed, and at least 0." in shown
    assert "is certain (p < 0.001)" in shown
    assert "gate failed: 0 of 1 checks passed" in shown
    assert compare(f"runs=[{old}]", f"baseline={new}", "gate.max_drop.accuracy=0.05").gate.passed


def test_the_baselines_that_runs_keep_are_found_by_name(
    run_of: Callable[..., Path],
    compare: Compare,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = run_of("good", synthetic.scores(0.9, rows=80, seed=1), seed=1)
    (run / "scores" / "baselines").mkdir()
    synthetic.write_scores(run, "baselines/tfidf", synthetic.scores(0.6, rows=80, seed=3))
    result = compare(f"runs=[{run}]", "baseline=tfidf")
    assert result.baseline.name == "tfidf"
    assert result.verdicts.keys() == {result.candidates[0].name}
    assert (tmp_path / "outputs" / "comparisons" / "it" / "report.html").exists()
    assert main(["compare", f"runs=[{run}]", "baseline=previous", f"paths.outputs={tmp_path}/outputs"]) == 2
    assert "no run has a score table of the baseline previous" in capsys.readouterr().err
