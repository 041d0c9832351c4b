"""A closed output does not stop a run, and text is printed unchanged."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console, Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from kamerton.console import count_bar, plain_console
from kamerton.output import echo, printable

TALKS = """
import sys
from pathlib import Path
from kamerton.output import outlive_reader
from kamerton.console import (plain_console)

outlive_reader()
for number in range(3):
    print("x" * 10_000)
    plain_console().print("y" * 10_000)
    print("z" * 10_000, file=sys.stderr, flush=True)
Path(sys.argv[1]).write_text("went on")
"""


def unread(arguments: list[str], *, errors: bool = False) -> subprocess.CompletedProcess[str]:
    """Run Python with a closed standard output reader; with `errors`, of standard error too."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        where = writer if errors else subprocess.PIPE
        return subprocess.run([sys.executable, *arguments], stdout=writer, stderr=where, text=True, timeout=600)
    finally:
        os.close(writer)


@pytest.mark.slow
@pytest.mark.parametrize("flags", [[], ["-u"]])
def test_a_process_survives_a_closed_stdout(flags: list[str], tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    assert unread([*flags, "-c", TALKS, str(mark)], errors=True).returncode == 0
    assert mark.read_text() == "went on"


@pytest.mark.parametrize("typed", [["--help"], ["prepare", "--help"], ["train", "--cfg", "job"]])
def test_a_closed_stdout_is_not_reported(typed: list[str]) -> None:
    ended = unread(["-m", "kamerton", *typed])
    assert (ended.returncode, ended.stderr) == (0, "")


def test_looking_at_runs_ends_with_its_reader(tmp_path: Path) -> None:
    ended = unread(["-m", "kamerton", "runs", "list", "--outputs", str(tmp_path)])
    assert ended.stderr == ""


def test_text_is_printed_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    plain_console().print("file.jsonl:label: a :smile:", highlight=False)
    assert capsys.readouterr().out == "file.jsonl:label: a :smile:\n"


def test_the_title_of_a_bar_is_printed_as_it_is() -> None:
    shown = io.StringIO()
    with count_bar(Console(file=shown, width=100), "scoring a:label:b [x]", 1) as advance:
        advance(1)
    assert "scoring a:label:b [x]" in shown.getvalue()


HOSTILE = "\x1b]0;title\x07\x1b[2J\x9b31m\x7f\r\b"
CONTROL = {chr(code) for code in (*range(0x20), *range(0x7F, 0xA0))} - {"\n", "\t"}


@given(st.text(st.characters(codec="utf-8") | st.sampled_from(HOSTILE)))
def test_printable_text_keeps_all_but_control_characters(text: str) -> None:
    shown = printable(text)
    assert not CONTROL & set(shown)
    assert len(shown) == len(text)
    assert all(new == old for new, old in zip(shown, text, strict=True) if old not in CONTROL)


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize(
    "renderable",
    [HOSTILE, Text(HOSTILE), Table(HOSTILE, title=HOSTILE), Group(HOSTILE, Text(HOSTILE)), Table.grid()],
    ids=["string", "text", "table", "group", "cell"],
)
def test_a_console_prints_no_control_sequence_of_a_text(
    renderable: object, terminal: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    if terminal:
        monkeypatch.setenv("FORCE_COLOR", "1")
    if isinstance(renderable, Table):
        renderable.add_column()
        renderable.add_row(escape(HOSTILE))
    plain_console().print(renderable, style="bold", highlight=False)
    shown = capsys.readouterr().out
    assert "␛]0;title" in shown
    for sequence in ("\x1b]", "\x1b[2J", "\x9b", "\x07", "\x7f", "\b", "\r"):
        assert sequence not in shown
    assert ("\x1b[1m" in shown) is terminal  # rich's own


def test_echo_prints_no_control_sequence(capsys: pytest.CaptureFixture[str]) -> None:
    echo(HOSTILE)
    echo(HOSTILE, err=True)
    out, err = capsys.readouterr()
    assert out == err
    assert "\x1b" not in out


SPEAKS = """
from kamerton.output import outlive_reader, replace_unencodable
from kamerton.console import (plain_console)

replace_unencodable()
outlive_reader()
plain_console().print("a • b")
print("ż ✓")
"""


def test_an_unencodable_character_does_not_stop_the_command() -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    ended = subprocess.run([sys.executable, "-c", SPEAKS], capture_output=True, env=environment, timeout=600)
    assert (ended.returncode, ended.stdout.decode("ascii"), ended.stderr) == (0, "a ? b\n? ?\n", b"")
