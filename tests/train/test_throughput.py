"""The figures of a step against what torch counts, and what a run leaves of them."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from kamerton.cli import main
from kamerton.model.adapter import Kind, apply_adapter
from kamerton.model.tiny import tiny_model
from kamerton.run.directory import RunDirectory, read_values
from kamerton.train import throughput
from kamerton.train.batches import StepBatch
from kamerton.train.throughput import ThroughputMonitor, Work, listed_peak, model_shape, rates, step_flops


def batch(*, examples: int = 4, length: int = 33, computed: int | None = None) -> StepBatch:
    """Every token of `examples` equal examples but the first is a target."""
    tokens = examples * length
    return StepBatch(
        micro_batches=(),
        weights=(),
        normaliser=float(tokens - examples),
        examples=examples,
        tokens=tokens,
        targets=tokens - examples,
        computed=tokens - examples if computed is None else computed,
        context=length - 1,
        counted=0,
    )


@pytest.mark.parametrize("kind", ["full", "lora"])
def test_the_operations_of_a_step_are_those_that_torch_counts(kind: Kind) -> None:
    model: Any = apply_adapter(tiny_model(), kind=kind, r=4)
    model.set_attn_implementation("eager")  # torch does not count the CPU's fused attention
    ids = torch.randint(0, 250, (4, 32))
    with FlopCounterMode(display=False) as counter:
        model(input_ids=ids).logits.logsumexp(-1).sum().backward()
    shape = model_shape(model)
    assert shape is not None
    # LoRA needs no gradient of the first layer's input; the formula does not look that closely.
    assert step_flops(shape, batch()) == pytest.approx(counter.get_total_flops(), rel=0.02 if kind == "full" else 0.1)


def test_padding_is_no_work_and_a_shared_prefix_is_work_once() -> None:
    shape = model_shape(tiny_model())
    assert shape is not None
    plain, padded, shared = (batch(computed=computed) for computed in (128, 256, 64))
    assert step_flops(shape, padded) == step_flops(shape, plain) > step_flops(shape, shared)
    figures = [
        rates(Work(1, 2.0, 0.5, 4, 132, item.computed, step_flops(shape, item)), 1e9)
        for item in (plain, padded, shared)
    ]
    assert [item["padding"] for item in figures] == [0, 0.5, 0]
    assert [item["shared"] for item in figures] == [0, 0, 0.5]
    assert [item["tokens_per_s"] for item in figures] == [66, 66, 66]
    assert [item["computed_tokens_per_s"] for item in figures] == [64, 128, 32]
    assert figures[0]["data_wait"] == 0.25
    assert rates(Work(1, 2.0, 0.5, 4, 132, 128, 1.0, core_wait=3.0), None)["core_wait"] == 1.5
    assert figures[0]["mfu"] == pytest.approx(step_flops(shape, plain) / 2 / 1e9)
    assert "mfu" not in rates(Work(1, 2.0, 0.5, 4, 132, 128, 1.0), None)


def test_the_longest_name_of_a_gpu_decides() -> None:
    assert listed_peak("NVIDIA H100 NVL", 0) == 835e12
    assert listed_peak("NVIDIA H100 80GB HBM3", 0) == 989e12
    assert listed_peak("NVIDIA L40S", 0) == 362e12
    assert listed_peak("NVIDIA L4", 1) == 60e12
    assert listed_peak("Some Other Card", 0) is None


def test_the_time_of_validation_and_checkpoints_is_not_that_of_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = SimpleNamespace(value=100.0)
    monkeypatch.setattr(throughput.time, "perf_counter", lambda: now.value)
    monkeypatch.setattr(throughput, "peak_flops", lambda *_, **__: None)
    loader = SimpleNamespace(waited=0.0)
    trainer: Any = SimpleNamespace(train_dataloader=loader, world_size=1, precision="32-true")
    logged: dict[str, float] = {}
    module: Any = SimpleNamespace(model=tiny_model(), device=torch.device("cpu"), log_dict=logged.update)
    run = RunDirectory(tmp_path, resuming=False)
    monitor = ThroughputMonitor(run, window=2)
    monitor.on_train_start(trainer, module)
    for number in range(4):
        loader.waited += 1
        now.value += 1
        monitor.on_train_batch_start(trainer, module, batch(), number)
        now.value += 3
        monitor.on_train_batch_end(trainer, module, None, batch(), number)
        if number == 1:
            monitor.on_validation_start(trainer, module)
            now.value += 1000
        if number == 2:
            monitor.on_save_checkpoint(trainer, module, {})
            now.value += 1000
    monitor.on_train_end(trainer, module)
    assert float(logged["perf/tokens_per_s"]) == pytest.approx(132 / 4)
    assert float(logged["perf/data_wait"]) == pytest.approx(0.25)
    record = read_values(tmp_path)
    assert record is not None
    assert record["throughput"]["steps"] == 3
    assert record["throughput"]["train_s"] == pytest.approx(12)
    assert record["throughput"]["fit_s"] == pytest.approx(2016)


def test_a_run_logs_its_throughput_and_the_monitor_can_be_removed(animals: Path, tmp_path: Path) -> None:
    options = ["model=tiny", "data=jsonl", f"data.path={animals}", f"paths.outputs={tmp_path}", "batch.size=8"]
    options += ["logger=csv", "trainer.max_steps=4", "callbacks.progress_bar=null", "base=false"]
    assert main(["train", *options, "run_id=with"]) == 0
    assert main(["train", *options, "run_id=without", "callbacks.throughput=null"]) == 0
    folder = tmp_path / "jsonl"
    recorded = json.loads((folder / "with" / "run.json").read_text())["throughput"]
    assert recorded["steps"] == 3
    assert 0 < recorded["shared"] < 1
    assert recorded["padding"] == 0
    assert 0 < recorded["mfu"] < 1
    assert 0 < recorded["data_wait"] < 1
    rows = list(csv.DictReader((folder / "with" / "metrics.csv").open(newline="")))
    assert float(rows[3]["perf/tokens_per_s"]) > float(rows[3]["perf/computed_tokens_per_s"]) > 0
    assert "computed tokens per s" in (folder / "with" / "report.html").read_text()
    assert "throughput" not in json.loads((folder / "without" / "run.json").read_text())
    assert "perf/" not in (folder / "without" / "metrics.csv").read_text()
