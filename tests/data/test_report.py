"""The report describes the data, contains no script, and links to the lists of faults and rejects."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from kamerton.config.model_options import ModelOptions
from kamerton.data.encode.arrays import Encoded
from kamerton.data.gate import Prepared
from kamerton.data.inputs import encode_splits
from kamerton.data.options import DataOptions
from kamerton.data.report import manifest, write_report
from kamerton.data.summary import TARGET, show_examples
from kamerton.model.tiny import tiny_tokenizer
from support.rows import pairs, question


@pytest.fixture
def prepared(gate: Callable[..., Prepared]) -> Prepared:
    rows = [
        *pairs(100),
        *pairs(7),
        {"prompt": "<script>alert(1)</script> | *bold*", "completion": "yes"},
        {"prompt": ""},
    ]
    return gate([*rows, {"prompt": " spaced", "completion": "no"}], policy={"missing-field": "drop"})


def encoded(prepared: Prepared, folder: Path) -> tuple[Prepared, dict[str, Encoded]]:
    return encode_splits(prepared, tiny_tokenizer(), DataOptions(max_length=512), ModelOptions(name="tiny"), folder)


def test_three_forms_and_two_lists(prepared: Prepared, tmp_path: Path) -> None:
    page = write_report(encoded(prepared, tmp_path)[0], tmp_path / "report")
    names = {path.name for path in page.parent.iterdir()}
    assert names == {"data_report.html", "data_report.md", "data_report.json", "faults.jsonl", "rejects.jsonl"}
    report = json.loads((page.parent / "data_report.json").read_text())
    assert report["counts"]["rows read"] == 110
    assert report["rejected"] == {"exact-duplicate": 7, "missing-field": 1}
    assert sum(report["tokens"]["histogram"]["counts"]) == 102
    assert len((page.parent / "rejects.jsonl").read_text().splitlines()) == 8
    html, markdown = page.read_text(), (page.parent / "data_report.md").read_text()
    for text in (html, markdown):
        assert "110 rows read, 8 left out" in text
        assert "exact-duplicate" in text
        assert "outer-whitespace" in text
    assert "histogram of lengths in tokens" in html


@pytest.mark.parametrize(("prompt", "headline"), [("one ", "headline good"), ("", "headline ")])
def test_only_a_report_of_rows_left_out_is_not_green(
    gate: Callable[..., Prepared], tmp_path: Path, prompt: str, headline: str
) -> None:
    rows = [{"prompt": f"{i:04}", "completion": "abcd"} for i in range(100, 130)]
    rows.append({"prompt": prompt and "0999", "completion": "abcd"})
    prepared = gate(rows, labels=None, policy={"empty-field": "drop"})
    page = write_report(encoded(prepared, tmp_path)[0], tmp_path / "report").read_text()
    assert f'<p class="{headline}">' in page
    assert re.search(r"All rows have \d+ characters\.", page)


def test_what_the_template_cannot_write_is_in_the_report(gate: Callable[..., Prepared], tmp_path: Path) -> None:
    turns = [("developer", "Be brief."), ("user", "Why?"), ("assistant", "So.")]
    rows = [{"messages": [{"role": role, "content": f"{text} {i}"} for role, text in turns]} for i in range(30)]
    page = write_report(encoded(gate(rows), tmp_path)[0], tmp_path / "report")
    assert "developer turns (as system turns)" in page.read_text()


def test_data_cannot_become_markup(prepared: Prepared, tmp_path: Path) -> None:
    prepared.facts.name = "<script>alert(1)</script> | *bold*"
    page = write_report(prepared, tmp_path / "report")
    assert "<script" not in page.read_text()
    markdown = (page.parent / "data_report.md").read_text()
    assert "<script" not in markdown
    assert "\\| \\*bold\\*" in markdown


def test_the_manifest_is_small_and_plain(prepared: Prepared) -> None:
    result = json.loads(json.dumps(manifest(prepared)))
    assert result["fingerprint"] == prepared.fingerprint
    assert set(result["splits"]) == {"train", "validation", "test"}
    assert result["counts"]["exact duplicates removed"] == 7


def test_what_is_trained_on_is_coloured(gate: Callable[..., Prepared], tmp_path: Path) -> None:
    prepared = gate([{"prompt": question(i), "completion": "naïve 日本"} for i in range(40)])
    _, parts = encoded(prepared, tmp_path)
    first, second = show_examples(parts["train"], tiny_tokenizer(), 2)
    coloured = [first.plain[span.start : span.end] for span in first.spans if TARGET in str(span.style)]
    assert coloured == ["naïve 日本", "<|im_end|>", "\n"]
    example = parts["train"].examples[0]
    assert f"user\n{example.prompt}<|im_end|>" in first.plain
    assert "trained on" in second.plain
