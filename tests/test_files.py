"""Files that are replaced are on the disk before they have their name."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kamerton.files import write_text


def test_a_file_is_whole_on_the_disk_before_it_replaces_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, plain = tmp_path / "run.json", os.fsync
    write_text(path, "old")
    seen: list[tuple[int, int, str]] = []

    def fsync(handle: int) -> None:
        found = os.fstat(handle)
        seen.append((found.st_ino, found.st_size, path.read_text()))
        plain(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    write_text(path, "the new")
    assert seen == [(path.stat().st_ino, 7, "old")]
