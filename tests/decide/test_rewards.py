"""Training on rewards in the report, the terminal and comparisons: the reward decides, and completions are shown."""

from __future__ import annotations

import json
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from kamerton.config.schema import PathOptions
from kamerton.decide.compare.options import CompareOptions
from kamerton.decide.compose import compare
from kamerton.decide.report import samples
from kamerton.decide.report.rewards import reward_contents, reward_figures, reward_histogram, training_rows
from kamerton.decide.report.run import write_report
from kamerton.decide.report.run_files import read_run
from kamerton.pipeline.terminal import print_result
from kamerton.run.directory import RunDirectory
from support import graded, synthetic

BASE, TUNED = graded.answers(0.2, seed=1), graded.answers(0.8, seed=2)
ATTACK = '</script></pre></style><img class="injected" src=x onerror=alert(1)>'


def test_the_verdict_is_about_the_reward(tmp_path: Path) -> None:
    run = graded.write_reward_run(tmp_path, TUNED, BASE)
    write_report(run)
    values = json.loads((run / "report.json").read_text())
    assert values["headline"].startswith("Better than the base model: reward 0.")
    names = [row["name"] for row in values["rows"]]
    first = names.index("reward")
    assert names[first : first + 3] == ["reward", "reward_number", "reward_length"]
    comparison = compare(CompareOptions(runs=[str(run)], paths=PathOptions(str(tmp_path))))
    (sentence,) = comparison.verdicts.values()
    assert "Reward" in sentence


def test_the_report_shows_what_was_logged_and_sampled(tmp_path: Path, read_page: Callable[[Path], Any]) -> None:
    run = graded.write_reward_run(tmp_path, TUNED, BASE)
    page = read_page(write_report(run))
    ids = {attributes.get("id") for tag, attributes in page.tags if tag == "div"}
    details = ("reward_spread", "no_signal", "length", "truncated", "entropy", "kl")
    assert {f"figure-{name}" for name in ("reward", "components", "histogram", "loss")} <= ids
    assert {f"figure-detail-{name}" for name in details} <= ids
    assert "figure-detail-clipped" not in ids
    rows = {row[0]: row[1:] for row in page.rows["curves"]}
    assert (float(rows["reward"][0]) < 0.4, float(rows["reward"][1]) > 0.8) == (True, True)
    assert "Step 1 12 completions" in page.text("samples")
    assert f"Step {graded.STEPS} 12 completions" in page.text("samples")
    assert "reward 1.000 (number 1.000, length 0.500)" in page.text("samples")
    assert "Worst answers" in page.text("rewards")
    assert not page.sections["classes"]
    assert not page.sections["examples"]
    markdown = (run / "report.md").read_text()
    assert "| 40 | " in markdown
    assert "| reward_number | " in markdown


def test_nothing_from_a_completion_becomes_markup(tmp_path: Path, read_page: Callable[[Path], Any]) -> None:
    run = graded.write_reward_run(tmp_path, graded.answers(0.5, text=ATTACK), text=ATTACK)
    lines = (run / "metrics.csv").read_text().replace("reward_length", "reward_<img src=x>")
    (run / "metrics.csv").write_text(lines)
    page = read_page(write_report(run))
    assert not [tag for tag, _ in page.tags if tag == "img"]
    for section in ("samples", "rewards"):
        assert "onerror=alert(1)" in page.sections[section]
    assert "<img" not in (run / "report.md").read_text()


