"""A job's events in pages: together they are the complete list, and only one page is built at a time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kamerton.server.errors import ApiError
from kamerton.server.routes import events
from kamerton.server.settings import Settings
from kamerton.train.metrics_file import MetricsFile

JOB = "ftjob-0123456789abcdef01234567"
START = 1_750_000_000


def at(second: int) -> str:
    """A moment of a record."""
    return f"2025-06-15T15:06:{40 + second}+00:00"


def job(root: Path, steps: list[int], notes: list[int], state: str, pace: float = 0.0) -> Path:
    """The run directory of a job that logged these steps, and noted something at these seconds after its start."""
    path = root / "ann" / JOB
    path.mkdir(parents=True)
    log = MetricsFile(str(path))
    for step in steps:
        log.log_metrics({"train/loss": 1 / step, "perf/tokens_per_s": 9.0}, step - 1)
        log.save()
        if step % 3 == 0:  # a separate row
            log.log_metrics({"val/loss": 2 / step}, step - 1)
            log.save()
    line = {"level": "info", "code": "c", "evidence": None, "advice": None}
    noted = [{**line, "time": at(second), "message": f"note {number}"} for number, second in enumerate(notes)]
    (path / "events.jsonl").write_text("".join(json.dumps(item) + "\n" for item in noted))
    last = steps[-1] if steps else 0
    record: dict[str, Any] = {"state": state, "progress": {"step": last, "steps": last + 1, "seconds": pace * last}}
    record |= {"request": {"created": START, "model": "tiny", "suffix": None, "training_file": "file-x"}}
    record |= {"times": {"started": at(0), "finished": at(19)}}
    (path / "run.json").write_text(json.dumps(record))
    return path


def listed(root: Path, path: Path, limit: int) -> list[events.Event]:
    """All events, page by page."""
    result: list[events.Event] = []
    more = True
    while more:
        after = result[-1].id if result else None
        page, more = events.events_page(Settings(root), path, after, limit)
        assert len(page) == limit or not more
        result += page
    return result


@given(
    st.sets(st.integers(1, 60), max_size=12).map(sorted),
    st.lists(st.integers(0, 19), max_size=6),
    st.sampled_from(["succeeded", "paused"]),
    st.sampled_from([0.0, 0.1, 0.5, 3.0]),
    st.integers(1, 9),
)
def test_pages_one_after_the_other_are_the_whole_list(
    tmp_path_factory: pytest.TempPathFactory, steps: list[int], notes: list[int], state: str, pace: float, limit: int
) -> None:
    root = tmp_path_factory.mktemp("root")
    path = job(root, steps, notes, state, pace)
    all_events = listed(root, path, 10_000)
    assert listed(root, path, limit) == all_events
    ends = ["early", "model", "succeeded"] if state == "succeeded" else []
    names = ["created", "started", *range(len(notes)), *ends, *(f"step-{step}" for step in steps)]
    oldest_first = [f"ftevent-{JOB.removeprefix('ftjob-')}-{name}" for name in names]
    assert sorted(event.id for event in all_events) == sorted(oldest_first)
    order = {event_id: number for number, event_id in enumerate(oldest_first)}
    assert all_events == sorted(all_events, key=lambda event: (event.time, order[event.id]), reverse=True)
    for event in all_events:
        if event.kind == "metrics":
            step = int(event.id.rpartition("-")[2])
            validated = {"full_valid_loss": 2 / step} if step % 3 == 0 else {}
            assert event.data == {"step": step, "total_steps": steps[-1] + 1, "train_loss": 1 / step, **validated}


def test_a_page_builds_its_own_events_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = job(tmp_path, list(range(1, 301)), [10, 11], "paused", 0.01)
    built: list[str] = []
    make = events.Event

    def counted(*values: Any, **more: Any) -> events.Event:
        built.append(values[0])
        return make(*values, **more)

    monkeypatch.setattr(events, "Event", counted)
    page, more = events.events_page(Settings(tmp_path), path, f"ftevent-{JOB.removeprefix('ftjob-')}-step-200", 5)
    assert [event.id.rpartition("-")[2] for event in page] == ["199", "198", "197", "196", "195"]
    assert more
    assert built == [event.id for event in page]


@pytest.mark.parametrize("name", ["step-4", "step-0", "step-02", "step-²", "step-9" + "9" * 30, "7", "", "model"])
def test_what_no_event_is_called_begins_no_page(tmp_path: Path, name: str) -> None:
    path = job(tmp_path, [1, 2, 3], [1], "paused")
    with pytest.raises(ApiError, match="nothing here has the id"):
        events.events_page(Settings(tmp_path), path, f"ftevent-{JOB.removeprefix('ftjob-')}-{name}", 5)
    with pytest.raises(ApiError, match="nothing here has the id"):
        events.events_page(Settings(tmp_path), path, "step-2", 5)


def test_steps_of_reinforcement_have_the_rewards_by_openais_names(tmp_path: Path) -> None:
    path = job(tmp_path, [], [], "running")
    log = MetricsFile(str(path))
    log.log_metrics({"train/loss": 0.0, "train/reward": 0.25, "train/length": 12.0, "train/no_signal": 0.5}, 0)
    log.log_metrics({"val/reward": 0.75, "val/loss": 3.0}, 0)
    log.save()
    (step,) = [event for event in listed(tmp_path, path, 10) if event.kind == "metrics"]
    assert step.message.endswith(": train mean reward=0.25, full validation mean reward=0.75")
    assert step.data is not None
    assert step.data["train_mean_reward"] == 0.25
    assert step.data["full_valid_mean_reward"] == 0.75
    assert step.data["completion_tokens_mean"] == 12
    assert step.data["train_no_signal"] == 0.5
    assert step.data["scores"] == {"train_reward_mean": 0.25, "valid_reward_mean": 0.75}
