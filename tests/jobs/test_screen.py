"""The live screen of a job, as a terminal shows it."""

from __future__ import annotations

import io
import json
from pathlib import Path

from rich.console import Console

from kamerton.jobs.screen import job_facts, jobs_table, live_screen, seconds
from kamerton.jobs.store import read_status
from kamerton.locks import acquire
from kamerton.run.opening import LOCK


def test_the_screen_shows_progress_metrics_and_the_last_events(tmp_path: Path) -> None:
    path = tmp_path / "animals" / "one"
    path.mkdir(parents=True)
    progress = {"step": 30, "steps": 60, "epoch": 0.5, "eta_s": 75.2, "examples": {"processed": 240, "total": 480}}
    metrics = {"train": {"loss": 1.25}}
    (path / "run.json").write_text(json.dumps({"state": "running", "progress": progress, "metrics": metrics}))
    events = [{"time": f"2026-01-02T03:04:0{n}+00:00", "level": "warn", "message": f"[odd] {n}"} for n in range(8)]
    (path / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    console = Console(width=80, record=True, file=io.StringIO())
    lock = acquire(path / LOCK)
    assert lock is not None
    with lock:
        console.print(live_screen(path, read_status(path)))
    shown = console.export_text()
    for text in ("animals/one", "30 of 60", "240 of 480", "1 min 15 s", "loss 1.25", "03:04:07", "[odd] 7", "[odd] 3"):
        assert text in shown
    assert "[odd] 2" not in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_a_list_shows_the_reward_of_training_on_rewards(tmp_path: Path) -> None:
    jobs = []
    for objective in ("grpo", "sft"):
        path = tmp_path / "sums" / objective
        path.mkdir(parents=True)
        metrics = {"test": {"loss": 1.5, "accuracy": 0.25, "reward": 0.75}}
        (path / "run.json").write_text(json.dumps({"state": "succeeded", "objective": objective, "metrics": metrics}))
        jobs.append(read_status(path))
    lines = jobs_table(jobs).plain.splitlines()
    assert [line.split()[-1] for line in lines] == ["test", "0.750", "0.250"]


def test_a_cross_validation_is_listed_with_its_out_of_fold_metrics(tmp_path: Path) -> None:
    path = tmp_path / "cv" / "k"
    path.mkdir(parents=True)
    metrics = {"mean": {"accuracy": 0.5}, "out_of_fold": {"accuracy": 0.625, "loss": 2.0}}
    (path / "run.json").write_text(json.dumps({"state": "succeeded", "metrics": metrics}))
    job = read_status(path)
    assert jobs_table([job]).plain.splitlines()[1].split()[-1] == "0.625"
    console = Console(record=True, width=80, file=io.StringIO())
    console.print(job_facts(job))
    shown = " ".join(console.export_text().split())
    assert "mean accuracy 0.5 " in shown
    assert "out of fold accuracy 0.625, loss 2" in shown


def test_times_are_short() -> None:
    assert [seconds(value) for value in (None, 5.4, 65, 3_725)] == ["", "5 s", "1 min 5 s", "1 h 2 min"]
