"""Lines that end in carriage returns alone are read as other lines are."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from kamerton.data.options import DataOptions
from kamerton.data.read.files.containers import ends_in_returns
from kamerton.data.validation import read_examples

LINES = {"rows.csv": 'question,answer\nHow many?,"Three, no more"\nSure?,Yes\n'}
LINES["rows.jsonl"] = '{"question": "How many?", "answer": "Three, no more"}\n{"question": "Sure?", "answer": "Yes"}\n'


@pytest.mark.parametrize("name", LINES)
@pytest.mark.parametrize("packed", [False, True])
def test_carriage_returns_end_lines(tmp_path: Path, name: str, packed: bool) -> None:
    content = LINES[name].replace("\n", "\r").encode()
    path = tmp_path / name
    path.write_bytes(gzip.compress(content) if packed else content)
    examples = [(example.prompt, example.completion) for example in read_examples(DataOptions(path=str(path)))]
    assert examples == [("How many?", "Three, no more"), ("Sure?", "Yes")]


def test_other_files_are_left_as_they_are() -> None:
    assert not ends_in_returns(b"a\r\nb\r\n")
    assert not ends_in_returns(b"PAR1\x15\x04\r\r\x15")
    assert not ends_in_returns(b"a text\r")
