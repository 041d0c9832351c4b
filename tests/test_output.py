"""Output whose reader has gone ends no run, and text is printed as it is."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from kamerton.output import plain_console
from kamerton.train.terminal import count_bar

TALKS = """
import sys
from pathlib import Path
from kamerton.output import outlive_reader, plain_console

outlive_reader()
for number in range(3):
    print("x" * 10_000)
    plain_console().print("y" * 10_000)
    print("z" * 10_000, file=sys.stderr, flush=True)
Path(sys.argv[1]).write_text("went on")
"""


def unread(arguments: list[str], *, errors: bool = False) -> subprocess.CompletedProcess[str]:
    """Run Python with a standard output that nobody reads; with `errors`, nor its standard error."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        where = writer if errors else subprocess.PIPE
        return subprocess.run([sys.executable, *arguments], stdout=writer, stderr=where, text=True, timeout=600)
    finally:
        os.close(writer)


@pytest.mark.parametrize("flags", [[], ["-u"]])
def test_a_process_goes_on_without_a_reader(flags: list[str], tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    assert unread([*flags, "-c", TALKS, str(mark)], errors=True).returncode == 0
    assert mark.read_text() == "went on"


@pytest.mark.parametrize("typed", [["--help"], ["prepare", "--help"], ["train", "--cfg", "job"]])
def test_a_command_without_a_reader_says_nothing_of_it(typed: list[str]) -> None:
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
