"""Files: uploaded, listed, read, deleted; what is refused, and how."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types import FileObject

from kamerton.server import guard
from kamerton.server import ids as places
from kamerton.server.routes import files
from kamerton.server.settings import MIB, Settings
from support.serving import Served, chats, error, upload


def test_a_file_comes_back_as_it_was_sent(served: Served) -> None:
    client, content = served.client(), chats()
    file = client.files.create(file=("../../etc/a b\u202e.jsonl", content), purpose="fine-tune")
    FileObject.model_validate(file.model_dump())
    assert (file.filename, file.bytes, file.status) == (
        "a b\u202e.jsonl".replace("\u202e", ""),
        len(content),
        "processed",
    )
    assert client.files.content(file.id).read() == content
    assert client.files.retrieve(file.id) == file
    assert client.files.delete(file.id).deleted
    for gone in (client.files.retrieve, client.files.content, client.files.delete):
        with pytest.raises(openai.NotFoundError):
            gone(file.id)


def test_lists_come_in_pages(served: Served) -> None:
    client = served.client("ben")
    ids = [upload(client, chats(1), f"{number}.jsonl") for number in range(5)]
    assert [file.id for file in client.files.list(limit=2)] == ids[::-1]
    assert [file.id for file in client.files.list(limit=3, order="asc")] == ids
    assert client.files.list(purpose="batch").data == []
    with pytest.raises(openai.BadRequestError):
        client.files.list(after="file-0")
    with pytest.raises(openai.BadRequestError, match="color is not known"):
        client.files.list(extra_query={"color": "red"})


def test_listing_files_tolerates_a_concurrent_deletion(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    client = served.client("ben")
    kept, gone = (upload(client, chats(1), name) for name in ("kept.jsonl", "gone.jsonl"))
    read = files._read_meta

    def read_late(path: Path) -> dict[str, Any]:
        if path.name == gone:
            (path / places.META).unlink(missing_ok=True)
        return read(path)

    monkeypatch.setattr(files, "_read_meta", read_late)
    listed = [file.id for file in client.files.list()]
    assert kept in listed
    assert gone not in listed
    assert upload(client, chats(1))


def test_another_tenants_file_is_unknown(served: Served) -> None:
    file_id = upload(served.client("ben"), chats(1))
    messages = []
    for name in (file_id, "file-" + "0" * 24):
        for call in (served.client().files.retrieve, served.client().files.content, served.client().files.delete):
            with pytest.raises(openai.NotFoundError) as refused:
                call(name)
            messages.append(str(refused.value).replace(name, "ID"))
    assert len(set(messages)) == 1
    assert file_id not in [file.id for file in served.client().files.list()]


@pytest.mark.parametrize(
    "name", ["../ann", "..%2f..%2fetc%2fpasswd", "file-../../x", "file-" + "A" * 300, "%00", "file-é"]
)
def test_no_text_of_a_request_becomes_a_path(served: Served, name: str) -> None:
    with served.http() as client:
        assert error(client.get(f"/v1/files/{name}"))["code"] in ("resource_not_found", "unknown_url")
        assert client.get(f"/v1/files/{name}/content").status_code == 404


@pytest.mark.parametrize(
    ("sent", "param"),
    [
        ({"data": {"purpose": "fine-tune"}}, "file"),
        ({"files": {"file": ("a", b"x")}}, "purpose"),
        ({"files": {"file": ("a", b"x")}, "data": {"purpose": "vision"}}, "purpose"),
        ({"files": {"file": ("a", b"")}, "data": {"purpose": "fine-tune"}}, "file"),
        ({"files": {"file": ("a", b"x")}, "data": {"purpose": "fine-tune", "expires_after": "1"}}, "expires_after"),
        ({"data": {"file": "text", "purpose": "fine-tune"}}, "file"),
        ({"files": [("file", ("a", b"x")), ("file", ("b", b"x"))], "data": {"purpose": "fine-tune"}}, None),
        ({"content": b"--x\r\nbroken", "headers": {"Content-Type": "multipart/form-data; boundary=x"}}, "file"),
        ({"content": b"a", "headers": {"Content-Type": "multipart/form-data"}}, None),
        ({"json": {"file": "x"}}, "file"),
    ],
)
def test_a_malformed_upload_is_a_bad_request(served: Served, sent: dict[str, object], param: str | None) -> None:
    with served.http() as client:
        response = client.post("/v1/files", **sent)  # type: ignore[arg-type]
    assert response.status_code == 400
    assert error(response)["param"] == param


@pytest.mark.parametrize("charset", ["punycode", "unicode_escape", "undefined", "zlib", "utf-16", "nonsense"])
def test_a_form_with_an_unknown_encoding_is_a_bad_request(served: Served, charset: str) -> None:
    body = b'--x\r\nContent-Disposition: form-data; name="file"; filename="\\ud800\xff"\r\n\r\nx\r\n--x--\r\n'
    with served.http() as client:
        kind = f"multipart/form-data; boundary=x; charset={charset}"
        response = client.post("/v1/files", content=body, headers={"Content-Type": kind})
    assert response.status_code == 400
    assert error(response)["message"]


def test_a_too_large_file_is_refused_with_and_without_content_length(served: Served) -> None:
    def stream() -> Iterator[bytes]:
        yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
        for _ in range(40):
            yield b"y" * (MIB // 16)

    kept = len(served.client().files.list().data)
    with pytest.raises(openai.APIStatusError) as refused:
        upload(served.client(), b"x" * (MIB + 1))
    assert refused.value.status_code == 413
    with pytest.raises(openai.APIStatusError, match="larger than") as refused:
        upload(served.client(), b"x" * (2 * MIB))
    assert refused.value.status_code == 413
    with served.http() as client:
        kind = {"Content-Type": "multipart/form-data; boundary=x"}
        assert client.post("/v1/files", content=stream(), headers=kind).status_code == 413
        whole = client.post("/v1/fine_tuning/jobs", content=b" " * (guard.MAX_BODY + 1))
    assert whole.status_code == 413
    assert error(whole)["code"] == "request_too_large"
    assert len(served.client().files.list().data) == kept


def test_a_tenant_cannot_fill_the_disk(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    upload(served.client(), chats(1))
    monkeypatch.setattr(files, "MAX_FILES", 1)
    with pytest.raises(openai.PermissionDeniedError, match="delete some"):
        upload(served.client(), chats(1))
    monkeypatch.undo()
    monkeypatch.setattr(files, "RESERVED", 2**60)
    with pytest.raises(openai.InternalServerError, match="nearly full"):
        upload(served.client(), chats(1))


def test_what_a_killed_upload_left_is_removed_when_a_server_starts(tmp_path: Path) -> None:
    settings = Settings(tmp_path)
    old, new, whole = (places.files_of(settings, "ann") / f"file-{name * 24}" for name in "abc")
    for path in (old, new, whole):
        path.mkdir(parents=True)
        (path / places.CONTENT).touch()
    (whole / places.META).touch()
    for path in (old, whole):
        os.utime(path, (0, 0))
    files.remove_remains(settings)
    assert sorted(path.parent.iterdir()) == [new, whole]


def test_metadata_is_kept_beside_the_content_and_nowhere_else(served: Served) -> None:
    file_id = upload(served.client(), chats(1), "x/../y.jsonl")
    folder = served.settings.root / ".files" / "ann" / file_id
    assert sorted(path.name for path in folder.iterdir()) == ["content.jsonl", "meta.json"]
    assert json.loads((folder / "meta.json").read_text())["filename"] == "y.jsonl"
