"""Wheel members: fetched once, checked against the digest, never installed."""

from __future__ import annotations

import hashlib
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest

from kamerton.assets import fetch
from kamerton.data.options import DataOptions
from kamerton.data.read.sources import local_data
from kamerton.errors import UserError


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip downloads from instead of the network, with one wheel in it."""
    folder = tmp_path / "registry"
    folder.mkdir()
    wheel = folder / "demo_asset-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("demo_asset/data.txt", "hello\n")
        archive.writestr("demo_asset/__init__.py", "raise SystemExit('imported')\n")
        archive.writestr("demo_asset-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: demo-asset\nVersion: 1.0\n")
        archive.writestr("demo_asset-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("demo_asset-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("KAMERTON_CACHE", str(tmp_path / "cache"))
    return wheel


def address(wheel: Path, member: str = "demo_asset/data.txt", digest: str | None = None) -> str:
    digest = digest or hashlib.sha256(wheel.read_bytes()).hexdigest()
    return f"pypi://demo-asset==1.0/{member}#sha256={digest}"


def test_a_member_is_downloaded_once_and_kept(registry: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = fetch(address(registry))
    assert path.read_text() == "hello\n"
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("downloaded twice"))
    assert fetch(address(registry)) == path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"digest": "0" * 64}, "expected 0000"),
        ({"member": "demo_asset/other.txt"}, "has no demo_asset/other.txt"),
    ],
)
def test_a_download_that_differs_from_its_pin_is_refused_and_not_kept(
    registry: Path, change: dict[str, Any], message: str
) -> None:
    for _ in range(2):
        with pytest.raises(UserError, match=message):
            fetch(address(registry, **change))


def test_a_missing_package_is_reported(registry: Path) -> None:
    with pytest.raises(UserError, match="could not download"):
        fetch(address(registry).replace("demo-asset==1.0", "demo-asset==9.9"))


def test_a_malformed_address_error_shows_the_format() -> None:
    with pytest.raises(UserError, match="64 hex digits"):
        fetch("pypi://demo-asset/data.txt")


def test_data_options_get_local_files_for_their_addresses(registry: Path) -> None:
    options = local_data(DataOptions(train=[address(registry), "mine.jsonl"], test="t.jsonl"))
    assert isinstance(options.train, list)
    assert Path(options.train[0]).read_text() == "hello\n"
    assert (options.train[1], options.test) == ("mine.jsonl", "t.jsonl")
