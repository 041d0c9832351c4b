"""Preferences in the verdict, the report and comparisons: decided by what was preferred, not by a likelihood."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from kamerton.config.schema import PathOptions
from kamerton.decide.compare.comparison import Comparison, write
from kamerton.decide.compare.options import CompareOptions, GateOptions
from kamerton.decide.compose import compare
from kamerton.decide.report import verdict
from kamerton.decide.report.comparison import write_comparison
from kamerton.decide.report.metric_tables import metric_table
from kamerton.decide.report.pairs import margin_histogram, pair_contents, pair_margins
from kamerton.decide.report.run import write_report
from kamerton.decide.report.run_files import RunFiles, read_run
from kamerton.errors import UserError
from kamerton.pipeline.terminal import print_result
from kamerton.run.directory import RunDirectory
from kamerton.score.baselines import previous
from kamerton.score.metrics import compute
from kamerton.words import number
from support import synthetic

BASE = synthetic.pairs(0.0, noise=0.0)


def judged(base: pa.Table | None, tuned: pa.Table) -> tuple[str, str, list[str], dict[str, Any]]:
    """Headline, tone, cautions and rows of a run with these score tables."""
    run = RunFiles(Path("pairs/ab12"), base=base, tuned=tuned)
    rows, _ = metric_table(run)
    return *verdict.headline(run, rows), verdict.cautions(run, rows), {row["name"]: row for row in rows}


def test_the_verdict_is_about_the_preference_accuracy() -> None:
    tuned = synthetic.pairs(3.0, seed=1, drop=20.0)  # the chosen completions became far less likely
    sentence, tone, cautions, rows = judged(BASE, tuned)
    accuracy = compute(tuned)["preference_accuracy"]
    start = f"Better than the base model: preference accuracy 0.500 → {number(accuracy)} on 60 test pairs, difference +"
    assert sentence.startswith(start)
    assert tone == "good"
    assert rows["loss"]["verdict"] == "worse"
    assert any("log-probability of the chosen completions fell too" in text for text in cautions)


def test_a_model_that_prefers_the_rejected_completions_is_worse() -> None:
    assert judged(BASE, synthetic.pairs(-3.0, seed=1))[0].startswith("Worse than the base model: preference accuracy")


def test_where_every_pair_was_right_before_the_margin_decides() -> None:
    base, tuned = (synthetic.pairs(shift, seed=1, noise=0.01, reference=True) for shift in (2.0, 5.0))
    assert compute(base)["preference_accuracy"] == 1
    assert judged(base, tuned)[0].startswith("Better than the base model: margin of rewards 0.")


def test_the_table_has_the_metrics_that_say_something() -> None:
    rows = judged(BASE, synthetic.pairs(3.0, seed=1))[3]
    assert not {"perplexity", "token_accuracy", "length_chosen"} & rows.keys()
    assert (rows["loss"]["title"], rows["loss"]["shown"]) == ("Loss of chosen completions", "loss (chosen)")
    assert rows["preference_accuracy"]["verdict"] == "better"
    assert rows["logprob_rejected"]["verdict"] is rows["reward_rejected"]["verdict"] is None


def test_the_longer_completion_is_what_a_bare_model_would_prefer() -> None:
    tuned = synthetic.pairs(3.0, seed=1)
    run = RunFiles(Path("pairs/ab12"), tuned=tuned)
    chosen, rejected = tuned["target_tokens"].to_numpy(), tuned["rejected_tokens"].to_numpy()
    longer = float(np.mean((chosen > rejected) + 0.5 * (chosen == rejected)))
    word = "longer" if longer >= 0.5 else "shorter"
    text = f"always preferring the {word} completion would reach preference accuracy {number(max(longer, 1 - longer))}."
    assert verdict.comparison(run, []) == f"For comparison: {text}"
    at_length = judged(BASE, synthetic.pairs(0.0, seed=3))[2]
    assert at_length == [] or "no better than always preferring" in at_length[0]


def test_worst_pairs_have_both_completions_and_the_smallest_margins_first() -> None:
    tuned = synthetic.pairs(1.0, seed=2)
    margins = pair_margins(tuned)
    assert margins.mean() == pytest.approx(compute(tuned)["margin"])
    values = pair_contents(tuned)["pairs"]
    worst = [row["margin"] for row in values["worst"]]
    assert worst == sorted(margins[margins < 0].tolist())[:10]
    first = int(np.argmin(margins))
    sides = values["worst"][0]["sides"]
    assert [side["text"] for side in sides] == [tuned[name][first].as_py() for name in ("target", "rejected")]
    assert sides[0]["reward"] - sides[1]["reward"] == pytest.approx(worst[0])
    assert sum(row["pairs"] for row in values["lengths"]) == 60


def test_the_histogram_counts_every_pair_once_on_its_side_of_zero() -> None:
    tuned = synthetic.pairs(1.0, seed=2)
    margins, figure = pair_margins(tuned), margin_histogram(tuned)
    assert figure is not None
    counts = {trace.name: int(np.sum(trace.y)) for trace in figure.data}
    assert counts == {"rejected preferred": int((margins < 0).sum()), "chosen preferred": int((margins >= 0).sum())}
    assert margin_histogram(synthetic.scores(0.5)) is None


def test_the_report_shows_preferences(tmp_path: Path, read_page: Callable[[Path], Any]) -> None:
    run = synthetic.write_pair_run(tmp_path, synthetic.pairs(1.0, seed=2), BASE)
    path = write_report(run)
    page = read_page(path)
    text = page.text("pairs")
    assert "Worst pairs" in text
    assert "answer 0 answer 0" not in page.text("classes")
    assert "<b>best</b>" in text  # as text, not as markup
    assert any(attrs.get("id") == "figure-margins" for _, attrs in page.tags)
    assert any(attrs.get("id") == "figure-rewards" for _, attrs in page.tags)
    assert "no labels" not in path.read_text("utf-8")
    markdown = (run / "report.md").read_text("utf-8")
    assert "| worst pairs: prompt | margin | chosen | rejected |" in markdown
    assert "| Loss of chosen completions |" in markdown


def test_the_result_fits_a_terminal_of_80_columns(tmp_path: Path) -> None:
    from io import StringIO

    from rich.console import Console

    run = synthetic.write_pair_run(
        tmp_path, synthetic.pairs(6.0, seed=2, beta=5.0), synthetic.pairs(0.0, noise=0.0, beta=5.0)
    )
    console = Console(width=80, file=StringIO())
    print_result(console, RunDirectory(run, resuming=False))
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    table = [line for line in printed.splitlines() if line[:1] in "│┃┏└"]
    assert "Test split, 60 pairs; 95 % intervals of the change" in printed
    assert all(len(line) <= 80 for line in table)
    assert len(table) == 9  # a row a metric, none of them wrapped
    assert "loss (chosen)" in printed


def test_the_best_run_before_is_chosen_by_its_preference_accuracy(tmp_path: Path) -> None:
    good, bad = synthetic.pairs(4.0, seed=1, drop=9.0), synthetic.pairs(1.0, seed=2)
    synthetic.write_pair_run(tmp_path, good, name="good")
    synthetic.write_pair_run(tmp_path, bad, name="bad")
    new = synthetic.write_pair_run(tmp_path, bad, name="new")
    found = previous(new, bad)
    assert found is not None
    assert found.schema.metadata[b"run"] == b"good"


def compared(outputs: Path, runs: list[Path], baseline: str) -> Comparison:
    runs_given = [str(run) for run in runs]
    return compare(CompareOptions(runs=runs_given, baseline=baseline, paths=PathOptions(str(outputs))))


def test_runs_of_preferences_are_compared_pair_by_pair(tmp_path: Path) -> None:
    weak = synthetic.write_pair_run(tmp_path, synthetic.pairs(0.2, seed=1), BASE, "weak")
    good = synthetic.write_pair_run(tmp_path, synthetic.pairs(4.0, seed=2), BASE, "good")
    comparison = compared(tmp_path, [weak, good], str(weak))
    tested = {each.metric: each for each in comparison.differences}
    assert tested["preference_accuracy"].verdict == tested["margin"].verdict == "better"
    assert tested["preference_accuracy"].test == "McNemar, mid-p"
    described = {f"{what}_{side}" for what in ("reward", "logprob") for side in ("chosen", "rejected")}
    assert tested.keys() == {"preference_accuracy", "ranking_accuracy", "margin", "loss", *described}
    for name in described:  # with an interval, but neither direction is better
        assert (tested[name].verdict, tested[name].p, tested[name].lower_is_better) == ("not tested", None, False)
        bounds = tested[name].low, tested[name].difference, tested[name].high
        assert None not in bounds
        assert list(bounds) == sorted(value for value in bounds if value is not None)
    gains = [tested[name].difference or 0.0 for name in ("reward_chosen", "reward_rejected")]
    assert gains[0] - gains[1] == pytest.approx(tested["margin"].difference)
    (sentence,) = comparison.verdicts.values()
    assert "Preference accuracy" in sentence
    assert "on 60 pairs" in sentence
    page = write_comparison(_written(comparison, tmp_path / "out"))
    assert "loss (chosen)" in page.read_text("utf-8")
    assert compared(tmp_path, [good], "base").differences[0].baseline_value is not None


def test_a_gate_has_no_limit_on_what_has_no_direction(tmp_path: Path) -> None:
    run = synthetic.write_pair_run(tmp_path, synthetic.pairs(1.0, seed=1), BASE)
    options = CompareOptions(runs=[str(run)], gate=GateOptions(max_drop={"reward_chosen": 0.1}))
    with pytest.raises(UserError, match="reward_chosen"):
        compare(options)


def _written(comparison: Comparison, folder: Path) -> Path:
    write(comparison, folder)
    return folder


def test_rewards_against_another_reference_are_not_tested(tmp_path: Path) -> None:
    tuned = synthetic.write_pair_run(tmp_path, synthetic.pairs(4.0, seed=2), BASE, "dpo")
    plain = synthetic.write_pair_run(tmp_path, synthetic.pairs(0.0, noise=0.0, reference=False), None, "sft")
    comparison = compared(tmp_path, [tuned], str(plain))
    verdicts = {each.metric: each.verdict for each in comparison.differences}
    assert verdicts["preference_accuracy"] == verdicts["margin"] == "not tested"
    assert verdicts["ranking_accuracy"] != "not tested"
    (sentence,) = comparison.verdicts.values()
    assert "Ranking accuracy" in sentence
    assert "rewards.differ" in {notice.code for notice in comparison.notices}


def test_a_run_of_single_completions_is_refused_with_the_command_that_evaluates_it(tmp_path: Path) -> None:
    pairs = synthetic.write_pair_run(tmp_path, synthetic.pairs(4.0, seed=2), BASE)
    single = synthetic.write_run(tmp_path)
    with pytest.raises(UserError) as caught:
        compared(tmp_path, [pairs], str(single))
    (fault,) = caught.value.faults
    command = fault.fix.partition("pairs: ")[2].partition("; then")[0]
    assert shlex.split(command) == [
        *("kamerton", "evaluate", f"run={single}"),
        *("data.rows=preferences", "data.path=pairs.jsonl", "name=trec-ab12cd34-on-pairs"),
        f"paths.outputs={tmp_path}",
    ]
    assert f"{tmp_path}/evaluations/trec-ab12cd34-on-pairs in its place" in fault.fix


def test_the_test_set_of_single_completions_is_reported_beside_the_pairs(tmp_path: Path) -> None:
    run = synthetic.write_pair_run(tmp_path, synthetic.pairs(4.0, seed=2), BASE)
    synthetic.write_scores(run, "task", synthetic.scores(0.6, seed=1))
    synthetic.write_scores(run, "task_base", synthetic.scores(0.9, seed=2))
    write_report(run)
    markdown = (run / "report.md").read_text("utf-8")
    assert "**Better than the base model: preference accuracy" in markdown
    assert "Worse than the base model: accuracy" in markdown
    assert json.loads((run / "report.json").read_text())["task"]["total"] == 200
    files = read_run(run).on_task()
    assert files is not None
    assert metric_table(files)[1] == []
    comparison = compare(CompareOptions(runs=[str(run)], split="task"))
    assert comparison.differences[0].verdict == "worse"
