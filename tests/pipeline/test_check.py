"""Mistakes that only constructors find are reported before anything is loaded: each part of a run is tried once."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import pytorch_lightning.loggers

from kamerton.config.compose import compose_values
from kamerton.errors import Fault
from kamerton.pipeline.check import build_faults
from support.runs import TINY

CONFIG = (*TINY, "data.path=x")


def faults_of(values: Any) -> list[Fault]:
    """The faults of every section."""
    return build_faults(values, values)


@pytest.mark.parametrize("overrides", [[], ["adapter=full"], ["optimizer=sgd"], ["trainer=cpu"], ["callbacks=null"]])
def test_what_is_shipped_can_be_built(overrides: list[str]) -> None:
    assert faults_of(compose_values([*CONFIG, *overrides])) == []


@pytest.mark.parametrize("logger", ["wandb", "tensorboard", "null"])
def test_every_logger_that_is_shipped_can_be_built(logger: str) -> None:
    assert faults_of(compose_values(["model=tiny", "data=jsonl", "data.path=x", f"logger={logger}"])) == []


@pytest.mark.parametrize(
    ("override", "column", "words"),
    [
        ("optimizer.betas=[2,3]", "optimizer.betas", "beta"),
        ("optimizer.betas=3", "optimizer.betas", ""),
        ("optimizer.eps=-1", "optimizer.eps", "epsilon"),
        ("trainer.precision=foo", "trainer.precision", "foo"),
        ("trainer.accelerator=foo", "trainer.accelerator", "foo"),
        ("trainer.devices=0", "trainer.devices", ""),
        ("trainer.strategy=foo", "trainer.strategy", "foo"),
        ("trainer.max_time=abc", "trainer.max_time", ""),
        ("trainer.enable_checkpointing=false", "trainer.enable_checkpointing", ""),
        ("trainer.accumulate_grad_batches=2", "trainer.accumulate_grad_batches", "batch.max_tokens"),
        ("trainer.gradient_clip_val=1.5", "trainer.gradient_clip_val", "clip_norm"),
        ("trainer.val_check_interval=10", "trainer.val_check_interval", "eval.every"),
        ("trainer.logger=false", "trainer.logger", "logger.NAME"),
        ("trainer.default_root_dir=x", "trainer.default_root_dir", "paths.outputs"),
        ("trainer.max_step=3", "trainer.max_step", "did you mean 'max_steps'"),
        ("callbacks.early_stopping.mode=foo", "callbacks.early_stopping.mode", "foo"),
        ("callbacks.checkpoint_best.save_top_k=-5", "callbacks.checkpoint_best.save_top_k", ""),
        ("callbacks.checkpoint_best.dirpath=x", "callbacks.checkpoint_best.dirpath", "remove it"),
        ("+callbacks.t={_target_: pytorch_lightning.callbacks.Timer, duration: abc}", "callbacks.t.duration", ""),
        ("logger.csv={_target_: pytorch_lightning.loggers.CSVLogger, save_dir: x}", "logger.csv._target_", "folder"),
        ("adapter.targets=[q_prj]", "adapter.targets", "did you mean 'q_proj'?"),
        ("adapter.targets=[q_proj,nix]", "adapter.targets", "'nix'"),
        ("adapter.targets=nix", "adapter.targets", "all-linear"),
        ("adapter.targets=[]", "adapter.targets", "all-linear"),
        ("adapter.targets=[input_layernorm]", "adapter.targets", "all-linear"),
        ("adapter.r=1000000", "adapter.r", "64 or less"),
    ],
)
def test_a_value_that_a_constructor_refuses_is_one_fault_at_its_key(override: str, column: str, words: str) -> None:
    (fault,) = faults_of(compose_values([*CONFIG, override]))
    assert fault.column == column
    assert words in fault.message + fault.fix
    assert str(fault).count(f"{column}:") <= 1


@pytest.mark.parametrize("value", ["abc", "-1", "nan"])
def test_what_the_schema_says_is_not_said_again(value: str) -> None:
    typed = [f"optimizer.lr={value}", "optimizer.betas=[2,3]", "trainer.max_steps=0"]
    assert [fault.column for fault in faults_of(compose_values([*CONFIG, *typed]))] == ["optimizer.betas"]


@pytest.mark.parametrize(
    ("logger", "override", "column"),
    [
        ("wandb", "logger.wandb.projct=x", "logger.wandb.projct"),
        ("wandb", "logger.wandb.mode=foo", "logger.wandb.mode"),
        ("tensorboard", "logger.tensorboard.foo=x", "logger.tensorboard.foo"),
    ],
)
def test_arguments_that_a_logger_passes_on_are_checked(logger: str, override: str, column: str) -> None:
    (fault,) = faults_of(compose_values(["model=tiny", "data=jsonl", "data.path=x", f"logger={logger}", override]))
    assert fault.column == column


@pytest.mark.parametrize("name", ["LBFGS", "SparseAdam"])
def test_an_optimizer_that_cannot_take_a_plain_step_is_a_fault(name: str) -> None:
    values = compose_values([*CONFIG, f"optimizer._target_=torch.optim.{name}"])
    values["optimizer"] = {key: values["optimizer"][key] for key in ("_target_", "_partial_", "lr")}
    (fault,) = faults_of(values)
    assert fault.column == "optimizer"


def test_trainer_gpu_needs_a_gpu() -> None:
    import torch

    faults = faults_of(compose_values([*CONFIG, "trainer=gpu"]))
    assert [fault.column for fault in faults] == ([] if torch.cuda.is_available() else ["trainer.accelerator"])


def test_all_faults_are_reported_together() -> None:
    overrides = ["optimizer.eps=-1", "trainer.precision=foo", "callbacks.early_stopping.mode=foo", "adapter.r=999"]
    columns = {fault.column for fault in faults_of(compose_values([*CONFIG, *overrides]))}
    assert columns == {"optimizer.eps", "trainer.precision", "callbacks.early_stopping.mode", "adapter.r"}


@pytest.mark.parametrize(("logger", "built"), [("WandbLogger", 1), ("CometLogger", 0)])
def test_no_logger_is_built_twice_and_none_that_begins_an_experiment(
    logger: str, built: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = getattr(pytorch_lightning.loggers, logger)
    calls = []

    @functools.wraps(kind.__init__)
    def note(*_: Any, **__: Any) -> None:
        calls.append(logger)

    monkeypatch.setattr(kind, "__init__", note)
    node = f"+logger.other={{_target_: pytorch_lightning.loggers.{logger}}}"
    faults_of(compose_values([*CONFIG, node, "debug_note=" + logger]))
    assert len(calls) == built
