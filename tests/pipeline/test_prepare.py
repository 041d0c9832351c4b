"""What the ranks of a run compute before training."""

from __future__ import annotations

from collections.abc import Callable
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
from kamerton.run.distributed import RankInfo
from kamerton.train.callbacks import StopRequest
from support.pairs import pair_rows
from support.rows import write_jsonl
from support.runs import LEAN


def test_rank_0_computes_the_reference_for_the_ranks_of_a_launcher(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others wait until it is cached, and have none of the test split, which rank 0 scores."""
    data = write_jsonl(tmp_path / "pairs.jsonl", pair_rows())
    config = to_config(compose_values([*LEAN, "objective=dpo", f"data.path={data}"]))
    calls: list[str] = []

    def noted(name: str, plain: Callable[..., Any] = lambda *_: None) -> None:
        def call(*arguments: Any, **options: Any) -> Any:
            calls.append(name)
            return plain(*arguments, **options)

        monkeypatch.setattr(preferences, name, call)

    for name in ("reference_logprobs", "score_split"):
        noted(name, getattr(preferences, name))
    noted("broadcast")
    noted("receive")
    ready: list[Ready] = []
    for rank in range(2):
        monkeypatch.setattr(preferences, "rank_info", lambda rank=rank: RankInfo(rank, 2, 1, "torchrun"))
        run = RunDirectory(tmp_path, resuming=False, started=read_values(tmp_path), writes=rank == 0)
        session = Session(config, run, StopRequest(), plain_console(quiet=True), None)
        ready.append(prepare(read_data(session), session))
    both = ["reference_logprobs"] * 2  # of training and validation
    assert calls == [*both, "broadcast", "score_split", "receive", *both]
    first, other = (each.preferences for each in ready)
    assert other.keys() == first.keys() - {"test"} == {"train", "validation"}
    for split, rows in other.items():
        assert (rows.reference == first[split].reference).all()
