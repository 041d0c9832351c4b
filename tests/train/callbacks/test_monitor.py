"""The monitor inside runs of the tiny model: what it writes, that it can end a run, and that it changes nothing."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from kamerton.cli import main
from kamerton.monitor.codes import CODES

RUN = ["model=tiny", "data=jsonl", "batch.size=8", "logger=csv", "callbacks.progress_bar=null", "base=false"]
RUN += ["baselines=false", "model.export=null", "callbacks.early_stopping=null", "data.near_duplicates=null"]


def write(path: Path, count: int = 48, **more: Any) -> Path:
    rows = [{"prompt": f"{number} {'AB'[number % 2] * 8}", "completion": "xy"[number % 2]} for number in range(count)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row | more) + "\n" for row in rows))
    return path


def run(folder: Path, *overrides: str, code: int = 0) -> dict[str, Any]:
    """The record of a run, with its events."""
    data = write(folder / "rows.jsonl")
    command = ["train", *RUN, f"data.path={data}", f"paths.outputs={folder}", "name=w", "run_id=r", *overrides]
    assert main(command) == code
    path = folder / "w" / "r"
    file = path / "events.jsonl"
    events = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    return {**json.loads((path / "run.json").read_text()), "events": events}


@pytest.mark.slow
def test_a_problem_is_an_event_and_is_printed_unless_its_detector_is_off(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ["clip_norm=0.0001", "trainer.max_epochs=20", "trainer.max_steps=62"]
    on = run(tmp_path / "on", *more)
    (event,) = [item for item in on["events"] if item["code"] == "always-clipped"]
    assert event["level"] == "warn"
    assert event["evidence"]["step"] == 60
    assert "clip_norm" in event["advice"]
    assert "[always-clipped]" in capsys.readouterr().err
    assert on["progress"]["step"] == 62
    off = run(tmp_path / "off", *more, "monitor.ignore=[always-clipped]")
    assert "always-clipped" not in [item["code"] for item in off["events"]]
    assert "[always-clipped]" not in capsys.readouterr().err
    assert on["metrics"] == off["metrics"]


def test_a_problem_in_stop_on_ends_the_training_and_the_run_is_finished(tmp_path: Path) -> None:
    more = ["trainer.max_epochs=20", "trainer.max_steps=80", "monitor.stop_on=[always-clipped]"]
    outcome = run(tmp_path, "clip_norm=0.0001", *more)
    assert outcome["state"] == "succeeded"
    assert (outcome["progress"]["step"], outcome["stopped"]["code"]) == (60, "always-clipped")


def test_a_nan_loss_is_reported_before_the_run_fails(tmp_path: Path) -> None:
    outcome = run(tmp_path, "optimizer.lr=1e30", "clip_norm=null", "optimizer.weight_decay=0", code=1)
    assert outcome["state"] == "failed"
    assert {"non-finite-loss", "non-finite-gradient"} & {item["code"] for item in outcome["events"]}


@pytest.mark.slow
def test_pruning_of_a_resumed_run_uses_all_its_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from kamerton.train.module import FineTuneModule

    plain = FineTuneModule.training_step
    more = [
        "trainer.max_epochs=30",
        "trainer.max_steps=100",
        "optimizer.lr=0.003",
        "save.strategy=steps",
        "save.every=10",
    ]

    def interrupting(self: FineTuneModule, batch: Any, batch_idx: int) -> None:
        if self.global_step == 70:
            os.kill(os.getpid(), signal.SIGINT)
        plain(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(FineTuneModule, "training_step", interrupting)
        run(tmp_path, *more, code=130)
    codes = {item["code"] for item in run(tmp_path, *more)["events"]}
    assert not codes & (
        set(CODES) - {"data-starvation", "throughput-drop"}
    )  # what else the machine does decides on those


def test_codes_that_no_detector_finds_are_faults(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write(tmp_path / "rows.jsonl")
    assert main(["train", *RUN, f"data.path={data}", "monitor.stop_on=[overfiting]"]) == 2
    assert "did you mean 'overfitting'?" in capsys.readouterr().err
