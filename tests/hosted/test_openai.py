"""A hosted run from the data to the report, through every interruption; the endpoint is imitated in its protocol."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kamerton.endpoint import connect
from kamerton.errors import Cancelled, Interrupted, RunFailed, UserError
from kamerton.hosted import openai as page
from kamerton.monitor.series import read_rows
from kamerton.score.table import read_scores
from support.imitation import Imitation, failing
from support.runs import record

KEY = "sk-abcdefghijklmnop"
Hosted = Callable[..., Any]


def events(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (path / "events.jsonl").read_text().splitlines()]


def test_a_run_is_a_run_directory_like_any_other(
    endpoint: Imitation, hosted: Hosted, capsys: pytest.CaptureFixture[str]
) -> None:
    result = hosted("trainer.max_epochs=2", "batch.size=8", "model.suffix=pets", typed=("optimizer.lr=1", "seed=42"))
    path, results = result.path, record(result.path)
    assert (results["state"], results["provider"], results["model"]["name"]) == ("succeeded", "openai", "tiny")
    (request,) = endpoint.requests
    assert request["method"]["supervised"]["hyperparameters"] == {"n_epochs": 2, "batch_size": 8}
    assert (request["model"], request["seed"], request["suffix"], request["metadata"]["kamerton_run"]) == (
        "tiny",
        42,
        "pets",
        "one",
    )
    sent = [json.loads(line) for line in endpoint.contents[request["training_file"]].splitlines()]
    assert len(sent) == results["data"]["counts"]["train"]
    assert [turn["role"] for turn in sent[0]["messages"]] == ["user", "assistant"]
    assert "number" not in sent[0]  # no metadata
    assert request["validation_file"] in endpoint.files
    rows = dict(read_rows(path / "metrics.csv"))
    assert sorted(rows) == [1, 2, 3, 4]
    assert rows[4]["train/loss"] == 0.5
    assert rows[4]["val/loss"] == 0.75
    assert results["metrics"]["best"]["loss"] == 0.75
    assert results["progress"]["steps"] == 4
    assert results["progress"]["examples"]["processed"] == results["progress"]["examples"]["total"]
    test, base = (read_scores(path / "scores" / f"{name}.parquet") for name in ("test", "base"))
    assert test.num_rows == base.num_rows == results["data"]["counts"]["test"]
    assert results["metrics"]["test"]["accuracy"] == 1.0
    assert results["metrics"]["base"]["accuracy"] < 1.0  # always answers yes
    assert "majority" in results["baselines"]
    assert endpoint.counts["chat"] == 2 * test.num_rows
    messages = [event["message"] for event in events(path)]
    assert messages.count("The job has successfully completed") == messages.count("Created fine-tuning job") == 1
    report = (path / "report.html").read_text()
    assert "ft:tiny:me::ftjob-1" in report
    output = capsys.readouterr().out
    assert "cost   training unknown" in output
    assert "unused a hosted model cannot use optimizer.lr=1; for the learning rate give" in output
    assert "seed=42" not in output.split("unused")[1].split("learning rate")[0]
    assert KEY not in output
    assert endpoint.keys == {f"Bearer {KEY}"}
    files = [file for file in path.rglob("*") if file.is_file()]
    assert len(files) > 8
    assert not [file for file in files if KEY.encode() in file.read_bytes()]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "number"), [("upload", 1), ("upload", 2), ("create", 1), ("job", 3), ("events", 4), ("chat", 5)]
)
def test_a_kill_at_any_step_causes_no_second_upload_or_job(
    endpoint: Imitation, forked: Hosted, hosted: Hosted, kind: str, number: int
) -> None:
    process: list[Any] = []

    def die(what: str, count: int) -> bool:
        if (what, count) == (kind, number):
            while not process:
                time.sleep(0.01)
            process[0].kill()  # before it has the answer
        return True

    endpoint.after = die
    process.append(forked())
    process[0].join()
    assert process[0].exitcode == -9
    endpoint.after = lambda what, count: True
    result = hosted()
    assert result.state == "succeeded"
    assert len(endpoint.files) == 2
    assert len(endpoint.jobs) == 1
    words = [event["message"] for event in events(result.path) if event["code"] == "hosted.event"]
    assert sorted(words) == ["Created fine-tuning job", "The job has successfully completed"]
    assert [step for step, _ in read_rows(result.path / "metrics.csv")] == [1, 2, 3, 4]
    answers = 2 * record(result.path)["data"]["counts"]["test"]
    assert answers <= endpoint.counts["chat"] <= answers + 8  # those that were under way


@pytest.mark.parametrize("kind", ["upload", "create"])
def test_a_lost_response_creates_nothing_twice(endpoint: Imitation, hosted: Hosted, kind: str) -> None:
    endpoint.after = lambda what, count: (what, count) != (kind, 1)  # done, and the connection drops
    assert hosted("base=false", "baselines=false").state == "succeeded"
    assert (len(endpoint.files), len(endpoint.jobs)) == (2, 1)


def test_temporary_failures_are_retried(endpoint: Imitation, hosted: Hosted) -> None:
    first = {"upload": failing(429), "create": failing(500), "job": failing(429), "events": failing(429)}
    first |= {"chat": failing(429)}
    endpoint.before = lambda kind, number: first.get(kind) if number == 1 else None
    assert hosted("base=false", "baselines=false").state == "succeeded"
    assert (len(endpoint.files), len(endpoint.jobs)) == (2, 1)


@pytest.mark.parametrize(
    ("failure", "code", "words"),
    [
        (failing(401, message=f"Incorrect API key provided: {KEY}"), "hosted.key", "OPENAI_API_KEY"),
        (failing(429, "insufficient_quota"), "hosted.quota", "add credit"),
        (failing(404, message="The model `tiny` does not exist"), "hosted.unknown", "model"),
        (failing(400, message="too few examples"), "hosted.refused", "too few examples"),
    ],
)
def test_what_is_refused_is_a_fault_with_its_fix(
    endpoint: Imitation, hosted: Hosted, tmp_path: Path, failure: Any, code: str, words: str
) -> None:
    endpoint.before = lambda kind, number: failure if kind == "create" else None
    with pytest.raises(UserError, match=words) as error:
        hosted()
    assert error.value.faults[0].code == code
    assert KEY not in str(error.value)
    assert record(tmp_path / "outputs" / "jsonl" / "one")["state"] == "failed"


def test_a_refused_run_can_be_resumed_after_the_fix(endpoint: Imitation, hosted: Hosted) -> None:
    endpoint.before = lambda kind, number: failing(429, "insufficient_quota") if kind == "create" else None
    with pytest.raises(UserError):
        hosted()
    endpoint.before = lambda kind, number: None
    assert hosted("base=false", "baselines=false").state == "succeeded"
    assert len(endpoint.files) == 2


def test_an_unset_key_of_a_local_server_is_reported_as_missing(
    endpoint: Imitation, hosted: Hosted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether a local server needs a key is known only from its response."""
    monkeypatch.delenv("OPENAI_API_KEY")
    endpoint.before = lambda kind, number: failing(401, message="Incorrect API key provided.")
    with pytest.raises(UserError, match="the environment variable OPENAI_API_KEY is not set") as error:
        hosted()
    assert error.value.faults[0].fix.startswith("export OPENAI_API_KEY=")
    assert not endpoint.files


