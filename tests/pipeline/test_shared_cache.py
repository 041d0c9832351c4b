"""The shared cache: results are bit-identical to those without it, and no stale value is used."""

from __future__ import annotations

import gc
import json
import os
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from kamerton.config.check import to_config
from kamerton.config.compose import compose_values
from kamerton.config.schema import Config
from kamerton.model.tiny import tiny_model
from kamerton.pipeline.run import train
from kamerton.pipeline.session import Invocation, RunResult
from kamerton.pipeline.shared_cache import SharedCache, sharing_weights
from support.runs import TINY

Configure = Callable[..., Config]
SMALL = (*TINY, "trainer.max_steps=3", "baselines=false")
POINTS = {
    "lora": ["adapter.dropout=0.1"],
    "full": ["adapter=full", "optimizer.lr=0.01"],
    "merged": ["model.export=merged", "optimizer.lr=0.03", "adapter.dora=true"],
    "pissa": ["adapter.init=pissa", "seed=7"],
    "whole layers": ["adapter.modules_to_save=[lm_head]", "ema_decay=0.5"],
    "padded": ["batch.cut=padded", "model.fused=false", "data.labels=null", "split.seed=3"],
}


@pytest.fixture
def configure(animals: Path, tmp_path: Path) -> Configure:
    def config(*overrides: str) -> Config:
        shared = [*SMALL, f"data.path={animals}", f"paths.outputs={tmp_path}/outputs"]
        return to_config(compose_values([*shared, *overrides]))

    return config


def result(run: RunResult) -> tuple[dict[str, torch.Tensor], dict[str, Any], list[str]]:
    """Trained weights, metrics, and what was logged but for times."""
    state = torch.load(run.path / "checkpoints" / "last.ckpt", weights_only=True)
    metrics = {name: {k: v for k, v in of.items() if "perf/" not in k} for name, of in run.metrics.items()}
    lines = (run.path / "metrics.csv").read_text().splitlines()
    timeless = [i for i, name in enumerate(lines[0].split(",")) if "perf/" not in name]
    rows = [",".join(line.split(",")[i] for i in timeless) for line in lines]
    return {**state["state_dict"], **state.get("averaged", {})}, metrics, rows


@pytest.mark.slow
def test_runs_with_a_shared_cache_are_bit_identical(configure: Configure) -> None:
    """Runs follow each other, so that leftover state would change the next one; the first is repeated."""
    shared_cache = SharedCache()
    for name in [*POINTS, "lora"]:
        cold, again = (
            result(train(configure(*POINTS[name]), Invocation(shared_cache=kept))) for kept in (None, shared_cache)
        )
        assert cold[0].keys() == again[0].keys()
        assert all(torch.equal(cold[0][key], again[0][key]) for key in cold[0]), name
        assert cold[1:] == again[1:], name


def test_nothing_is_loaded_twice(configure: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    import kamerton.data.gate
    import kamerton.pipeline.layout
    import kamerton.pipeline.shared_cache
    import kamerton.run.model

    calls: list[str] = []
    for module, name in (
        (kamerton.run.model, "load_model"),
        (kamerton.pipeline.shared_cache, "load_tokenizer"),
        (kamerton.data.gate, "prepare"),
        (kamerton.pipeline.layout, "check_loss"),
    ):
        plain = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *a, _p=plain, _n=name, **k: calls.append(_n) or _p(*a, **k))
    shared_cache = SharedCache()
    for size in (4, 8, 16):
        train(
            configure(f"batch.size={size}", "adapter.r=4", f"optimizer.lr={size / 1000}"),
            Invocation(shared_cache=shared_cache),
        )
    assert sorted(calls) == ["check_loss", "load_model", "load_tokenizer", "prepare"]


