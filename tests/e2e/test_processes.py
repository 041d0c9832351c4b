"""One run over several real processes: torchrun, two nodes, sharded weights. All match a single process."""

from __future__ import annotations

import contextlib
import csv
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from kamerton.cli import main
from support.ports import free_port
from support.rows import animals
from support.runs import TINY, evaluated, record, validation_rows, weights
from support.warm import Starter, Warm

STOP = """
import os, signal
import pytorch_lightning as pl

class StopAfter(pl.Callback):
    def __init__(self, step: int, rank: int, number: int = signal.SIGTERM) -> None:
        self.step, self.rank, self.number = step, rank, number

    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step == self.step and trainer.global_rank == self.rank:
            os.kill(os.getpid(), self.number)
"""
ZERO = """
import os

os.environ["DS_ACCELERATOR"] = "cpu"
import deepspeed
import torch
from pytorch_lightning.strategies import DDPStrategy
from kamerton.train.zero import ZeroStrategy

deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False  # would be compiled first

class OnCpu(ZeroStrategy):
    def setup_environment(self):
        DDPStrategy.setup_environment(self)

    def setup_distributed(self):
        self.set_world_ranks()
        self._init_deepspeed_distributed()

    @property
    def root_device(self):
        return torch.device("cpu", self.local_rank)
"""
DEEPSPEED = ("trainer=deepspeed", "trainer.accelerator=cpu", "trainer.strategy._target_=zero_cpu.OnCpu")
Start = Callable[..., Warm]
Run = Callable[..., Path]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data, code for the runs, and the runs of all tests below `jsonl`."""
    path = tmp_path_factory.mktemp("processes")
    animals(path / "animals.jsonl")
    (path / "stopping.py").write_text(STOP)
    (path / "zero_cpu.py").write_text(ZERO)
    return path


@pytest.fixture(scope="module")
def options(folder: Path) -> list[str]:
    """The request that every family gets."""
    options = [*TINY, f"data.path={folder / 'animals.jsonl'}", f"paths.outputs={folder}"]
    options += ["base=false", "trainer.accelerator=cpu", "trainer.max_steps=6"]
    options += ["scheduler.warmup_steps=10"]  # the first steps of AdamW at the full rate would magnify the rounding
    options += ["callbacks.model_summary=null", "eval.strategy=steps", "eval.every=3"]
    return [*options, "allow_targets=[stopping.,zero_cpu.]"]


@pytest.fixture(scope="module")
def environment(folder: Path) -> dict[str, str]:
    path = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def start(folder: Path, options: list[str], environment: dict[str, str], warm: Starter) -> Iterator[Start]:
    """Start the command after `prefix` (such as torchrun); no process is left behind."""
    with contextlib.ExitStack() as stack:
        started: list[Warm] = []

        def run(*extra: str, prefix: tuple[str, ...] = (), **own: str) -> Warm:
            output = stack.enter_context(tempfile.TemporaryFile("a+"))
            words = [*prefix, "-m", "kamerton", "train", *options, *extra]
            started.append(warm.python(*words, output=output, env={**environment, **own}))
            return started[-1]

        yield run
        for process in started:
            process.kill()


@pytest.fixture(scope="module")
def run(start: Start, folder: Path) -> Run:
    """Runs the command to its end; returns the directory of run `name`."""

    def finish(name: str, *extra: str, code: int = 0, **options: Any) -> Path:
        finished(start(*extra, f"run_id={name}", **options), code)
        return folder / "jsonl" / name

    return finish


@pytest.fixture(scope="module")
def alone(folder: Path, options: list[str]) -> dict[str, Path]:
    """Return the results of a single process, by adapter."""
    for adapter in ("lora", "full"):
        assert main(["train", *options, f"adapter={adapter}", f"run_id=alone-{adapter}"]) == 0
    return {adapter: folder / "jsonl" / f"alone-{adapter}" for adapter in ("lora", "full")}


def others(folder: Path, names: set[str]) -> list[Path]:
    return [path for path in (folder / "jsonl").iterdir() if path.name not in names]


def finished(process: Warm, code: int = 0) -> str:
    """What it printed."""
    process.wait(600)
    process.output.seek(0)
    output = str(process.output.read())
    assert process.returncode == code, output[-3000:]
    return output


def torchrun(*options: str) -> tuple[str, ...]:
    return ("-m", "torch.distributed.run", *options)


def steps(run: Path) -> list[tuple[float, float]]:
    """Loss and gradient norm of each step."""
    with (run / "metrics.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row.get("train/loss")]
    return [(float(row["train/loss"]), float(row["train/grad_norm"])) for row in rows]


def assert_same(run: Path, reference: Path) -> None:
    """One trajectory: loss and gradient norm to 1e-5; the weights after Adam's divisions to 1e-4."""
    assert record(run)["state"] == "succeeded"
    assert len(steps(run)) == 6
    for result, expected in zip(steps(run), steps(reference), strict=True):
        assert result == pytest.approx(expected, rel=1e-5)
    for split in ("validation", "best", "test"):
        for name, value in record(reference)["metrics"][split].items():
            assert record(run)["metrics"][split][name] == pytest.approx(value, rel=1e-5, abs=1e-6), (split, name)
    for name, weight in weights(reference).items():
        torch.testing.assert_close(weights(run)[name], weight, rtol=1e-4, atol=1e-6)


