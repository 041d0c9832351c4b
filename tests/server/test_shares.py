"""What one tenant may take from the others: nothing that they need to be answered."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import pytest

from kamerton.jobs.store import WORKER
from kamerton.locks import acquire
from kamerton.run.directory import RunDirectory
from kamerton.server import guard
from kamerton.server import ids as places
from kamerton.server.errors import ApiError
from kamerton.server.reserve import Reserve
from kamerton.server.routes import files, jobs, start
from kamerton.server.routes.jobs import Queueing
from support.serving import Served, chats, error, serving, upload


@pytest.fixture
def quiet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """A server whose jobs are queued, and never begin."""
    workers: list[Any] = []

    def start_worker(run: RunDirectory, *_: object) -> None:
        workers.append(acquire(run.path / WORKER))  # it is alive
        run.set_state("queued", job={"overrides": [], "cwd": "/", "limit": None, "queued": 0})
        run.release()

    def configure(request: Any, base: str, data: Any, path: Path) -> Any:
        values = {
            "run_id": path.name,
            "name": path.parent.name,
            "resume": "never",
            "trainer": {"max_epochs": 1},
            "batch": {"size": 1},
            "seed": 0,
        }
        return [], values

    monkeypatch.setattr(start, "start_worker", start_worker)
    monkeypatch.setattr(start, "_configure", configure)
    with serving(tmp_path) as result:
        yield result
    for lock in workers:
        lock.close()


def create(served: Served, tenant: str, file: str) -> int:
    """The status of an attempt."""
    with served.http(tenant) as client:
        body = {"model": "tiny", "training_file": file}
        return client.post("/v1/fine_tuning/jobs", json=body).status_code


def test_the_limit_of_jobs_is_exact_however_many_are_created_at_once(
    quiet: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(start, "MAX_ACTIVE", 5)
    file = upload(quiet.client(), chats(1))
    with ThreadPoolExecutor(24) as pool:
        statuses = Counter(pool.map(lambda _: create(quiet, "ann", file), range(24)))
    assert statuses == {200: 5, 429: 19}
    assert create(quiet, "ben", upload(quiet.client("ben"), chats(1))) == 200


def test_resuming_counts_as_much_as_creating(quiet: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start, "MAX_ACTIVE", 1)
    client = quiet.client()
    file = upload(client, chats(1))
    assert create(quiet, "ann", file) == 200
    (job,) = client.fine_tuning.jobs.list().data
    rested = quiet.settings.root / "ann" / ("ftjob-" + "0" * 24)
    rested.mkdir()
    record = (quiet.settings.root / "ann" / job.id / "run.json").read_text()
    (rested / "run.json").write_text(record.replace('"queued"', '"paused"').replace(job.id, rested.name))
    with pytest.raises(openai.RateLimitError, match="unfinished jobs"):
        client.fine_tuning.jobs.resume(rested.name)


def test_many_new_jobs_occupy_only_one_thread() -> None:
    began, go = list[str](), threading.Event()

    def work(name: str) -> None:
        began.append(name)
        go.wait(300)

    async def all_at_once() -> None:
        queueing = Queueing()
        tasks = [asyncio.create_task(queueing.run("ann", lambda n=n: work(f"ann{n}"))) for n in range(60)]
        while not began:
            await asyncio.sleep(0)
        tasks.append(asyncio.create_task(queueing.run("ben", lambda: work("ben"))))
        await asyncio.to_thread(lambda: None)  # a thread is free
        assert began == ["ann0"]
        go.set()
        await asyncio.gather(*tasks)

    asyncio.run(all_at_once())
    assert began.index("ben") <= 2
    assert len(began) == 61


def test_reads_of_a_tenant_take_a_few_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go, at_work, most = threading.Event(), [0], [0]
    lock = threading.Lock()

    def slow(*_: object) -> list[Any]:
        with lock:
            at_work[0] += 1
            most[0] = max(most[0], at_work[0])
        go.wait(300)
        with lock:
            at_work[0] -= 1
        return []

    monkeypatch.setattr(jobs, "records_of", slow)
    with serving(tmp_path) as served, ThreadPoolExecutor(50) as pool, served.http() as client:
        responses = [pool.submit(client.get, "/v1/fine_tuning/jobs") for _ in range(50)]
        while at_work[0] < guard.READS:
            pass
        with served.http("ben") as second:
            assert second.get("/v1/files").status_code == 200
        go.set()
        assert {first.result().status_code for first in responses} == {200}
    assert most[0] == guard.READS


def test_concurrent_requests_of_a_tenant_are_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "max_connections", lambda: 0)
    with serving(tmp_path) as served, served.http() as client:
        refused = client.get("/v1/files")
        assert (refused.status_code, error(refused)["code"]) == (429, "too_many_requests")
        assert client.get("/health").status_code == 200


class Room:
    """A disk with so many bytes free."""

    def __init__(self, free: int) -> None:
        self.free = free

    def __call__(self, size: int) -> None:
        if size > self.free:
            raise ApiError(507, "full", code="insufficient_storage")


def body(*sizes: int) -> Any:
    """An ASGI `receive` of parts of so many bytes."""
    left = [{"type": "http.request", "body": b"x" * size, "more_body": True} for size in sizes]

    async def receive() -> Any:
        return left.pop(0)

    return receive


@pytest.mark.parametrize("announced", [0, 40, 100])
def test_uploads_that_are_under_way_count_together(announced: int) -> None:
    async def upload() -> None:
        disk = Room(300)
        reserve = Reserve(disk)
        with reserve.upload(body(40, 60), announced) as first:
            await first()
            disk.free -= 40
            await first()
            disk.free -= 60  # 200 are free, of which the copy of the first one will take 100
            with pytest.raises(ApiError), reserve.upload(body(), 51):
                pass
            with reserve.upload(body(40, 11), 0) as second:
                await second()
                disk.free -= 40  # 160 are free, and 140 promised
                with pytest.raises(ApiError):
                    await second()
        with reserve.upload(body(), disk.free // 2):  # what was promised is free again
            pass

    asyncio.run(upload())


def test_a_chunked_upload_is_refused_when_it_reaches_the_reserve(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    came = [0]

    def check(settings: object, size: int = 0) -> None:
        came[0] = max(came[0], size)
        if size > 400_000:
            raise ApiError(507, "full", code="insufficient_storage")

    def stream() -> Iterator[bytes]:
        yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
        for _ in range(16):
            yield b"y" * 2**15

    monkeypatch.setattr(files, "check_disk", check)
    with serving(served.settings.root) as own, own.http() as client:
        kind = {"Content-Type": "multipart/form-data; boundary=x"}
        refused = client.post("/v1/files", content=stream(), headers=kind)
        assert (refused.status_code, error(refused)["code"]) == (507, "insufficient_storage")
        announced = client.post("/v1/files", content=b"y" * 2**18, headers=kind)
        assert (announced.status_code, error(announced)["code"]) == (507, "insufficient_storage")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("place", ["copyfileobj", "write_text", "update"])
def test_a_full_disk_is_507_and_leaves_no_files(
    quiet: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, number: int, place: str
) -> None:
    client = quiet.client()
    file = upload(client, chats(1))
    before = sorted(path for path in quiet.settings.root.rglob("*") if path.is_file() and not path.name.startswith("."))

    def full(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    if place == "update":
        monkeypatch.setattr(RunDirectory, "update", full)
    else:
        monkeypatch.setattr(files.shutil if place == "copyfileobj" else files, place, full)
    with pytest.raises(openai.InternalServerError, match="nearly full") as refused:
        client.fine_tuning.jobs.create(model="tiny", training_file=file) if place == "update" else upload(
            client, chats(1)
        )
    assert (refused.value.status_code, refused.value.code) == (507, "insufficient_storage")
    assert (
        sorted(path for path in quiet.settings.root.rglob("*") if path.is_file() and not path.name.startswith("."))
        == before
    )
    assert "Traceback" not in caplog.text
    assert os.strerror(number) in caplog.text


def test_a_list_reads_no_record_again(quiet: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    file = upload(quiet.client("ben"), chats(1))
    for _ in range(3):
        assert create(quiet, "ben", file) == 200
    read, calls = places.record_at, list[Path]()

    def counted(path: Path) -> Any:
        calls.append(path)
        return read(path)

    monkeypatch.setattr(places, "record_at", counted)
    listed = [places.job_record(path) for path in places.job_paths(quiet.settings, "ben")]
    assert [places.job_record(path) for path in places.job_paths(quiet.settings, "ben")] == listed
    assert len(calls) <= 3
    (path, *_) = places.job_paths(quiet.settings, "ben")
    (path / "run.json").write_text("{")
    assert places.job_record(path).request is None
