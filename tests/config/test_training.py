"""Contradictory options are reported with a fix before anything runs."""

from __future__ import annotations

import sys

import pytest

from kamerton.config.compose import compose_values, conf_dir
from kamerton.config.faults import check_overrides
from kamerton.config.target_checks import check_targets
from kamerton.config.training import check_training


@pytest.mark.parametrize(
    ("overrides", "key", "message"),
    [
        (["scheduler.warmup_steps=5", "scheduler.warmup_ratio=0.1"], "scheduler.warmup_ratio", "both given"),
        (["scheduler=linear", "+scheduler.min_ratio=0.1"], "scheduler.min_ratio", "does nothing with scheduler=linear"),
        (["scheduler=wsd", "scheduler.warmup_ratio=0.6", "scheduler.decay_ratio=0.5"], "scheduler.decay_ratio", "0.6"),
        (["model.attn=eager"], "model.attn", "does nothing with batch.cut=tree"),
        (["adapter=full", "+adapter.dora=true"], "adapter.dora", "does nothing with adapter=full"),
        (["adapter=full", "+adapter.lr_ratio=4"], "adapter.lr_ratio", "does nothing with adapter=full"),
        (["+adapter.freeze=[embed_tokens]"], "adapter.freeze", "does nothing with adapter=lora"),
        (["trainer.precision=bf16-true"], "trainer.precision", "small updates vanish"),
        (["trainer.precision=16-true", "adapter=full"], "trainer.precision", "small updates vanish"),
        (["model.dtype=bfloat16", "adapter=full"], "model.dtype", "adapter=full trains weights with 16 bits"),
        (["model.dtype=float16", "adapter.modules_to_save=[lm_head]"], "model.dtype", "modules_to_save trains weights"),
        (["model.matmul=bfloat16", "model.fused=false"], "model.matmul", "does nothing with model.fused=false"),
        (
            ["model.matmul=bfloat16", "trainer.precision=bf16-mixed"],
            "model.matmul",
            "trainer.precision=bf16-mixed",
        ),
        (["score.quantize=int8", "score.mode=labels"], "score.quantize", "does nothing with score.mode=labels"),
        (["adapter=qlora", "adapter.init=pissa"], "adapter.init", "4 bits"),
        (["adapter=qlora", "model.export=merged"], "model.export", "4 bits"),
        (["optimizer=schedule_free"], "scheduler.name", "schedule-free"),
        (["optimizer=schedule_free", "scheduler=constant", "ema_decay=0.9"], "ema_decay", "its own"),
        (["trainer.strategy=deepspeed_stage_2"], "trainer.strategy", "deepspeed_stage_2"),
        (["trainer.strategy=fsdp"], "trainer.strategy", "fsdp"),
        (["callbacks.early_stopping.monitor=val/los"], "callbacks.early_stopping.monitor", "val/los"),
        (["callbacks.checkpoint_best.save_top_k=3"], "callbacks.checkpoint_best.save_top_k", "must be 1"),
        *(
            ([f"callbacks.checkpoint_best.filename={name}"], "callbacks.checkpoint_best.filename", repr(name))
            for name in ("last", "previous", "../best", "/best", "a/../../best")
        ),
        (
            ["+callbacks.x={_target_: pytorch_lightning.callbacks.LearningRateFinder}"],
            "callbacks.x",
            "LearningRateFinder",
        ),
        *(
            ([f"trainer.strategy={{_target_: pytorch_lightning.strategies.{name}}}"], "trainer.strategy", name)
            for name in ("FSDPStrategy", "DeepSpeedStrategy", "ModelParallelStrategy")
        ),
    ],
)
def test_inconsistent_training_options_are_faults(overrides: list[str], key: str, message: str) -> None:
    (fault,) = check_training(compose_values(overrides))
    assert fault.column == key
    assert message in fault.message
    assert fault.fix


@pytest.mark.parametrize("limit", ["0", "0.0", "1.5", "-1", "true"])
def test_a_limit_without_any_step_is_a_fault(limit: str) -> None:
    (fault,) = check_overrides([f"trainer.limit_train_batches={limit}"])
    assert fault.column == "trainer.limit_train_batches"


@pytest.mark.parametrize("option", ["linear", "cosine", "constant", "wsd"])
def test_every_schedule_of_conf_is_accepted(option: str) -> None:
    assert check_overrides([f"scheduler={option}"]) == []


@pytest.mark.parametrize("option", ["ddp", "fsdp", "deepspeed"])
def test_the_strategies_of_conf_are_accepted(option: str) -> None:
    assert check_training(compose_values([f"trainer={option}"])) == []


@pytest.mark.parametrize("option", ["lora", "qlora", "full"])
def test_every_adapter_of_conf_is_accepted(option: str) -> None:
    assert check_overrides([f"adapter={option}"]) == []


@pytest.mark.parametrize(("option", "package"), [("adamw_8bit", "bitsandbytes"), ("schedule_free", "schedulefree")])
def test_an_optimizer_whose_package_is_missing_names_the_extra(
    option: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    extra = {"bitsandbytes": "qlora", "schedulefree": "schedule-free"}[package]
    assert f"pip install 'kamerton[{extra}]'" in (conf_dir() / "optimizer" / f"{option}.yaml").read_text()
    for name in [name for name in sys.modules if name.startswith(f"{package}.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)  # what Python makes of a package that is not there
    (fault,) = check_targets(compose_values([f"optimizer={option}"]))
    assert package in fault.message
    assert fault.fix == f"pip install 'kamerton[{extra}]'"


@pytest.mark.parametrize(
    "override",
    ["scheduler.warmup_ratio=1", "scheduler.warmup_steps=-1", "+scheduler.min_ratio=2", "+scheduler.decay_ratio=0",
     "label_smoothing=1", "label_smoothing=-0.1", "adapter.lr_ratio=0", "adapter.init=pizza", "adapter.kind=dora",
     "ema_decay=1", "ema_decay=0"],
)  # fmt: skip
def test_values_out_of_bounds_are_named(override: str) -> None:
    faults = check_overrides([override])
    assert faults
    assert {fault.column for fault in faults} == {override.lstrip("+").partition("=")[0]}