def test_torchrun_on_one_machine_trains_like_one_process(
    folder: Path, options: list[str], environment: dict[str, str], alone: dict[str, Path]
) -> None:
    """From a shell, with every import; the other tests start their processes warm."""
    launcher = [sys.executable, *torchrun("--nproc-per-node=2", f"--master-port={free_port()}")]
    command = [*launcher, "-m", "kamerton", "train", *options, "run_id=two"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert_same(folder / "jsonl" / "two", alone["lora"])


def test_torchrun_on_two_machines_writes_one_run(start: Start, folder: Path, alone: dict[str, Path]) -> None:
    before = {path.name for path in others(folder, set())}
    options = ["--nnodes=2", "--nproc-per-node=1", "--master-addr=127.0.0.1", f"--master-port={free_port()}"]
    nodes = [start(prefix=torchrun(*options, f"--node-rank={rank}")) for rank in (1, 0)]
    other, first = [finished(node) for node in nodes]
    (together,) = others(folder, before)
    assert_same(together, alone["lora"])
    assert f"jsonl/{together.name}" in first
    assert "jsonl/" not in other  # the second machine prints nothing


def test_sharded_training_gives_what_one_process_gives(run: Run, folder: Path, alone: dict[str, Path]) -> None:
    """FSDP2 over gloo; with the small `max_tokens` the two ranks have unequal numbers of passes."""
    scored = ["batch.max_tokens=128", "score.max_new_tokens=4"]
    sharded = run("sharded", "adapter=full", "trainer=fsdp", "eval.score=generate", "save.every=3", *scored)
    assert_same(sharded, alone["full"])
    assert weights(sharded).keys() == weights(alone["full"]).keys()
    assert (sharded / "model").exists()
    rows = validation_rows(folder / "animals.jsonl", folder / "validation.jsonl")
    again = evaluated(sharded, folder, "last", f"data.test={rows}", "score.mode=generate", *scored)
    validation = record(sharded)["metrics"]["validation"]
    assert {"accuracy", "f1"} < validation.keys()
    for name in validation.keys() & again.keys() - {"loss", "perplexity", "token_accuracy"}:
        assert validation[name] == again[name], name


def test_a_run_resumes_with_another_number_of_processes(run: Run, alone: dict[str, Path]) -> None:
    """With LoRA: one process, then sharded over two, then two copies; stopped by a signal to the last rank alone."""
    for trainer, step, rank in (("default", 2, 0), ("fsdp", 4, 1)):
        stop = f"+callbacks.stop={{_target_: stopping.StopAfter, step: {step}, rank: {rank}}}"
        assert record(run("moved", f"trainer={trainer}", stop, code=130))["state"] == "paused"
    assert_same(run("moved", "trainer=ddp"), alone["lora"])


def test_deepspeed_gives_what_one_process_gives_and_takes_over_from_it(run: Run, alone: dict[str, Path]) -> None:
    """The strategy itself is for GPUs alone; here its arithmetic runs on the CPU, through DeepSpeed's own support."""
    pytest.importorskip("deepspeed")
    for adapter, reference in alone.items():
        same = f"adapter={adapter}"
        assert_same(run(f"zero-{adapter}", same, *DEEPSPEED, "batch.max_tokens=128"), reference)
        for name, before, after in (("to", (), DEEPSPEED), ("from", DEEPSPEED, ())):
            stop = "+callbacks.stop={_target_: stopping.StopAfter, step: 4, rank: 0}"
            run(f"{name}-{adapter}", same, *before, stop, code=130)
            assert_same(run(f"{name}-{adapter}", same, *after), reference)


def test_a_slurm_timeout_warning_requeues_and_resumes_the_job(
    start: Start, folder: Path, tmp_path: Path, alone: dict[str, Path]
) -> None:
    """No SLURM here: its variables as srun sets them for two tasks, and an `scontrol` that writes down its call."""
    calls, before = tmp_path / "calls", {path.name for path in others(folder, set())}
    (tmp_path / "scontrol").write_text(f"#!/bin/sh\necho $* >> {calls}\n")
    (tmp_path / "scontrol").chmod(0o755)
    variables = {"SLURM_JOB_ID": "4711", "SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2", "SLURM_NNODES": "1"}
    variables |= {"SLURM_NODEID": "0", "SLURM_JOB_NAME": "train", "PATH": f"{tmp_path}:{os.environ['PATH']}"}

    def tasks(code: int, *options: str, **more: str) -> None:
        port = {"MASTER_PORT": str(free_port())}
        ranks = [{"SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank)} for rank in (1, 0)]
        started = [start(*options, **variables, **port, **rank, **more) for rank in ranks]
        for process in reversed(started):  # rank 0 first: it knows why
            finished(process, code)

    warn = f"{{_target_: stopping.StopAfter, step: 4, rank: RANK, number: {int(signal.SIGUSR1)}}}"
    tasks(130, *(f"+callbacks.warn{rank}={warn.replace('RANK', str(rank))}" for rank in (0, 1)))
    assert calls.read_text() == "requeue 4711\n"
    (stopped,) = others(folder, before)
    assert record(stopped)["state"] == "paused"
    tasks(0, f"run_id={stopped.name}", SLURM_RESTART_COUNT="1")
    assert_same(stopped, alone["lora"])
    assert calls.read_text() == "requeue 4711\n"


def test_no_rank_trains_if_rank_0_refuses(start: Start, alone: dict[str, Path]) -> None:
    launcher = torchrun("--nproc-per-node=2", f"--master-port={free_port()}")
    output = finished(start("run_id=alone-lora", "adapter=lora", prefix=launcher), 1)
    assert "run alone-lora is finished" in output
    assert "Error executing job" not in output
    assert record(alone["lora"])["state"] == "succeeded"
