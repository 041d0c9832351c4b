"""Fine-tuning from end to end: the `openai` package, which knows nothing of Kamerton, against `kamerton serve`.

Every answer to the client is held against the package's types (`strict`). Servers are killed, jobs are not.
"""

from __future__ import annotations

import json
import os
import re
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from kamerton.jobs.store import CANCEL, WORKER, active_process
from kamerton.locks import lock_owner
from support.nursery import children
from support.server_process import Server, wait_for
from support.serving import chats, until, upload
from support.warm import Starter

pytestmark = pytest.mark.slow

CAT: Any = [{"role": "user", "content": "the cat number 3"}]
ASKED: dict[str, Any] = {"messages": CAT, "max_tokens": 8, "temperature": 0}
BEGUN = ("queued", "validating_files")
HOW = {"n_epochs": 50, "batch_size": 8, "learning_rate_multiplier": 50}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, own_cache: Path, warm: Starter) -> Iterator[Server]:
    """One server for all tests of this file; nothing that it started is left behind."""
    result = Server(tmp_path_factory.mktemp("server"), warm)
    yield result
    result.clean()


@pytest.fixture(scope="module")
def tuned(server: Server) -> Any:
    """A job that has succeeded, though it rested in between and its server was killed while it ran."""
    client = server.client()
    jobs = client.fine_tuning.jobs
    job = jobs.create(
        model="tiny",
        training_file=upload(client, chats()),
        validation_file=upload(client, chats(4, "a"), "held out.jsonl"),
        method={"type": "supervised", "supervised": {"hyperparameters": HOW}},  # type: ignore[typeddict-item]
        suffix="animals",
        metadata={"purpose": "proof"},
        seed=7,
    )
    assert (job.status in BEGUN, job.fine_tuned_model, job.finished_at) == (True, None, None)
    until(client, job.id, "running", "failed")
    resting = jobs.pause(job.id)
    assert (str(resting.status), resting.error, resting.finished_at) == ("paused", None, None)
    assert jobs.resume(job.id).status in BEGUN
    until(client, job.id, "running", "failed")
    with pytest.raises(openai.ConflictError, match="is running"):
        jobs.resume(job.id)
    server.end(signal.SIGKILL)
    assert active_process(server.root / "ann" / job.id) is not None  # it trains without a server
    server.start()
    return until(client, job.id, "succeeded", "failed")


def test_from_a_file_to_an_answer_over_a_restart(server: Server, tuned: Any) -> None:
    client = server.client()
    assert (tuned.status, tuned.error) == ("succeeded", None)
    assert tuned.fine_tuned_model == f"ft:tiny:ann:animals:{tuned.id}"
    assert tuned.hyperparameters.to_dict() == HOW == tuned.method.supervised.hyperparameters.to_dict()
    assert (tuned.seed, tuned.metadata, tuned.estimated_finish) == (7, {"purpose": "proof"}, None)
    assert tuned.created_at <= tuned.finished_at
    assert tuned.trained_tokens > 0

    events = list(client.fine_tuning.jobs.list_events(tuned.id, limit=7))  # pages of seven
    assert len({event.id for event in events}) == len(events)
    assert [event.created_at for event in events] == sorted((event.created_at for event in events), reverse=True)
    assert events[0].message == "The job has successfully completed"
    assert events[1].message == f"New fine-tuned model created: {tuned.fine_tuned_model}"
    steps = [event.data for event in events if event.type == "metrics"]
    run = json.loads((server.root / "ann" / tuned.id / "run.json").read_text())
    assert [data["step"] for data in steps[::-1]] == list(range(1, run["progress"]["step"] + 1))
    assert steps[0]["train_loss"] < steps[-1]["train_loss"] - 0.5

    (checkpoint,) = client.fine_tuning.jobs.checkpoints.list(tuned.id)
    assert 1 <= checkpoint.step_number <= len(steps)
    assert checkpoint.metrics.full_valid_loss is not None
    assert {model.id: model.owned_by for model in client.models.list()} == {
        "tiny": "kamerton",
        tuned.fine_tuned_model: "ann",
    }
    for name in (tuned.fine_tuned_model, checkpoint.fine_tuned_model_checkpoint):
        assert client.models.retrieve(name).id == name
    answers = [
        client.chat.completions.create(model=name, **ASKED).choices[0].message.content
        for name in ("tiny", tuned.fine_tuned_model, checkpoint.fine_tuned_model_checkpoint)
    ]
    chunks = list(client.chat.completions.create(model=tuned.fine_tuned_model, **ASKED, stream=True))
    streamed = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert answers[0] != answers[1] == answers[2] == streamed

    for call, refusal in (
        (client.fine_tuning.jobs.cancel, openai.BadRequestError),
        (client.fine_tuning.jobs.pause, openai.BadRequestError),
        (client.fine_tuning.jobs.resume, openai.ConflictError),
    ):
        with pytest.raises(refusal):
            call(tuned.id)


def test_resources_of_other_tenants_are_unknown(server: Server, tuned: Any) -> None:
    other = server.client("ben")
    jobs, files, models = other.fine_tuning.jobs, other.files, other.models

    def create(name: str) -> Any:
        return jobs.create(model="tiny", training_file=name)

    def chat(name: str) -> Any:
        return other.chat.completions.create(model=name, messages=[{"role": "user", "content": "hello"}])

    of_a_job = (jobs.retrieve, jobs.cancel, jobs.pause, jobs.resume, jobs.list_events, jobs.checkpoints.list)
    unknown = "f" * 24
    for name, nothing, calls in (
        (tuned.id, f"ftjob-{unknown}", of_a_job),
        (tuned.training_file, f"file-{unknown}", (files.retrieve, files.content, files.delete, create)),
        (tuned.fine_tuned_model, f"ft:tiny:ann:animals:ftjob-{unknown}", (models.retrieve, models.delete, chat)),
    ):
        for call in calls:
            assert refusal(call, name) == refusal(call, nothing)
    for page in (jobs.list(), files.list()):
        assert page.data == []
    assert [model.id for model in models.list()] == ["tiny"]
    assert server.client().fine_tuning.jobs.retrieve(tuned.id) == tuned


