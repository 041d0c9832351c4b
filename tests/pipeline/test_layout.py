"""The loss is chosen before training, and kept or reported when the run is resumed on another machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from kamerton.config.check import to_config
from kamerton.config.compose import compose_values
from kamerton.model.liger import LossChoice
from kamerton.model.matmul_probe import MatmulChoice
from kamerton.model.tiny import tiny_model
from kamerton.pipeline import layout
from kamerton.pipeline.layout import choose_batch_layout
from kamerton.run.directory import RunDirectory
from support.ragged import Ragged


def settled(path: Path, before: dict[str, Any] | None = None, *overrides: str) -> tuple[Any, list[dict[str, Any]]]:
    """Return the batch section of the run's record, and the run's events."""
    config = to_config(compose_values(["model=tiny", "data=jsonl", "data.path=rows.jsonl", *overrides]))
    run = RunDirectory(path, resuming=before is not None, started={"batch": before} if before else None)
    choose_batch_layout(config, tiny_model(), Ragged(8), run, Console(quiet=True))  # type: ignore[arg-type]
    events = path / "events.jsonl"
    return run.values["batch"], [
        json.loads(line) for line in events.read_text().splitlines()
    ] if events.exists() else []


def test_on_a_cpu_the_loss_is_our_own(tmp_path: Path) -> None:
    batch, events = settled(tmp_path)
    assert batch["liger"] is False
    assert not events


def test_resuming_off_the_gpu_reports_the_changed_loss_kernel(tmp_path: Path) -> None:
    batch, (event,) = settled(tmp_path, {"cut": "tree", "max_tokens": 512, "liger": True})
    assert batch == {"cut": "tree", "max_tokens": 512, "liger": False, "matmul": "float32", "kernels": None}
    assert event["code"] == "liger"
    assert "rounding will differ" in event["message"]


@pytest.mark.parametrize(("overrides", "reported"), [([], True), (["model.fused=false"], False)])
def test_a_kernel_that_fails_is_named(
    overrides: list[str], reported: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        layout, "choose_loss", lambda *_, **__: LossChoice(liger=False, reason="its losses differ by 3")
    )
    batch, events = settled(tmp_path, None, *overrides)
    assert batch["liger"] is False
    assert [event["code"] for event in events] == (["liger"] if reported else [])


def test_the_format_of_products_is_measured_once_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("run", "resumed"):
        (tmp_path / folder).mkdir()
    choices = [MatmulChoice("bfloat16", 1.4)]
    monkeypatch.setattr(layout, "choose_matmul", lambda *_: choices.pop())
    batch, (event,) = settled(tmp_path / "run", None, "model.matmul=auto")
    assert batch["matmul"] == "bfloat16"
    assert (event["level"], event["code"]) == ("info", "matmul")
    assert "1.40 times as fast" in event["message"]
    resumed, events = settled(tmp_path / "resumed", batch, "model.matmul=auto")
    assert resumed == batch
    assert not events


def test_products_without_kernels_stay_in_float32(tmp_path: Path) -> None:
    batch, events = settled(tmp_path, None, "model.matmul=auto", "model.fused=false")
    assert batch["matmul"] == "float32"
    assert not events


def test_a_processor_without_bfloat16_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "is_supported", lambda: False)
    _, (event,) = settled(tmp_path, None, "model.matmul=bfloat16")
    assert event["level"] == "warn"
    assert "has no effect" in event["message"]


@pytest.mark.parametrize("compiles", [True, False])
def test_a_new_run_uses_the_latest_kernels_that_work_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compiles: bool
) -> None:
    for folder in ("run", "resumed"):
        (tmp_path / folder).mkdir()
    monkeypatch.setattr(layout, "library", lambda: object() if compiles else None)
    monkeypatch.setattr(layout, "fuse", lambda *_, **__: None)
    batch, events = settled(tmp_path / "run", None)
    assert batch["kernels"] == (3 if compiles else 2)
    assert events == []
    resumed, events = settled(tmp_path / "resumed", {**batch, "kernels": 3})
    assert resumed["kernels"] == 3
    assert [event["code"] for event in events] == ([] if compiles else ["kernels"])


def test_a_run_of_an_older_version_keeps_its_arithmetic(tmp_path: Path) -> None:
    older = {"cut": "tree", "max_tokens": 512, "liger": False, "matmul": "float32"}
    batch, events = settled(tmp_path, older)
    assert batch["kernels"] is None
    assert events == []
