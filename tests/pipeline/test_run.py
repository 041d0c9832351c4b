"""What a run decides on its way that no result on one CPU shows: device, pass size, and the model that is scored."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from kamerton.cli import main
from kamerton.config.check import to_config
from kamerton.config.compose import compose_values
from kamerton.config.schema import Config
from kamerton.errors import Interrupted
from kamerton.pipeline import layout, prepare, run
from kamerton.run import model as restore
from kamerton.run.directory import RunDirectory
from kamerton.run.distributed import RUN_DIR
from kamerton.train import steps
from kamerton.train.callbacks import StopRequest
from kamerton.train.data_module import FineTuneData
from support.runs import TINY


class EnoughError(Exception):
    """Stops a run once the test has what it needs."""


def config(*overrides: str, path: str = "x") -> Config:
    return to_config(compose_values([*TINY, f"data.path={path}", *overrides]))


@pytest.mark.parametrize("base", ["true", "false"])
def test_the_layout_is_chosen_for_the_training_device(
    animals: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, base: str
) -> None:
    result: list[str] = []

    def choose_batch_layout(_: Config, model: Any, *__: Any) -> Config:
        result.append(model.device.type)
        raise EnoughError

    monkeypatch.setattr(prepare, "choose_batch_layout", choose_batch_layout)
    monkeypatch.setattr(prepare, "device", lambda _: torch.device("meta"))  # in place of a GPU
    with pytest.raises(EnoughError):
        run.train(config(f"base={base}", f"paths.outputs={tmp_path}", path=str(animals)))
    assert result == ["meta"]


@pytest.mark.parametrize(("variables", "processes"), [({}, 3), ({"WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4"}, 4)])
def test_memory_is_shared_by_as_many_processes_as_the_launcher_started(
    variables: dict[str, str], processes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (variables | {"TORCHELASTIC_RUN_ID": "x", "RANK": "0"} if variables else {}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(layout, "find_max_tokens", lambda *_, processes, **__: processes)
    assert layout._measure_max_tokens(config("trainer.devices=3"), None) == processes


def test_a_model_in_four_bits_is_scored_in_four_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments: dict[str, Any] = {}

    def load_model(_: str, **options: Any) -> Any:
        arguments.update(options)
        raise EnoughError

    monkeypatch.setattr(restore, "load_model", load_model)
    four_bits = config()
    four_bits = dataclasses.replace(four_bits, adapter=dataclasses.replace(four_bits.adapter, kind="qlora"))
    with pytest.raises(EnoughError):
        restore.load_base(four_bits)
    assert arguments["quantize"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overrides", "steps_per_epoch", "epochs"),
    [(["debug=overfit"], 2, 20), (["trainer.limit_train_batches=0.5", "trainer.max_epochs=4"], 5, 4)],
)
def test_a_limited_epoch_has_the_same_examples_every_time_and_all_counts_are_of_it(
    animals: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    overrides: list[str],
    steps_per_epoch: int,
    epochs: int,
) -> None:
    rows_of: list[int] = []

    def data_of(train: Any, *others: Any, **options: Any) -> FineTuneData:
        rows_of.append(len(train))
        return FineTuneData(train, *others, **options)

    monkeypatch.setattr(steps, "FineTuneData", data_of)
    more = ["base=false", "optimizer.lr=0.01", "logger=csv", f"paths.outputs={tmp_path}"]
    options = config(*overrides, *more, path=str(animals))
    result = run.train(options)
    total = steps_per_epoch * epochs
    progress = json.loads((result.path / "run.json").read_text())["progress"]
    assert (progress["steps"], progress["steps_per_epoch"], progress["step"]) == (total, steps_per_epoch, total)
    with (result.path / "metrics.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row.get("train/loss")]
    losses = [float(row["train/loss"]) for row in rows]
    assert len(losses) == total
    assert rows_of == [8 * steps_per_epoch]
    assert sum(losses[-steps_per_epoch:]) < 0.9 * sum(losses[:steps_per_epoch])
    assert "the same" in (result.path / "events.jsonl").read_text()


@pytest.mark.parametrize(("rank", "comes"), [("0", False), ("1", True)])
def test_only_rank_0_stops_before_the_ranks_agree(
    animals: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rank: str, comes: bool
) -> None:
    """A rank that receives a stop request at the start takes part until all ranks agree."""
    fitted: list[bool] = []

    def fit(_: Config, __: RunDirectory, stop: StopRequest, *___: Any, **____: Any) -> None:
        fitted.append(stop.requested)
        raise Interrupted

    def to_train(_: Config, model: Any, *__: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return model

    options = config("base=false", f"paths.outputs={tmp_path}", path=str(animals))
    monkeypatch.setattr(run, "fit_model", fit)
    monkeypatch.setattr(run, "to_train", to_train)
    with pytest.raises(Interrupted) as stopped:
        run.train(options)
    monkeypatch.setenv(RUN_DIR, str(tmp_path / "jsonl" / str(stopped.value)))  # as rank 0 tells what Lightning starts
    monkeypatch.setenv("LOCAL_RANK", rank)
    fitted.clear()
    with pytest.raises(Interrupted):
        run.train(options)
    assert fitted == [True] * comes


@pytest.mark.parametrize(
    ("rank", "stop", "code"), [("0", Interrupted(), 130), ("1", Interrupted(), 0), ("1", KeyboardInterrupt(), 130)]
)
def test_other_ranks_exit_with_0_after_an_agreed_stop(
    animals: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rank: str, stop: BaseException, code: int
) -> None:
    """Lightning kills rank 0, which still reports, if another rank exits with a code other than 0."""

    def fit(*_: Any, **__: Any) -> None:
        raise stop

    monkeypatch.setattr(run, "fit_model", fit)
    words = ["train", *TINY, f"data.path={animals}", f"paths.outputs={tmp_path}", "run_id=one", "base=false"]
    assert main(words) == 130
    monkeypatch.setenv(RUN_DIR, str(tmp_path / "jsonl" / "one"))
    monkeypatch.setenv("LOCAL_RANK", rank)
    assert main(words) == code
