"""`kamerton serve` on the command line: what it refuses to begin with."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from kamerton.cli import main
from kamerton.commands.serve import _parser, to_settings


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "add --no-auth"),
        (["--no-auth", "--host", "0.0.0.0"], "would admit everyone"),
        (["--no-auth", "--host", "example.org"], "would admit everyone"),
        (["--tokens", "nowhere.txt"], "cannot read it"),
        (["--no-auth", "--models", "smolm2,hub"], "did you mean 'smollm2'?"),
        (["--no-auth", "--models", "hub"], "there is no model 'hub'"),
        (["--no-auth", "--models", ","], "--models names no model"),
        (["--no-auth", "--alias", "gpt-3.5-turbo=tiny"], "'tiny' is not in --models"),
        (["--no-auth", "--alias", "smollm2=smollm2"], "'smollm2' cannot be an alias of a model"),
        (["--no-auth", "--alias", "smollm2"], "'' is not in --models"),
        (["--no-auth", "--alias", "ft:a:b=smollm2"], "'ft:a:b' cannot be an alias of a model"),
        (["--no-auth", "--run", "nowhere/r1"], "nowhere/r1 is not a run with a model"),
        (["--no-auth", "--run", "a/r1", "--run", "b/r1"], "2 runs are named r1"),
        (["--no-auth", "--max-running", "0"], "--max-running is 0"),
        (["--no-auth", "--max-upload-mb", "-1", "--port", "70000"], "--port is 70000"),
        (["--no-auth", "--root", __file__], "is not a folder"),
        (["--hots", "x"], "unrecognized arguments"),
    ],
)
def test_all_unservable_settings_are_reported_together(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KAMERTON_TOKENS", raising=False)
    assert main(["serve", *arguments]) == 2
    assert capsys.readouterr().err.count(message) == 1


def test_tokens_come_from_a_file_or_the_environment_and_leave_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    monkeypatch.setenv("KAMERTON_TOKENS", "ann:one,ben:two")
    settings = to_settings(_parser().parse_args(["--root", str(tmp_path)]))
    assert settings.tokens == (("ann", "one"), ("ben", "two"))
    assert "KAMERTON_TOKENS" not in os.environ
    (tmp_path / "tokens.txt").write_text("cid three\n")
    command_line = ["--root", str(tmp_path), "--tokens", str(tmp_path / "tokens.txt"), "--models", "tiny,smollm2,tiny"]
    settings = to_settings(_parser().parse_args(command_line))
    assert (settings.tokens, settings.models) == ((("cid", "three"),), ("tiny", "smollm2"))


def test_an_occupied_port_is_a_fault(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        assert main(["serve", "--no-auth", "--port", port, "--root", str(tmp_path / "outputs")]) == 2
    assert f"cannot listen on 127.0.0.1, port {port}" in capsys.readouterr().err
    assert not (tmp_path / "outputs").exists()
