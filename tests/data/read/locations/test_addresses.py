"""Data at addresses: fetched once for each version, shown by their address, and one fault with a fix otherwise."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from kamerton.assets import cache_dir
from kamerton.data.gate import prepare
from kamerton.data.options import DataOptions, Source, SplitOptions
from kamerton.data.read.locations.addresses import Remote, check_address
from kamerton.data.read.locations.download import download
from kamerton.data.read.sources import find_files
from kamerton.data.report import manifest
from kamerton.errors import Fault, UserError
from support.ports import free_port
from support.storage import WebServer, jsonl

ROWS = jsonl(*({"prompt": f"question {number}", "completion": f"answer {number}"} for number in range(8)))
WHOLE = SplitOptions(ratios=[1, 0, 0])


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KAMERTON_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def memory() -> Iterator[fsspec.AbstractFileSystem]:
    """A file system in memory, emptied afterwards."""
    filesystem = fsspec.filesystem("memory")
    yield filesystem
    filesystem.store.clear()
    filesystem.pseudo_dirs[:] = [""]


def fault_of(**options: object) -> Fault:
    files, (fault,) = find_files(DataOptions(**options))  # type: ignore[arg-type]
    assert not files
    return fault


def test_a_file_on_a_web_server_is_read_like_a_local_one(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_bytes(ROWS)
    local = prepare(DataOptions(path=str(tmp_path / "rows.jsonl")), WHOLE)
    with WebServer({"/sets/rows.jsonl": ROWS}) as server:
        address = server.address("/sets/rows.jsonl")
        prepared = prepare(DataOptions(path=address), WHOLE)
    assert prepared.fingerprint == local.fingerprint
    assert prepared.report["files"] == {address: 8}
    assert list(prepared.splits["train"]) == list(local.splits["train"])


def test_the_version_is_kept_with_the_data_of_a_run() -> None:
    with WebServer({"/rows.jsonl": ROWS}) as server:
        address = server.address("/rows.jsonl")
        (version,) = manifest(prepare(DataOptions(path=address), WHOLE))["versions"].values()
        assert len(version) == 16  # the server's ETag
        server.etags = False
        (version,) = manifest(prepare(DataOptions(path=address), WHOLE))["versions"].values()
        assert version.startswith("sha256:")


def test_a_version_is_fetched_once_and_a_new_one_again() -> None:
    with WebServer({"/rows.jsonl": ROWS}) as server:
        options = DataOptions(path=server.address("/rows.jsonl"))
        for _ in range(2):
            (file,), _ = find_files(options)
        assert server.requests.count(("GET", "/rows.jsonl")) == 1
        server.files["/rows.jsonl"] = ROWS + ROWS
        (again,), _ = find_files(options)
    assert file.path.read_bytes() == ROWS
    assert again.path.read_bytes() == ROWS + ROWS
    assert again.version != file.version


def test_every_path_of_data_may_be_an_address(tmp_path: Path) -> None:
    (tmp_path / "here.jsonl").write_bytes(ROWS)
    with WebServer({"/a.jsonl": ROWS, "/p.txt": b"1\n2\n", "/c.txt": b"x\ny\n"}) as server:
        a, here = server.address("/a.jsonl"), str(tmp_path / "here.jsonl")
        files, _ = find_files(DataOptions(train=[here], validation=a, test=server.address("/a.jsonl?test")))
        mixed, _ = find_files(DataOptions(sources={"there": Source(path=a)}))
        pairs = DataOptions(prompt_file=server.address("/p.txt"), completion_file=server.address("/c.txt"))
        prepared = prepare(pairs, WHOLE)
    assert [(file.shown, file.split) for file in files][:2] == [(here, "train"), (a, "validation")]
    assert (mixed[0].source, mixed[0].name) == ("there", a)
    assert {example.completion for example in prepared.splits["train"]} == {"x", "y"}


def test_folders_and_patterns_are_listed(memory: fsspec.AbstractFileSystem) -> None:
    for name in ("train-00000-of-00001.jsonl", "test-00000-of-00001.jsonl", "README.md"):
        memory.pipe(f"/bucket/set/{name}", ROWS)
    folder, _ = find_files(DataOptions(path="memory://bucket/set"))
    assert {file.split: file.name for file in folder} == {
        "train": "memory://bucket/set/train-00000-of-00001.jsonl",
        "test": "memory://bucket/set/test-00000-of-00001.jsonl",
    }
    matches, _ = find_files(DataOptions(path="memory://bucket/*/t*.jsonl"))
    assert len(matches) == 2


def test_a_folder_is_chosen_from_before_anything_is_fetched(memory: fsspec.AbstractFileSystem) -> None:
    for name in ("one/train.jsonl", "two/train.jsonl"):
        memory.pipe(f"/bucket/{name}", ROWS)
    fault = fault_of(path="memory://bucket")
    assert "several data sets: one, two" in fault.message
    assert "data.path=memory://bucket/one or data.path=memory://bucket/two" in fault.fix
    assert not (cache_dir() / "remote").exists()


def test_an_interrupted_download_is_not_used(cache: Path, memory: fsspec.AbstractFileSystem) -> None:
    memory.pipe("/rows.jsonl", ROWS)
    truncated = Remote("memory://rows.jsonl", "rows.jsonl", "1", len(ROWS) + 1, Path)
    with pytest.raises(UserError, match="changed, or was cut off"):
        download(memory, "/rows.jsonl", truncated)
    assert [path.name for path in cache.rglob("*") if path.is_file()] == [".lock"]


def test_secrets_of_an_address_are_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with WebServer({"/rows.jsonl": ROWS}) as server:
        plain = server.address("/rows.jsonl").replace("http://", "http://ann:hunter2@")
        (file,), _ = find_files(DataOptions(path=f"{plain}?X-Amz-Signature=5ecret&part=1"))
        missing = fault_of(path=f"{plain}.gz?sig=5ecret")
    shown = f"{file.name} {missing} {capsys.readouterr().err}"
    assert "part=1" in file.name
    assert "hunter2" not in shown
    assert "5ecret" not in shown
    again = fault_of(path=file.name)
    assert "give the address again" in again.fix


@pytest.mark.parametrize(
    ("status", "code"), [(404, "missing-file"), (403, "no-permission"), (401, "no-permission"), (500, "unreachable")]
)
def test_an_answer_of_the_server_is_one_fault(status: int, code: str) -> None:
    with WebServer({}, {"/rows.jsonl": status}) as server:
        address = server.address("/rows.jsonl")
        fault = fault_of(path=address)
        assert len(server.requests) <= 2
    assert (fault.code, fault.file, fault.column) == (code, address, "data.path")


def test_an_unreachable_host_is_one_fault() -> None:
    fault = fault_of(train=f"http://127.0.0.1:{free_port()}/rows.jsonl")
    assert (fault.code, fault.column) == ("unreachable", "data.train")
    assert "does not answer" in fault.message


def test_http_to_another_machine_is_a_warning_and_unknown_protocols_are_faults() -> None:
    (warning,) = check_address("http://data.invalid/rows.jsonl", "data.path")
    assert (warning.code, warning.severity) == ("insecure-address", "warning")
    assert check_address("https://data.invalid/rows.jsonl", "data.path") == []
    assert "https://" in fault_of(path="ftp://data.invalid/rows.jsonl").fix


def test_a_missing_package_is_reported_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    fault = fault_of(path="gs://bucket/rows.jsonl")
    assert (fault.code, fault.fix) == ("missing-package", "pip install 'kamerton[cloud]'")
    assert "gcsfs" in fault.message


def test_faults_of_rows_name_the_address() -> None:
    with WebServer({"/rows.jsonl": ROWS + b"{\n"}) as server:
        address = server.address("/rows.jsonl")
        with pytest.raises(UserError) as caught:
            prepare(DataOptions(path=address), WHOLE)
    assert {fault.file for fault in caught.value.faults if fault.severity == "error"} == {address}


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[fsspec.AbstractFileSystem]:
    """A bucket of a server that speaks S3."""
    pytest.importorskip("s3fs")
    server = pytest.importorskip("moto.server").ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    filesystem = fsspec.filesystem("s3", skip_instance_cache=True)
    filesystem.makedirs("bucket", exist_ok=True)  # the server keeps its state in this process
    yield filesystem
    server.stop()


def test_objects_of_a_bucket(bucket: fsspec.AbstractFileSystem) -> None:
    for name in ("set/train.jsonl", "set/test.jsonl"):
        bucket.pipe(f"bucket/{name}", ROWS)
    (file,), faults = find_files(DataOptions(train="s3://bucket/set/train.jsonl"))
    assert (file.path.read_bytes(), file.name, faults) == (ROWS, "s3://bucket/set/train.jsonl", [])
    assert file.version == bucket.info("bucket/set/train.jsonl")["ETag"].strip('"')
    assert {file.split for file in find_files(DataOptions(path="s3://bucket/set"))[0]} == {"train", "test"}
    assert len(find_files(DataOptions(path="s3://bucket/set/t*.jsonl"))[0]) == 2
    assert fault_of(path="s3://bucket/set/other.jsonl").code == "missing-file"
    assert fault_of(path="s3://other/set").code == "missing-file"


def test_a_bucket_without_credentials(bucket: fsspec.AbstractFileSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    fault = fault_of(path="s3://bucket/set/train.jsonl")
    assert (fault.code, "AWS_ACCESS_KEY_ID" in fault.fix) == ("no-permission", True)


def test_a_storage_that_does_not_answer(bucket: fsspec.AbstractFileSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    assert fault_of(path="s3://bucket/set/train.jsonl").code == "unreachable"


def test_the_report_is_plain_json(memory: fsspec.AbstractFileSystem) -> None:
    memory.pipe("/rows.jsonl", ROWS)
    report = prepare(DataOptions(path="memory://rows.jsonl"), WHOLE).report
    assert json.loads(json.dumps(report))["versions"].keys() == {"memory://rows.jsonl"}
