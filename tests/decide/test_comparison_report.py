"""The reports of comparisons and cross-validations show the contents of their files."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from kamerton.decide.compare.comparison import (
    Changed,
    Comparison,
    Configuration,
    ConfusionPair,
    Difference,
    Estimate,
    Gate,
    GateCheck,
    GoldenCheck,
    Notice,
    Slice,
    write,
)
from kamerton.decide.report.comparison import write_comparison
from kamerton.decide.report.cross_validation import write_cross_report
from kamerton.decide.report.folds import METHOD, spreads
from kamerton.score.metrics import compute
from support import synthetic
from support.chrome import BINARY, Chrome

ReadPage = Callable[[Path], Any]
HOSTILE = """</script><img src=x onerror="document.title='taken'">'"`"""


def example(number: int, before: str, answer: str) -> dict[str, Any]:
    return {
        "example_id": f"{number:016x}", "prompt": f"Question {number}? {HOSTILE}", "target": "LOC", "before": before,
        "answer": answer, "p_answer": 0.8, "p_target": 0.1, "nll": 2.0, "nll_before": 1.0,
    }  # fmt: skip


def difference(candidate: str, metric: str, value: float, verdict: str) -> Difference:
    bounds = {"low": value - 0.02, "high": value + 0.02, "detectable": 0.018}
    test = {"test": "McNemar, mid-p", "p": 0.001, "p_holm": 0.002, "effect": 0.4, "effect_name": "Cohen's g"}
    counts = {"odds_ratio": 4.0, "fixed": 40, "broken": 10, "lower_is_better": metric == "loss"}
    return Difference(candidate, metric, 0.861, 0.861 + value, value, verdict=verdict, **bounds, **test, **counts)  # type: ignore[arg-type]


def piece(group: str, value: float, verdict: str, field: str = "label") -> Slice:
    bounds = (0.8, 0.95, value, value - 0.05, value + 0.05)
    return Slice("lora", field, group, "accuracy", 138, 0.86, 0.86 + value, *bounds, 0.2, 0.04, verdict=verdict)  # type: ignore[arg-type]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A comparison with something in every part, hostile names among them."""
    metrics = {"accuracy": Estimate(0.9, 0.88, 0.92, (0.9, 0.91), 0.007), "loss": Estimate(0.1, 0.09, 0.12)}
    sides = (
        Configuration("tfidf", ("outputs/trec/a",), (None,), metrics, is_baseline=True),
        Configuration("lora", ("outputs/trec/b", "outputs/trec/c"), (1, 2), metrics),
        Configuration(HOSTILE, ("outputs/trec/d",), (1,), metrics),
    )
    rows = (example(1, "NUM", "LOC"),), (example(2, "LOC", HOSTILE),), (example(3, "LOC", "LOC"),)
    changed = Changed("lora", 40, 2, *rows)
    comparison = Comparison(
        "lora-tfidf",
        "test",
        808,
        sides,
        (
            difference("lora", "accuracy", 0.045, "better"),
            difference("lora", "loss", -0.1, "better"),
            difference(HOSTILE, "accuracy", -0.03, "worse"),
        ),
        {"lora": "Better than tfidf: accuracy 0.861 → 0.906.", HOSTILE: f"{HOSTILE} is worse than tfidf."},
        (piece("ABBR", -0.07, "worse"), piece("LOC", 0.02, "no difference shown"), piece(HOSTILE, 0.09, "better")),
        (ConfusionPair("lora", "LOC", "ENTY", 12, 3), ConfusionPair("lora", HOSTILE, "LOC", 1, 4.5)),
        (changed,),
        (Notice("seeds.few", "Two seeds say little.", "Train more.", "lora"),),
        Gate(
            (
                GateCheck("lora", "accuracy", -0.045, 0.01, 0.9, True, "no drop"),
                GateCheck(HOSTILE, "accuracy", 0.03, 0.01, 0.01, False, "drops by 0.030", "label", "LOC"),
            ),
            (GoldenCheck("lora", HOSTILE, "equals LOC", HOSTILE, False, "not equal", "golden.jsonl:3"),),
        ),
        "2026-11-24T12:00:00+00:00",
    )  # fmt: skip
    write(comparison, tmp_path)
    return tmp_path


