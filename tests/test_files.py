"""Files that are replaced are on the disk before they have their name."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml

from kamerton.files import load_yaml, write_text


def test_a_file_is_flushed_to_disk_before_it_replaces_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, plain = tmp_path / "run.json", os.fsync
    write_text(path, "old")
    seen: list[tuple[int, int, str]] = []

    def fsync(handle: int) -> None:
        result = os.fstat(handle)
        seen.append((result.st_ino, result.st_size, path.read_text()))
        plain(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    write_text(path, "the new")
    assert seen == [(path.stat().st_ino, 7, "old")]


TEN = range(1, 10)
REPEATED = "a0: &a0 x\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in TEN)
MERGED = "a0: &a0 {x: 1}\n" + "".join(f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 10)}]}}\n" for i in TEN)


@pytest.mark.parametrize(
    "text", [REPEATED, MERGED, "a: &a [*a]", "[" * 100_000], ids=["lists", "merged", "own", "deep"]
)
def test_oversized_yaml_is_an_error_before_it_is_built(text: str) -> None:
    with pytest.raises(yaml.YAMLError, match=r"aliases expand to more than|nested too deeply"):
        load_yaml(text)


def test_ordinary_yaml_is_read_as_ever() -> None:
    assert load_yaml("a: &x [1, {b: null}]\nc: *x\nd: {<<: {e: 1.5}}\n") == yaml.safe_load(
        "a: [1, {b: null}]\nc: [1, {b: null}]\nd: {e: 1.5}"
    )
    assert load_yaml("") is None
    for path in (Path(__file__).parents[1] / "conf").rglob("*.yaml"):
        assert load_yaml(path.read_text()) == yaml.safe_load(path.read_text())


def test_the_line_of_wrong_yaml_is_shown() -> None:
    with pytest.raises(yaml.YAMLError, match=r"line 2, column 3:\s+b: 2"):
        load_yaml("a: 1\n b: 2\n")
