"""What a run records of its surroundings, in a folder that may have been downloaded."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from kamerton.run.environment import environment


def git(*words: str) -> None:
    subprocess.run(["git", "-c", "user.name=n", "-c", "user.email=e", *words], check=True, capture_output=True)


def test_commands_that_a_repository_configures_are_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    harm, text = tmp_path / "harm", tmp_path / "data" / "a.txt"
    text.parent.mkdir()
    monkeypatch.chdir(text.parent)
    text.write_text("a\n")
    (text.parent / ".gitattributes").write_text("*.txt filter=mine\n")
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "one")
    for key in ("core.fsmonitor", "filter.mine.clean", "filter.mine.process"):
        git("config", key, f"touch {harm}; cat")
    git("config", "filter.mine.required", "true")
    assert environment()["git"]["dirty"] is False
    text.write_text("b\n")
    assert environment()["git"]["dirty"] is True
    assert not harm.exists()