def test_every_part_of_a_comparison_is_shown_and_none_is_markup(folder: Path, read_page: ReadPage) -> None:
    page = read_page(write_comparison(folder))
    assert "The regression gate failed." in page.text("header")
    assert "Two seeds say little. Train more." in page.text("header")
    assert "Better than tfidf: accuracy 0.861 → 0.906." in page.text("verdicts")
    rows = {(row[0], row[1]): row for row in page.rows["differences"]}
    assert rows[("lora", "Accuracy")][2:6] == ["0.861", "0.906", "+0.045 [0.025, 0.065]", "0.0020"]
    assert rows[("lora", "Accuracy")][-1] == "better"
    assert {row[0]: row[-1] for row in page.rows["slices"]}["label = ABBR"] == "worse"
    assert ["lora", "LOC", "ENTY", "12", "3", "-9"] in page.rows["confusions"]
    assert "drops by 0.030" in page.text("gate")
    assert "golden.jsonl:3" in page.text("gate")
    assert "40 examples fixed, 2 broken" in page.text("examples")
    for section in ("verdicts", "gate", "differences", "sides", "slices", "confusions", "examples"):
        assert "onerror=" in page.sections[section], section
    assert not [tag for tag, _ in page.tags if tag == "img"]
    assert {"figure-difference-accuracy", "figure-difference-loss", "figure-slices-0"} <= {
        attributes.get("id") for tag, attributes in page.tags if tag == "div"
    }


def test_markdown_and_json_say_the_same(folder: Path) -> None:
    write_comparison(folder)
    text = (folder / "report.md").read_text()
    assert "| lora | Accuracy | 0.861 | 0.906 | +0.045 [0.025, 0.065] | 0.0020 | better |" in text
    assert "| label = ABBR | lora | Accuracy | 138 |" in text
    assert "<img" not in text
    shown = json.loads((folder / "report.json").read_text())
    assert shown["gate_passed"] is False
    assert shown["comparison"]["differences"][0]["verdict"] == "better"


def test_a_bare_comparison_has_a_report(tmp_path: Path, read_page: ReadPage) -> None:
    sides = (Configuration("base", ("a",), (None,), {}, True), Configuration("b", ("b",), (1,), {}))
    write(Comparison("a-b", "test", 10, sides), tmp_path)
    page = read_page(write_comparison(tmp_path))
    assert "No verdict was given." in page.text("verdicts")
    assert "Nothing was compared." in page.text("differences")


@pytest.fixture
def crossed(make_run: Callable[..., Path]) -> Path:
    """A cross-validation of four folds in place of a run."""
    tables = [synthetic.scores(accuracy, 50, seed=9) for accuracy in (0.8, 0.9, 0.85, 0.88)]
    metrics = [compute(table) for table in tables]
    run = make_run(cv={"folds": 4, "stratify": "label", "group": "prompt"}, metrics={})
    synthetic.write_scores(run, "out_of_fold", synthetic.scores(0.9, seed=1))
    (run / "scores" / "test.parquet").unlink()
    folds = [
        {"fold": number, "examples": {"train": 125, "validation": 25, "test": 50}, "metrics": item, "base": None}
        for number, item in enumerate(metrics)
    ]
    summary = {"folds": folds, "spread": spreads(metrics, 125, 50), "level": 0.95, "method": METHOD}
    (run / "cross_validation.json").write_text(json.dumps(summary))
    return run


def test_a_cross_validation_shows_mean_spread_and_every_fold(crossed: Path, read_page: ReadPage) -> None:
    page = read_page(write_cross_report(crossed))
    spread = json.loads((crossed / "cross_validation.json").read_text())["spread"]["accuracy"]
    assert f"Accuracy {spread['mean']:.3f} ± {spread['deviation']:.3f} over 4 folds" in page.text("header")
    assert "Nadeau and Bengio" in page.text("metrics")
    rows = {row[0]: row for row in page.rows["metrics"]}
    assert rows["Accuracy"][2] == f"{spread['deviation']:.3f}"
    assert [row[0] for row in page.rows["folds"]] == ["fold", "0", "1", "2", "3"]
    assert page.rows["classes"]
    assert "± " in (crossed / "report.md").read_text()
    assert json.loads((crossed / "report.json").read_text())["summary"]["spread"]["accuracy"] == spread


def test_an_unfinished_cross_validation_is_reported_as_such(crossed: Path, read_page: ReadPage) -> None:
    (crossed / "cross_validation.json").unlink()
    (crossed / "scores" / "out_of_fold.parquet").unlink()
    page = read_page(write_cross_report(crossed, state="paused"))
    assert "Not every fold is done" in page.text("header")
    assert "is paused" in page.text("header")


@pytest.mark.browser
@pytest.mark.skipif(BINARY is None, reason="no Chromium is installed")
def test_both_open_in_a_browser_without_complaint_and_fit(browser: Chrome, folder: Path, crossed: Path) -> None:
    browser.complaints.clear()
    pages = write_comparison(folder), write_cross_report(crossed)
    for page, (width, dark) in product(pages, [(1200, False), (390, True)]):
        browser.open(page, width, dark=dark)
        assert browser.complaints == [], page
        assert browser.run("document.title") != "taken"
        wider = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert browser.run(wider) == 0, page
        assert _sorts(browser)


def _sorts(browser: Chrome) -> bool:
    browser.run("document.querySelector('table.sortable th button').click()")
    return bool(browser.run("document.querySelector('th[aria-sort]') !== null"))
