"""What the ranks of a run compute before training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kamerton.config.check import to_config
from kamerton.config.compose import compose_values
from kamerton.console import plain_console
from kamerton.pipeline import preferences
from kamerton.pipeline.prepare import Ready, prepare, read_data
from kamerton.pipeline.session import Session
from kamerton.run.directory import RunDirectory, read_values
from kamerton.train.callbacks import StopRequest
from support.pairs import pair_rows
from support.rows import write_jsonl
from support.runs import LEAN


def test_only_rank_0_computes_the_reference_of_the_test_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write_jsonl(tmp_path / "pairs.jsonl", pair_rows())
    config = to_config(compose_values([*LEAN, "objective=dpo", f"data.path={data}"]))
    scored: list[int] = []
    score_split = preferences.score_split

    def counted(model: Any, tokenizer: Any, data: Any, **options: Any) -> Any:
        scored.append(len(data))
        return score_split(model, tokenizer, data, **options)

    monkeypatch.setattr(preferences, "score_split", counted)
    ready: list[Ready] = []
    for writes in (True, False):
        run = RunDirectory(tmp_path, resuming=False, started=read_values(tmp_path), writes=writes)
        session = Session(config, run, StopRequest(), plain_console(quiet=True), None)
        ready.append(prepare(read_data(session), session))
    first, other = (each.preferences for each in ready)
    assert scored == [len(ready[0].inputs.encoded["test"])]
    assert other.keys() == first.keys() - {"test"}
    for split, rows in other.items():
        assert (rows.reference == first[split].reference).all()
