"""Hosted runs as jobs: started, watched, stopped, paused and resumed from Python; evaluated and compared."""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kamerton import FineTuningConfig, FineTuningManager, TrainingMonitor
from kamerton.cli import main
from kamerton.errors import UserError
from kamerton.jobs.control import end_run
from kamerton.jobs.store import read_status
from kamerton.run.directory import read_events
from support.imitation import Imitation, failing
from support.runs import record

Hosted = Callable[..., Any]


@pytest.fixture
def left(endpoint: Imitation, forked: Hosted, tmp_path: Path) -> Path:
    """Return a run whose process was killed while its job continues."""
    process: list[Any] = []

    def die(kind: str, number: int) -> bool:
        if (kind, number) == ("job", 2) and process:
            process[0].kill()
        return True

    endpoint.after, endpoint.steps = die, 1000
    process.append(forked("base=false", "baselines=false"))
    process[0].join()
    endpoint.steps = 4
    return tmp_path / "outputs" / "jsonl" / "one"


def test_stopping_cancels_the_job_at_its_endpoint(endpoint: Imitation, left: Path) -> None:
    assert read_status(left).state == "failed"  # lost here; it continues at the endpoint
    assert endpoint.jobs["ftjob-1"]["status"] == "running"
    assert main(["runs", "stop", str(left)]) == 0
    assert endpoint.jobs["ftjob-1"]["status"] == "cancelled"
    assert record(left)["hosted"]["ended"] == "cancelled"


def test_pausing_pauses_it_there_and_the_same_command_resumes_it(
    endpoint: Imitation, left: Path, hosted: Hosted
) -> None:
    assert asyncio.run(end_run(left, "paused")).state == "paused"
    assert endpoint.jobs["ftjob-1"]["status"] == "paused"
    assert hosted("base=false", "baselines=false").state == "succeeded"
    assert endpoint.counts["resume"] == 1
    assert len(endpoint.jobs) == 1


def test_an_endpoint_that_cannot_pause_is_no_secret(endpoint: Imitation, left: Path, hosted: Hosted) -> None:
    endpoint.before = lambda kind, number: failing(404) if kind == "pause" else None
    assert asyncio.run(end_run(left, "paused")).state == "paused"
    assert "hosted.no-pause" in (left / "events.jsonl").read_text()
    assert hosted("base=false", "baselines=false").state == "succeeded"
    assert endpoint.counts["resume"] == 0


def test_a_stop_without_the_key_or_at_a_strange_address_stops_nothing(
    endpoint: Imitation, left: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (left / "config.yaml").read_text()
    (left / "config.yaml").write_text(text.replace("base_url: null", "base_url: https://evil.example/v1"))
    with pytest.raises(UserError) as error:
        asyncio.run(end_run(left, "cancelled"))
    assert "hosted.trust" in [fault.code for fault in error.value.faults]
    (left / "config.yaml").write_text(text.replace("key: OPENAI_API_KEY", "key: HOME"))
    with pytest.raises(UserError) as error:
        asyncio.run(end_run(left, "cancelled"))
    assert [fault.column for fault in error.value.faults] == ["model.key"]
    (left / "config.yaml").write_text(text)
    monkeypatch.setenv("OPENAI_API_KEY", "schlüssel")
    with pytest.raises(UserError) as error:
        asyncio.run(end_run(left, "cancelled"))
    assert [fault.code for fault in error.value.faults] == ["hosted.key"]
    assert endpoint.counts["cancel"] == 0


def test_a_partially_created_job_is_cancelled_too(endpoint: Imitation, forked: Hosted, tmp_path: Path) -> None:
    process: list[Any] = []

    def die(kind: str, number: int) -> bool:
        if kind == "create":
            process[0].kill()
        return True

    endpoint.after = die
    process.append(forked())
    process[0].join()
    path = tmp_path / "outputs" / "jsonl" / "one"
    assert record(path)["hosted"].get("job_id") is None
    assert asyncio.run(end_run(path, "cancelled")).state == "cancelled"
    assert endpoint.jobs["ftjob-1"]["status"] == "cancelled"


def test_a_hosted_run_is_evaluated_and_compared_like_any_other(
    endpoint: Imitation, hosted: Hosted, tmp_path: Path, animals: Path
) -> None:
    result = hosted("baselines=false")
    manager, monitor = FineTuningManager(root=tmp_path / "outputs"), TrainingMonitor(root=tmp_path / "outputs")

    async def look() -> None:
        requests_before = endpoint.counts["chat"]
        results = await manager.evaluate_model(str(result.path))
        ranking = await manager.compare_models([str(result.path), "openai/tiny"])
        assert (results.accuracy, ranking.best.model_id) == (1.0, str(result.path))
        assert endpoint.counts["chat"] == requests_before  # both were requested before
        second = await manager.prepare_data([{"prompt": f"the cat {n}", "completion": "yes"} for n in range(20)])
        elsewhere = await manager.evaluate_model(str(result.path), second.split([0.5, 0.25, 0.25]))
        assert elsewhere.scores.num_rows == endpoint.counts["chat"] - requests_before
        assert (await manager.evaluate_model("openai/tiny", second.split([0.5, 0.25, 0.25]))).scores is not None
        metrics = await monitor.track_metrics("one")
        assert (metrics.step, metrics.loss, metrics.epoch_progress) == (4, 0.5, 1.0)
        assert monitor.detect_issues(metrics) == []
        assert [first.step async for first in monitor.stream_metrics("one")] == [4]
        assert monitor.generate_report("one").exists()

    asyncio.run(look())


@pytest.mark.slow
def test_the_advanced_example_runs_as_it_is_and_its_job_takes_no_place_in_the_queue(
    endpoint: Imitation, tmp_path: Path, animals: Path, capsys: pytest.CaptureFixture[str], warm_jobs: None
) -> None:
    file = Path(__file__).resolve().parents[2] / "scripts" / "examples" / "advanced.py"
    spec = importlib.util.spec_from_file_location("advanced_hosted", file)
    assert spec is not None
    assert spec.loader is not None
    advanced = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(advanced)
    asyncio.run(advanced.main(str(animals), "gpt-3.5-turbo", 1e-4, 2, str(tmp_path / "outputs")))
    output = capsys.readouterr().out
    (path,) = [result.parent for result in (tmp_path / "outputs").glob("*/*/run.json")]
    assert "succeeded at step 4 of 4" in output, (path / "log.txt").read_text()
    assert "accuracy" in output
    assert endpoint.requests[0]["model"] == "gpt-3.5-turbo"
    assert endpoint.requests[0]["method"]["supervised"]["hyperparameters"] == {"n_epochs": 2, "batch_size": 4}
    (warning,) = [event for event in read_events(path)[0] if event["code"] == "hosted.unused"]
    assert "optimizer.lr=0.0001" in warning["evidence"]
    assert not (tmp_path / "outputs" / ".jobs").exists()


def test_a_missing_key_is_reported_before_a_job_is_created(
    tmp_path: Path, animals: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    manager = FineTuningManager(root=tmp_path / "outputs")

    async def start() -> None:
        await manager.start_training(FineTuningConfig(model="gpt-3.5-turbo"), await manager.prepare_data(animals))

    with pytest.raises(UserError, match="OPENAI_API_KEY"):
        asyncio.run(start())
    assert not list((tmp_path / "outputs").glob("*/*/run.json"))