def test_files_that_change_between_runs_are_read_again(configure: Configure, animals: Path) -> None:
    shared_cache, config = SharedCache(), configure()
    first = shared_cache.inputs(config)
    assert shared_cache.inputs(config).prepared is first.prepared
    first.encoded.clear()  # the caller's own
    assert shared_cache.inputs(config).encoded
    text = animals.read_text().replace("cat number 7", "lion number 7")
    animals.write_text(text)
    os.utime(animals, ns=(1, 1))
    assert shared_cache.inputs(config).prepared.fingerprint != first.prepared.fingerprint
    other = replace(config, split=replace(config.split, seed=1))
    assert shared_cache.inputs(other).prepared.fingerprint != shared_cache.inputs(config).prepared.fingerprint


def test_a_model_folder_with_changed_content_is_a_different_model(configure: Configure, tmp_path: Path) -> None:
    folder, tokenizer = tmp_path / "model", SharedCache().inputs(configure()).tokenizer
    shared_cache, sums = SharedCache(), []
    for seed in (1, 2):
        tiny_model(seed).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        model = shared_cache.base(configure("model=hub", f"model.name={folder}"))
        sums.append(sum(float(weight.detach().sum()) for weight in model.parameters()))
    assert sums[0] != sums[1]


def test_a_copy_shares_the_memory_of_its_weights_and_nothing_else() -> None:
    model = tiny_model(3)
    item, other = sharing_weights(model), sharing_weights(model)
    for weight, first, second in zip(model.parameters(), item.parameters(), other.parameters(), strict=True):
        assert weight.data_ptr() == first.data_ptr() == second.data_ptr()
        assert weight is not first is not second
    tied = model.get_input_embeddings().weight is model.get_output_embeddings().weight
    assert (item.get_input_embeddings().weight is item.get_output_embeddings().weight) == tied
    item.requires_grad_(False)
    item.config.use_cache = not model.config.use_cache
    item.to(torch.float64)
    assert all(weight.requires_grad and weight.dtype == torch.float32 for weight in other.parameters())
    assert item.config.use_cache != other.config.use_cache


def test_the_last_used_stay() -> None:
    shared_cache, made = SharedCache(), []
    for key in (1, 2, 1, 3, 1, 2):
        assert shared_cache.keep("kind", key, lambda key=key: made.append(key) or -key, most=2) == -key  # type: ignore[misc]
    assert made == [1, 2, 3, 2]
    assert shared_cache.keep("other", 1, lambda: "its own") == "its own"


@pytest.mark.slow
@pytest.mark.parametrize("adapter", ["lora", "full"])
def test_a_finished_run_frees_its_model(configure: Configure, adapter: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Immediately: Python's cycle collector may run many points later."""
    import kamerton.pipeline.run

    held: list[Any] = []
    plain = kamerton.pipeline.run.to_train

    def to_train(config: Config, model: Any, *kernels: Any) -> Any:
        tuned = plain(config, model, *kernels)
        held.append(weakref.ref(next(weight for weight in tuned.parameters() if weight.requires_grad)))
        return tuned

    monkeypatch.setattr(kamerton.pipeline.run, "to_train", to_train)
    gc.disable()
    try:
        for rate in (
            0.1,
            0.2,
        ):  # the first use of a library may leave exceptions with frames behind
            train(configure(f"adapter={adapter}", f"optimizer.lr={rate}"), Invocation(shared_cache=SharedCache()))
        assert held[1]() is None
    finally:
        gc.enable()


def test_the_folds_of_a_cross_validation_share_the_base_model(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    import kamerton.run.model
    from kamerton.pipeline.cross_validation import cross_validate

    calls: list[str] = []
    plain = kamerton.run.model.load_model
    monkeypatch.setattr(kamerton.run.model, "load_model", lambda *a, **k: calls.append(a[0]) or plain(*a, **k))
    run = cross_validate(configure("cv.folds=3", "base=false"))
    assert calls == ["tiny"]
    assert len(json.loads((run.path / "cross_validation.json").read_text())["folds"]) == 3
