"""What `kamerton train` prints before training."""

from __future__ import annotations

from pathlib import Path

import pytest

from kamerton.cli import main
from support.rows import write_jsonl
from support.runs import TINY


def test_warnings_of_the_data_are_printed_with_their_fix_before_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"prompt": f"what says number {i}?", "completion": ("meow", "woof")[i % 2]} for i in range(20)]
    data = write_jsonl(tmp_path / "few.jsonl", rows)
    options = [f"data.path={data}", "data.near_duplicates=null", "trainer.max_steps=1", f"paths.outputs={tmp_path}/out"]
    assert main(["train", *TINY, *options]) == 0
    printed = capsys.readouterr().out
    before, _, _ = printed.partition("plan   ")
    assert "in the test split; numbers measured on so few mean little\n           fix: " in before