def test_a_failed_hosted_job_reports_the_reason_and_the_next_command_creates_another(
    endpoint: Imitation, hosted: Hosted
) -> None:
    endpoint.fate = "failed"
    with pytest.raises(RunFailed, match="the file is no good"):
        hosted()
    endpoint.fate = "succeeded"
    result = hosted("base=false", "baselines=false")
    assert record(result.path)["hosted"]["job_id"] == "ftjob-2"
    assert record(result.path)["hosted"]["former_jobs"] == ["ftjob-1"]
    assert len(endpoint.files) == 2
    assert endpoint.jobs["ftjob-1"]["metadata"] != endpoint.jobs["ftjob-2"]["metadata"]


def test_a_job_cancelled_at_the_endpoint_is_a_cancelled_run(endpoint: Imitation, hosted: Hosted) -> None:
    endpoint.fate = "cancelled"
    with pytest.raises(Cancelled, match="was cancelled"):
        hosted()


def test_stopping_locally_keeps_the_hosted_job_and_prints_how_to_resume(
    endpoint: Imitation, hosted: Hosted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(seconds: float) -> None:
        raise Interrupted

    monkeypatch.setattr(page, "_stoppable", lambda stop, sleep: stopped)
    with pytest.raises(Interrupted):
        hosted()
    path = tmp_path / "outputs" / "jsonl" / "one"
    assert record(path)["state"] == "paused"
    assert endpoint.jobs["ftjob-1"]["status"] == "running"
    assert "kamerton runs stop" in next(event for event in events(path) if event["code"] == "hosted.left")["advice"]
    monkeypatch.undo()
    monkeypatch.setenv("OPENAI_BASE_URL", endpoint.url)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    assert hosted().state == "succeeded"
    assert len(endpoint.jobs) == 1


def test_a_run_resumes_at_its_original_endpoint(
    endpoint: Imitation, hosted: Hosted, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint.fate = "failed"
    with pytest.raises(RunFailed):
        hosted()
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    with pytest.raises(UserError, match=r"was begun at http://127") as error:
        hosted()
    assert error.value.faults[0].code == "hosted.moved"


def test_an_unavailable_base_model_only_omits_its_column(endpoint: Imitation, hosted: Hosted) -> None:
    endpoint.mute.add("tiny")
    result = hosted("baselines=false")
    assert result.state == "succeeded"
    assert "base" not in record(result.path)["metrics"]
    assert any(event["code"] == "hosted.base" for event in events(result.path))


def test_following_a_job_survives_an_outage(
    endpoint: Imitation, hosted: Hosted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "connect", functools.partial(connect, retries=0))  # the client's own take seconds
    endpoint.before = lambda kind, number: failing(429) if kind == "job" and 3 <= number <= 10 else None
    result = hosted("base=false", "baselines=false")
    assert result.state == "succeeded"
    assert [event["code"] for event in events(result.path)].count("hosted.outage") == 1
