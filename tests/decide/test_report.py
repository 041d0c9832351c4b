"""The report has correct numbers, is self-contained and safe, and works with any part of the run missing."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import kamerton.report
from kamerton.decide.report.run import elapsed, plain, write_report
from kamerton.errors import UserError
from kamerton.score.intervals import intervals
from kamerton.score.label_metrics import per_class
from kamerton.score.metrics import compute
from kamerton.words import number
from support import synthetic

MakeRun = Callable[..., Path]
ReadPage = Callable[[Path], Any]
PARTS = ["run.json", "config.yaml", "overrides.yaml", "events.jsonl", "metrics.csv", "scores/test.parquet",
         "scores/base.parquet"]  # fmt: skip


def test_the_metric_table_shows_the_numbers_of_the_score_tables(make_run: MakeRun, read_page: ReadPage) -> None:
    run = make_run()
    page = read_page(write_report(run))
    tuned, base = (pq.read_table(run / "scores" / f"{name}.parquet") for name in ("test", "base"))
    rows = {row[0]: row for row in reversed(page.rows["metrics"]) if row}  # the first of two tables
    for title, name in (
        ("Accuracy", "accuracy"),
        ("F1 (macro)", "f1"),
        ("Loss", "loss"),
        ("Perplexity", "perplexity"),
        ("Calibration error", "ece"),
    ):
        for cell, table in ((rows[title][1], base), (rows[title][2], tuned)):
            low, high = intervals(table)[name]
            assert cell == f"{number(compute(table)[name])} [{number(low)}, {number(high)}]"
        assert rows[title][4] == "better"


def test_the_header_answers_how_good_it_became(make_run: MakeRun, read_page: ReadPage) -> None:
    header = read_page(write_report(make_run())).text("header")
    assert "trec · ab12cd34 Better than the base model: accuracy" in header
    assert "460,800 (0.34%)" in header
    assert "5 min 12 s" in header


def test_empty_values_have_no_table(make_run: MakeRun) -> None:
    run = make_run()
    record = json.loads((run / "run.json").read_text())
    record["data"]["report"] |= {"leakage": {"exact": {}, "near": {}}, "fixed": {}}
    record["data"]["report"]["split"] = {
        "ratios": [0.7, 0.15, 0.15],
        "folds": None,
        "fold": 0,
        "held_out": "validation",
    }
    (run / "run.json").write_text(json.dumps(record))
    page = write_report(run).read_text()
    section = page[page.index('<section id="data">') :].partition("</section>")[0]
    assert not [word for word in ("leakage", "fixed", "folds", "held out") if f">{word}<" in section]
    assert "ratios" in section
    notes = re.findall(r"<p class=\"note\">The same test examples.*?</p>", page)
    assert not [note for note in notes if "best run before" in note]  # no row exists


def test_a_short_duration_is_shown_in_seconds() -> None:
    assert elapsed("2026-01-01T10:00:00+00:00", "2026-01-01T10:00:12+00:00") == "12 s"


def test_sections_hold_what_the_run_recorded(make_run: MakeRun, read_page: ReadPage) -> None:
    run = make_run()
    page = read_page(write_report(run))
    tuned = pq.read_table(run / "scores" / "test.parquet")
    classes = {row[0]: row[1:] for row in page.rows["classes"]}
    for row in per_class(tuned):
        shown = [number(row["precision"]), number(row["recall"]), number(row["f1"]), plain(row["support"])]
        assert classes[row["label"]] == shown
    data = {row[0]: row[1:] for row in page.rows["data"]}
    assert data["rows read"] == ["15,452"]
    assert data["duplicates removed"] == ["10,073"]
    assert data["DESC"] == ["800", "180"]
    assert "The loss rose to 2.10." in page.text("events")
    assert "Lower optimizer.lr." in page.text("events")
    assert "kamerton train optimizer.lr=0.001 seed=0" in page.text("configuration")
    assert "max_tokens: 2048" in page.text("configuration")
    assert ["torch", "2.13.0"] in page.rows["machine"]


def test_training_and_validation_are_named_in_words(make_run: MakeRun, read_page: ReadPage) -> None:
    values = {"loss": 0.5, "token_accuracy": 0.25, "answer_entropy": 1.5}
    rows = read_page(write_report(make_run(metrics={"train": values, "validation": values}))).rows["metrics"]
    for name, shown in (("Loss", "0.5"), ("Token accuracy", "0.25"), ("Answer entropy", "1.5")):
        assert [name, shown, shown] in rows


def test_the_figures_hold_the_logged_curves_and_the_confusion_counts(make_run: MakeRun, read_page: ReadPage) -> None:
    page = read_page(write_report(make_run()))
    ids = {attributes.get("id") for tag, attributes in page.tags if tag == "div"}
    assert {"figure-loss", "figure-learning_rate", "figure-confusion"} <= ids
    calls = [script for script in page.scripts if "Plotly.newPlot" in script and len(script) < 1_000_000]
    assert [call.count('"train, smoothed"') for call in calls] == [1, 0, 0]
    assert sum('"type":"heatmap"' in call for call in calls) == 1


def test_scored_validations_have_a_figure(make_run: MakeRun, read_page: ReadPage) -> None:
    run = make_run()
    rows = (run / "metrics.csv").read_text().splitlines()
    (run / "metrics.csv").write_text("\n".join([f"{rows[0]},val/accuracy", *(f"{row},0.5" for row in rows[1:])]) + "\n")
    page = read_page(write_report(run))
    assert "figure-scores" in {attributes.get("id") for tag, attributes in page.tags if tag == "div"}


def test_the_page_loads_nothing_from_anywhere(make_run: MakeRun, read_page: ReadPage) -> None:
    page = read_page(write_report(make_run()))
    for tag, attributes in page.tags:
        assert tag not in ("link", "iframe", "object", "embed", "img", "base"), tag
        assert not {"src", "href", "srcset", "action", "data"} & set(attributes), (tag, attributes)
    policy = next(a["content"] for _, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy
    assert "http" not in policy
    style = (Path(kamerton.report.__path__[0]) / "templates" / "style.css").read_text()
    assert "url(" not in style
    assert "@import" not in style


def test_the_same_run_gives_the_same_report(make_run: MakeRun) -> None:
    run = make_run()
    first = write_report(run).read_bytes()
    before = sorted(path.name for path in run.iterdir())
    assert write_report(run).read_bytes() == first
    assert sorted(path.name for path in run.iterdir()) == before


ATTACK = (
    '</script></pre></style><img class="injected" src=x onerror=alert(1)><script class="injected">alert(1)</script>'
)


def test_nothing_from_the_data_becomes_markup(make_run: MakeRun, read_page: ReadPage) -> None:
    data = {"report": {ATTACK: {ATTACK: 1}, "more": {ATTACK: ATTACK}}, "list": [{ATTACK: ATTACK}], ATTACK: [ATTACK]}
    run = make_run(
        experiment=ATTACK,
        state="failed",
        error={"code": "x", "message": ATTACK},
        data=data,
        model={"name": ATTACK},
        versions={ATTACK: ATTACK},
        metrics={"train": {ATTACK: 1.0}},
    )
    for name, share in (("test", 0.5), ("base", 0.4)):
        table = synthetic.scores(share)
        for column in ("prompt", "target", "prediction"):
            table = table.set_column(table.schema.get_field_index(column), column, pa.array([ATTACK] * table.num_rows))
        for column in ("label", "predicted_label"):
            labels = [ATTACK if label == "ABBR" else label for label in table[column].to_pylist()]
            table = table.set_column(table.schema.get_field_index(column), column, pa.array(labels))
        labels = [ATTACK, *synthetic.LABELS[1:]]
        synthetic.write_scores(run, name, table.replace_schema_metadata({"labels": json.dumps(labels)}))
    event = {"level": ATTACK, "message": ATTACK, "time": ATTACK, "evidence": {ATTACK: ATTACK}, "advice": ATTACK}
    (run / "events.jsonl").write_text(json.dumps(event))
    synthetic.write_config(run, {ATTACK: ATTACK}, [ATTACK])
    page = read_page(write_report(run))
    assert not [tag for tag, attributes in page.tags if attributes.get("class") == "injected"]
    assert not [tag for tag, _ in page.tags if tag == "img"]
    for section in ("header", "classes", "examples", "data", "events", "configuration", "machine"):
        assert "onerror=alert(1)" in page.sections[section], section
    markdown = (run / "report.md").read_text()
    assert "<img" not in markdown.replace(f"    {markdown.splitlines()[-1].strip()}", "")


def test_secrets_are_in_neither_report(make_run: MakeRun) -> None:
    run = make_run(state="failed", error={"code": "x", "message": "login failed: api_key=SECRET1"})
    config = {
        "logger": {"wandb": {"api_key": "SECRET2", "headers": {"Authorization": "Bearer SECRET3"}}},
        "hub": {"token": "SECRET4", "password": "SECRET5"},
        "storage": "postgresql://ann:SECRET6@db.example/optuna",
        "batch": {"max_tokens": 2048},
    }
    synthetic.write_config(run, config, ["hub.token=SECRET4", "storage=postgresql://ann:SECRET6@db.example/optuna"])
    (run / "events.jsonl").write_text(json.dumps({"level": "error", "message": "token=SECRET7", "evidence": None}))
    text = write_report(run).read_text() + (run / "report.md").read_text()
    assert re.findall(r"SECRET\d", text) == []
    assert "max_tokens: 2048" in text
    assert "ann:•••@db.example" in text


@pytest.mark.parametrize("part", PARTS)
def test_a_missing_part_is_named_and_the_rest_still_shown(make_run: MakeRun, read_page: ReadPage, part: str) -> None:
    run = make_run()
    (run / part).unlink()
    page = read_page(write_report(run))
    everything = " ".join(page.sections.values())
    assert f"The file {part} was not written." in " ".join(everything.split())
    if part != "scores/test.parquet":
        assert page.rows["classes"]
    assert (run / "report.md").stat().st_size > 500


@pytest.mark.parametrize("part", PARTS)
def test_a_damaged_part_is_named_and_the_rest_still_shown(make_run: MakeRun, read_page: ReadPage, part: str) -> None:
    run = make_run()
    (run / part).write_bytes(b'{"half: [\xff\x00')
    page = read_page(write_report(run))
    everything = " ".join(" ".join(page.sections.values()).split())
    reason = {"events.jsonl": "1 line of events.jsonl cannot be read."}
    assert reason.get(part, f"The file {part} cannot be read") in everything


def test_an_empty_run_directory_still_gets_a_report(tmp_path: Path, read_page: ReadPage) -> None:
    page = read_page(write_report(tmp_path))
    assert "There is no test result, so the quality of the model is unknown" in page.text("header")
    assert "So it is unknown how the run ended" in page.text("header")
    assert not any("Plotly.newPlot" in script for script in page.scripts)
    assert max(map(len, page.scripts)) < 10_000  # without plotly.js


@pytest.mark.parametrize(
    ("state", "sentence"),
    [
        ("failed", "This run failed, at step 12 of 300: out of memory. This report covers what it wrote until then."),
        ("paused", "This run is paused, at step 12 of 300"),
        ("cancelled", "This run was cancelled, at step 12 of 300"),
    ],
)
def test_an_early_stop_is_reported(make_run: MakeRun, read_page: ReadPage, state: str, sentence: str) -> None:
    error = {"code": "oom", "message": "out of memory", "param": None} if state == "failed" else None
    run = make_run(state=state, error=error, metrics={}, progress={"step": 12, "steps": 300})
    shutil.rmtree(run / "scores")
    synthetic.write_curves(run, 12, validation=False)
    page = read_page(write_report(run))
    assert sentence in page.text("header")
    assert "There was no validation." in page.text("curves")
    assert "There are no test metrics." in page.text("metrics")
    assert "The file scores/test.parquet was not written." in page.text("examples")


def test_unlabelled_data_have_examples_but_no_classes(make_run: MakeRun, read_page: ReadPage) -> None:
    run = make_run()
    for name, share in (("test", 0.8), ("base", 0.2)):
        synthetic.write_scores(run, name, synthetic.scores(share, labelled=False))
    page = read_page(write_report(run))
    assert "Better than the base model: loss" in page.text("header")
    assert "have no labels" in page.text("classes")
    assert "some token of the reference is not the most likely one" in page.text("examples")
    assert "Accuracy" not in {row[0] for row in page.rows["metrics"] if row}


def test_many_labels_keep_their_confusions_readable(make_run: MakeRun, read_page: ReadPage) -> None:
    run = make_run()
    table = synthetic.scores(0.5)
    labels = [*synthetic.LABELS, *(f"other_{i}" for i in range(20))]
    scored = table.set_column(
        table.schema.get_field_index("label_logprobs"), "label_logprobs", pa.nulls(200, pa.list_(pa.float64()))
    )
    synthetic.write_scores(run, "test", scored.replace_schema_metadata({"labels": json.dumps(labels)}))
    page = read_page(write_report(run))
    assert "Most frequent confusions" in page.text("classes")
    assert ["other_7", "–", "–", "–", "0"] in page.rows["classes"]


def test_torn_event_lines_are_counted(make_run: MakeRun, read_page: ReadPage) -> None:
    run = make_run()
    with (run / "events.jsonl").open("a") as file:
        file.write('{"level": "warn", "mess')
    page = read_page(write_report(run))
    assert "The loss rose to 2.10." in page.text("events")
    assert "1 line of events.jsonl cannot be read." in page.text("events")


def test_markdown_tables_survive_any_prompt(make_run: MakeRun) -> None:
    run = make_run()
    table = synthetic.scores(0.5)
    prompt = "a | b\n# c `d` *e* <b>f</b> \\| [g](http://x)"
    table = table.set_column(table.schema.get_field_index("prompt"), "prompt", pa.array([prompt] * table.num_rows))
    synthetic.write_scores(run, "test", table)
    write_report(run)
    lines = (run / "report.md").read_text().splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("| worst mistakes"))
    body = lines[start + 2 : start + 12]
    assert len(body) == 10
    for line in body:
        assert len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) == 4, line
        assert "<b>" not in line
        assert "](" not in line


def test_markdown_gives_the_verdict_and_the_command(make_run: MakeRun) -> None:
    run = make_run()
    write_report(run)
    text = (run / "report.md").read_text()
    assert "**Better than the base model: accuracy" in text
    assert re.search(r"^\| Accuracy \| 0\.\d{3} \[0\.\d{3}, 0\.\d{3}\] \|", text, re.MULTILINE)
    assert text.rstrip().endswith("    kamerton train optimizer.lr=0.001 seed=0")


def test_a_path_without_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a directory"):
        write_report(tmp_path / "nowhere")