def test_the_best_and_the_worst_completion_are_those_of_the_step(tmp_path: Path) -> None:
    rows = [graded.sample(step, 10 * step + i, n, reward) for step in range(7) for i, n, reward in STEP]
    (tmp_path / "samples.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows) + '{"step": 7, "exa')
    steps = samples.sampled(tmp_path)["steps"]
    assert [step["step"] for step in steps] == [1, 3, 4, 5, 7]  # counted from 1, as in metrics.csv
    for step in steps:
        assert step["completions"] == len(STEP)
        assert step["reward"] == pytest.approx(np.mean([reward for _, _, reward in STEP]))
        widest, second = step["prompts"]
        assert widest["prompt"] == f"question of example {10 * (step['step'] - 1) + 1}"
        assert [side["reward"] for side in widest["sides"]] == [5.0, -1.0]
        assert widest["sides"][0]["text"] == f"answer 2 of step {step['step'] - 1}"
        assert [side["reward"] for side in second["sides"]] == [1.0, 0.0]


STEP = [(0, 0, 0.5), (0, 1, 0.5), (1, 0, -1.0), (1, 1, 0.0), (1, 2, 5.0), (2, 0, 1.0), (2, 1, 0.0)]


@pytest.mark.parametrize("count", [1, 2, 3, 50])
@pytest.mark.parametrize("size", [0, 90_000])
def test_any_step_is_found_by_its_position(count: int, size: int, tmp_path: Path) -> None:
    draw = np.random.default_rng(count)
    rows = [
        graded.sample(step + 3, 0, number, 0.0, "é" * int(draw.integers(0, 40) + (size if step == count - 1 else 0)))
        for step in range(count)
        for number in range(int(draw.integers(1, 4)))
    ]
    text = "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows)
    (tmp_path / "samples.jsonl").write_text(text, "utf-8")
    found = samples.sampled(tmp_path)["steps"]
    assert [found[0]["step"], found[-1]["step"]] == [4, count + 3]
    for step in found:
        assert step["completions"] == sum(row["step"] == step["step"] - 1 for row in rows)
        assert [side["name"] for side in step["prompts"][0]["sides"]] == ["one of them; all rewards are equal"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [(None, "was not written"), ("{}\n", "cannot be read"), ('[1]\n{"step"\n', "cannot be read"), ("\xff\n", "cannot")],
)
def test_damaged_samples_are_named_and_the_rest_still_shown(tmp_path: Path, text: str | None, reason: str) -> None:
    run = graded.write_reward_run(tmp_path, TUNED)
    file = run / "samples.jsonl"
    file.unlink()
    if text is not None:
        file.write_text(text, "latin-1")
    assert reason in samples.sampled(run)["absent"]
    assert reason in write_report(run).read_text("utf-8")
    file.write_text("")
    assert samples.sampled(run) == {"steps": []}


def test_the_worst_answers_come_first_and_changes_are_counted() -> None:
    values = reward_contents(TUNED, BASE)["rewards"]
    before, after = (table["metric:reward"].to_numpy() for table in (BASE, TUNED))
    assert (values["higher"], values["lower"]) == (int((after > before).sum()), int((after < before).sum()))
    assert [row["answers"]["tuned"]["reward"] for row in values["worst"]] == sorted(after)[:10]
    first = values["worst"][0]["answers"]
    assert first["base model"]["text"] is not None
    assert first["tuned"]["parts"].keys() == {"number", "length"}
    fell = [row["answers"]["tuned"]["reward"] - row["answers"]["base model"]["reward"] for row in values["fallen"]]
    assert fell == sorted(fell)
    assert max(fell) < 0
    assert reward_contents(TUNED.slice(0, 50), BASE)["rewards"].keys() == {"total", "same", "worst"}  # other examples
    assert reward_contents(synthetic.scores(0.5), None) == {}


@pytest.mark.parametrize("parts", [True, False])
def test_the_histogram_counts_every_answer_once(parts: bool) -> None:
    figure = reward_histogram(graded.answers(0.8, parts=parts), graded.answers(0.2, parts=parts))
    assert figure is not None
    assert {trace.name: int(np.sum(trace.y)) for trace in figure.data} == {"base": 60, "tuned": 60}
    draw = np.random.default_rng(0).random(60)
    table = graded.answers(0.8, parts=False)
    many = table.set_column(table.column_names.index("metric:reward"), "metric:reward", [draw])
    figure = reward_histogram(many, None)
    assert figure is not None
    assert (len(figure.data), int(np.sum(figure.data[0].y))) == (1, 60)
    assert reward_histogram(synthetic.scores(0.5), None) is None


def test_other_runs_have_no_curves_of_rewards(tmp_path: Path) -> None:
    curves = read_run(synthetic.write_pair_run(tmp_path, synthetic.pairs(1.0))).curves
    assert training_rows(curves) == []
    assert reward_figures(curves) == {}


def test_the_terminal_shows_the_first_and_the_last_steps(tmp_path: Path) -> None:
    run = graded.write_reward_run(tmp_path, TUNED, BASE)
    console = Console(width=80, file=StringIO())
    print_result(console, RunDirectory(run, resuming=False))
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    table = printed.partition("Test split")[0]
    lines = {line.split()[1]: line.split()[3::2] for line in table.splitlines() if line.startswith("│")}
    first, last = (float(value) for value in lines["reward_number"][:2])
    assert (first < 0.3, last > 0.7) == (True, True)
    assert {"reward_spread", "no_signal", "length", "truncated", "entropy", "kl"} <= lines.keys()
    assert "Better than the base model: reward" in printed