def refusal(call: Callable[[str], Any], name: str) -> str:
    """Return the message about a name, without the name."""
    with pytest.raises(openai.NotFoundError) as refused:
        call(name)
    return str(refused.value).replace(name, "NAME")


def test_a_job_is_cancelled_though_the_server_dies_meanwhile(server: Server) -> None:
    client = server.client()
    jobs, file_id = client.fine_tuning.jobs, upload(client, chats())
    job = jobs.create(model="tiny", training_file=file_id)
    path = server.root / "ann" / job.id
    wait_for(lambda: bool(training_of(path)), "nobody trains")
    (training,) = training_of(path)
    os.kill(training, signal.SIGSTOP)
    call = threading.Thread(target=cancel_unheard, args=(server, job.id))
    call.start()
    wait_for(lambda: (path / CANCEL).exists() and is_asked_to_end(training), "nobody cancels")
    server.end(signal.SIGKILL)
    call.join(600)
    os.kill(training, signal.SIGCONT)
    server.start()

    cancelled = until(client, job.id, "cancelled", "paused", "failed")
    assert (cancelled.status, cancelled.error) == ("cancelled", None)
    assert cancelled.finished_at is not None
    assert jobs.cancel(job.id) == cancelled
    assert client.files.delete(file_id).deleted
    with pytest.raises(openai.NotFoundError, match=file_id):
        jobs.resume(job.id)


def training_of(path: Path) -> list[int]:
    """Return the training process of a job, its worker's child; None while the job is queued."""
    worker = lock_owner(path / WORKER)
    if worker is None or worker.pid is None:
        return []
    return children(worker.pid)


def cancel_unheard(server: Server, job_id: str) -> None:
    """Cancel a job over a connection that breaks before there is an answer."""
    with pytest.raises(openai.APIConnectionError):
        server.client().fine_tuning.jobs.cancel(job_id)


def is_asked_to_end(pid: int) -> bool:
    """Return whether SIGTERM is pending for a stopped process."""
    (pending,) = re.findall(r"^ShdPnd:\s*(\w+)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return bool(int(pending, 16) >> (signal.SIGTERM - 1) & 1)


def test_a_server_shuts_down_cleanly_and_alone(server: Server) -> None:
    client, how = server.client(), {"n_epochs": 1}
    job = client.fine_tuning.jobs.create(model="tiny", training_file=upload(client, chats()), hyperparameters=how)
    path = server.root / "ann" / job.id
    wait_for(lambda: bool(training_of(path)), "nobody trains")
    (training,) = training_of(path)
    os.kill(training, signal.SIGSTOP)  # or it might be done before
    assert server.end(signal.SIGTERM) == 0
    assert "Traceback" not in server.log.read_text()
    assert training_of(path) == [training]
    os.kill(training, signal.SIGCONT)
    server.start()
    assert until(client, job.id, "succeeded", "failed").status == "succeeded"


def test_a_broken_file_fails_the_job_and_names_the_line(server: Server, tuned: Any) -> None:
    client = server.client()
    lines = b'{"messages": [\n', '{"prompt": "café", "completion": "x"}\n'.encode("latin-1"), b'{"messages": []}\n'
    jobs, file_id = client.fine_tuning.jobs, upload(client, chats(3) + b"".join(lines), "broken.jsonl")
    job = jobs.create(model="tiny", training_file=file_id, metadata={"purpose": "broken"})
    with pytest.raises(openai.ConflictError, match=f"Job {job.id} still needs"):
        client.files.delete(file_id)
    failed = until(client, job.id, "failed", "succeeded")
    assert failed.error.param == "training_file"
    assert failed.error.code == "invalid_training_file"
    for part in ("broken.jsonl:7: not JSON", "broken.jsonl:8: byte 0xe9", "broken.jsonl:9:messages: messages is not"):
        assert part in failed.error.message
    assert failed.fine_tuned_model is None
    events = list(client.fine_tuning.jobs.list_events(job.id))
    assert "error" in [event.level for event in events]
    assert str(server.root.parent) not in failed.to_json() + "".join(event.to_json() for event in events)
    assert list(client.fine_tuning.jobs.checkpoints.list(job.id)) == []

    listed = [item.id for item in client.fine_tuning.jobs.list(limit=1)]  # page by page
    assert listed[0] == job.id
    assert tuned.id in listed
    assert len(set(listed)) == len(listed)
    assert [item.id for item in client.fine_tuning.jobs.list(after=job.id)] == listed[1:]
    for purpose, result in (("broken", [job.id]), ("proof", [tuned.id]), ("none", [])):
        assert [item.id for item in client.fine_tuning.jobs.list(metadata={"purpose": purpose})] == result


def test_deleting_a_model_keeps_its_job(server: Server, tuned: Any) -> None:
    client, name = server.client(), tuned.fine_tuned_model
    with pytest.raises(openai.PermissionDeniedError):
        client.models.delete("tiny")
    assert client.models.delete(name).deleted
    left = [model.id for model in client.models.list()]
    assert "tiny" in left
    assert name not in left
    for call in (client.models.retrieve, client.models.delete):
        with pytest.raises(openai.NotFoundError):
            call(name)
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model=name, messages=CAT)
    assert client.fine_tuning.jobs.retrieve(tuned.id) == tuned
    assert list(client.fine_tuning.jobs.checkpoints.list(tuned.id)) == []
