"""`kamerton train` on the tiny model: what a user types, and everything that is there afterwards."""

from __future__ import annotations

import itertools
import json
import os
import resource
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
import yaml
from peft import AutoPeftModelForCausalLM
from safetensors.torch import load_file

from kamerton.cli import main
from kamerton.score.metrics import compute
from support.resuming import part_of, same_result, signal_in
from support.runs import LEAN, TINY, Train, metric_rows, record, saved, trainer, weights


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    return tmp_path / "outputs"


@pytest.fixture
def train(animals: Path, outputs: Path) -> Train:
    """Runs the command, without what few tests look at; returns the directory of the run that it made last."""
    return trainer(animals, outputs, *LEAN)


def losses(run: Path) -> dict[int, float]:
    return {int(row["step"]): float(row["train/loss"]) for row in metric_rows(run) if row.get("train/loss")}


def test_a_run_writes_every_documented_file(animals: Path, outputs: Path) -> None:
    run = trainer(animals, outputs, *TINY)("trainer.max_epochs=2", "optimizer.lr=0.01")
    result = record(run)
    assert result["state"] == "succeeded"
    assert result["error"] is None
    assert result["progress"]["step"] == result["progress"]["steps"]
    assert set(result["progress"]["examples"].values()) == {2 * result["data"]["counts"]["train"]}
    assert sum(result["data"]["counts"].values()) == 120
    assert result["model"]["trainable_parameters"] < result["model"]["parameters"]
    assert {"train", "validation", "best", "test", "base"} <= result["metrics"].keys()
    named = {"loss", "perplexity", "token_accuracy", "accuracy", "f1", "precision", "recall"}
    assert named <= result["metrics"]["test"].keys()
    assert result["metrics"]["test"]["loss"] < result["metrics"]["base"]["loss"]
    assert yaml.safe_load((run / "config.yaml").read_text())["data"]["path"] == str(animals)
    assert "optimizer.lr=0.01" in yaml.safe_load((run / "overrides.yaml").read_text())
    for name in ("metrics.csv", "report.html", "report.md", "checkpoints/last.ckpt", "checkpoints/best.ckpt"):
        assert (run / name).exists(), name
    assert (run / "model" / "adapter_model.safetensors").exists()
    assert "chat_template" in "".join(path.name for path in (run / "model").iterdir())


def test_metrics_are_on_the_disk_before_the_checkpoint_that_counts_on_them(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed, plain = [], os.fsync

    def fsync(handle: int) -> None:
        flushed.append(Path(os.readlink(f"/proc/self/fd/{handle}")).name)
        plain(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    train("trainer.max_steps=2", "save.strategy=steps", "save.every=1")
    saved = ".last.ckpt.partial"
    before = [first for first, second in itertools.pairwise(flushed) if second == saved != first]
    assert before == ["metrics.csv"] * 2


def test_metrics_can_be_recomputed_from_the_score_table(train: Train) -> None:
    run = train("trainer.max_steps=3")
    table = pq.read_table(run / "scores" / "test.parquet")
    again = {key: value for key, value in compute(table).items() if value is not None}
    assert again == pytest.approx(record(run)["metrics"]["test"])
    assert {json.loads(text)["number"] for text in table["metadata"].to_pylist()} <= set(range(60))


@pytest.mark.slow
def test_the_evaluation_does_not_depend_on_its_batches(train: Train) -> None:
    numbers = [
        record(train("trainer.max_steps=2", "base=true", f"batch.max_tokens={size}", f"batch.cut={cut}"))["metrics"]
        for size, cut in ((64, "tree"), (100_000, "tree"), (1000, "packed"), (1000, "padded"))
    ]
    for split in ("validation", "test", "base"):
        for other in numbers[1:]:
            assert other[split] == pytest.approx(numbers[0][split], rel=1e-5, abs=1e-6)


def test_the_exported_model_scores_like_the_trained_one(train: Train) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    run = train("trainer.max_steps=4", "model.export=merged", "optimizer.lr=0.01")
    model = AutoModelForCausalLM.from_pretrained(run / "model").eval().requires_grad_(False)
    tokenizer = AutoTokenizer.from_pretrained(run / "model")
    row = pq.read_table(run / "scores" / "test.parquet").to_pylist()[0]
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": row["prompt"]}], add_generation_prompt=True, tokenize=False
    )
    start = len(tokenizer.encode(prompt))
    ids = torch.tensor([tokenizer.encode(prompt + row["target"] + "<|im_end|>\n")])
    logprobs = model(input_ids=ids).logits[0].log_softmax(-1)
    nll = -sum(float(logprobs[t - 1, ids[0, t]]) for t in range(start, ids.shape[1]))
    assert nll == pytest.approx(row["nll"], rel=1e-4)


def saved_step(run: Path) -> int:
    return int(saved(run)["global_step"])


STATEFUL = {
    "lora": ["adapter.dropout=0.1", "base=true", "baselines=true", "model.export=adapter"],
    "full": ["adapter=full"],
    "dora": ["adapter.dora=true", "adapter.lr_ratio=8", "ema_decay=0.9"],
    "pissa": ["adapter.init=pissa_niter_16", "adapter.rslora=true", "label_smoothing=0.1", "scheduler=wsd"],
    "schedule-free": ["adapter=full", "adapter.freeze=[embed_tokens]", "optimizer=schedule_free", "scheduler=constant"],
    "bfloat16 products": ["adapter=full", "model.matmul=bfloat16"],
    "8 bit": ["adapter=full", "optimizer=adamw_8bit", "scheduler=cosine", "scheduler.warmup_ratio=0.1"],
}
STOPS = {1: signal.SIGINT, 4: signal.SIGTERM, 11: signal.SIGTERM, 13: signal.SIGINT, 22: signal.SIGTERM}


def check_stops(train: Train, variant: str, stops: Sequence[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail if a run of a variant that is stopped in these steps differs from one that is not."""
    options = [*STATEFUL[variant], "trainer.max_epochs=2", "eval.strategy=steps", "eval.every=4"]
    straight = train(*options, "run_id=straight")
    for stop_after in stops:
        with monkeypatch.context() as patch:
            signal_in(patch, "training_step", stop_after - 1, STOPS[stop_after])
            stopped = train(*options, "run_id=stopped", code=130)
        assert record(stopped)["state"] == "paused"
        assert record(stopped)["progress"]["step"] == saved_step(stopped) == stop_after
    assert train(*options, "run_id=stopped") == stopped
    assert same_result(stopped, straight)


def test_an_interrupted_run_resumes_to_the_same_result(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped again and again: in the first step, in a validating one, at an epoch's end, after it, and in the last."""
    check_stops(train, "lora", tuple(STOPS), monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("variant", [name for name in STATEFUL if name != "lora"])
def test_an_interrupted_run_of_every_kind_resumes_to_the_same_result(
    train: Train, variant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = {"schedule-free": "schedulefree", "8 bit": "bitsandbytes"}
    if variant in needed:
        pytest.importorskip(needed[variant])
    check_stops(train, variant, tuple(STOPS) if variant == "full" else (4, 13), monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize(("step", "average"), [(4, "ema_decay=0.8"), (11, "ema_decay=null"), (22, "ema_decay=0.8")])
def test_a_stop_during_validation_changes_no_result(
    train: Train, step: int, average: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the middle of an epoch, at the end of one, and after the last step."""
    options = [average, "trainer.max_epochs=2", "eval.strategy=steps", f"eval.every={step}", "batch.max_tokens=100"]
    straight = train(*options, "run_id=straight")
    with monkeypatch.context() as patch:
        signal_in(patch, "validation_step", step, signal.SIGTERM)
        stopped = train(*options, "run_id=stopped", code=130)
    assert bool(metric_rows(stopped)[-1].get("val/loss")) == (step == 22)
    assert saved_step(stopped) == step
    train(*options, "run_id=stopped")
    assert same_result(stopped, straight)


@pytest.mark.slow
def test_a_run_that_stopped_early_stays_stopped_when_resumed(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    """An interruption after the fit must not train on to the last step of the schedule."""
    import kamerton.pipeline.finish

    options = ["eval.strategy=steps", "eval.every=1", "callbacks.early_stopping.patience=1", "optimizer.lr=10"]
    straight = train(*options, "run_id=straight")
    assert record(straight)["progress"]["step"] == saved_step(straight) < record(straight)["progress"]["steps"]
    assert record(straight)["metrics"]["train"]["loss"] == pytest.approx(list(losses(straight).values())[-1], rel=1e-5)
    with monkeypatch.context() as patch:
        patch.setattr(kamerton.pipeline.finish, "load_weights", lambda *_: os.kill(os.getpid(), signal.SIGINT))
        train(*options, "run_id=stopped", code=130)
    assert same_result(train(*options, "run_id=stopped"), straight)


def test_a_second_signal_stops_immediately_and_the_run_can_be_resumed(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["run_id=x", "trainer.max_steps=2"]
    with monkeypatch.context() as patch:
        signal_in(patch, "training_step", 1, signal.SIGTERM, times=2)
        run = train(*options, code=130)
    assert record(run)["state"] == "paused"
    assert not (run / "checkpoints" / "last.ckpt").exists()
    assert record(train(*options))["state"] == "succeeded"


@pytest.mark.slow
def test_an_interrupted_sweep_point_resumes_with_the_printed_command(
    train: Train, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        signal_in(patch, "training_step", 1, signal.SIGINT)
        stopped = train("-m", "seed=1,2", "trainer.max_steps=2", code=130)
    command = shlex.split(capsys.readouterr().err.splitlines()[-1])
    assert command[:2] == ["kamerton", "train"]
    assert main(command[1:]) == 0
    assert (record(stopped)["state"], record(stopped)["seed"]) == ("succeeded", 1)


def test_a_stop_during_data_preparation_exits_with_130(
    train: Train, outputs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import kamerton.hosted.check

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(kamerton.hosted.check, "data_faults", lambda _: os.kill(os.getpid(), signal.SIGTERM) or [])
    train(code=130)
    assert "interrupted; the same command begins again" in capsys.readouterr().err
    assert not outputs.exists()
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_stop_during_the_final_report_still_leaves_a_finished_run(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    import kamerton.pipeline.finish

    plain = kamerton.pipeline.finish.write_report

    def write_report(*arguments: Any, **options: Any) -> Path:
        os.kill(os.getpid(), signal.SIGTERM)
        return plain(*arguments, **options)

    monkeypatch.setattr(kamerton.pipeline.finish, "write_report", write_report)
    run = train("trainer.max_steps=1")
    assert record(run)["state"] == "succeeded"
    assert (run / "report.html").exists()


@pytest.mark.slow
def test_a_damaged_checkpoint_repeats_steps_with_the_same_result(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ["eval.strategy=steps", "eval.every=4", "save.strategy=steps", "save.every=2"]
    straight = train(*options, "run_id=straight")
    with monkeypatch.context() as patch:
        signal_in(patch, "training_step", 6, signal.SIGINT)
        stopped = train(*options, "run_id=stopped", code=130)
    last = stopped / "checkpoints" / "last.ckpt"
    last.write_bytes(last.read_bytes()[:-100])
    assert same_result(train(*options, "run_id=stopped"), straight)
    events = (stopped / "events.jsonl").read_text()
    assert f"{last} is damaged" in events
    assert "previous.ckpt" in events


def test_a_full_disk_is_reported_and_the_run_resumes_after_space_is_freed(
    train: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["save.strategy=steps", "save.every=3", "run_id=full"]
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))  # as much as a run needs before its checkpoints
    try:
        train(*options, code=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    output = capsys.readouterr().err
    assert "disk.full" in output
    assert "resume with run_id=full" in output
    assert "Traceback" not in output
    run = train(*options)
    assert record(run)["state"] == "succeeded"


@pytest.mark.slow
def test_resume_force_allows_another_configuration(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the step after the stop on, as if the run had had the new options all the time; warm-up is over by then."""
    options = ["run_id=x", "scheduler=constant", "scheduler.warmup_steps=2", "adapter.lr_ratio=4"]
    with monkeypatch.context() as patch:
        signal_in(patch, "training_step", 3, signal.SIGINT)
        train(*options, code=130)
    changed = ["optimizer.lr=1e-5", "optimizer.weight_decay=0.5", "optimizer.betas=[0.8,0.9]"]
    run = train(*options, *changed, "resume=force", "trainer.max_steps=6")
    assert "optimizer.weight_decay: 0.01 → 0.5" in (run / "events.jsonl").read_text()
    assert yaml.safe_load((run / "config.yaml").read_text())["optimizer"]["weight_decay"] == 0.5
    rates = {int(row["step"]): float(row["lr"]) for row in metric_rows(run) if row.get("lr")}
    assert rates == pytest.approx({1: 0, 2: 5e-4, 3: 1e-3, 4: 1e-3, 5: 1e-5, 6: 1e-5})
    (optimizer,) = part_of(run / "checkpoints" / "last.ckpt", "optimizer_states")
    groups = [(group["initial_lr"], group["weight_decay"], *group["betas"]) for group in optimizer["param_groups"]]
    assert groups == [(1e-5, 0.5, 0.8, 0.9), (4e-5, 0.5, 0.8, 0.9)]


@pytest.mark.slow
def test_a_run_that_was_moved_keeps_its_best_weights_and_only_force_changes_when_it_stops(
    train: Train, outputs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["run_id=x", "optimizer.lr=0.003", "eval.strategy=steps", "eval.every=1"]
    options += ["callbacks.early_stopping.patience=3", "trainer.max_steps=9"]
    options += ["+optimizer.maximize=true"]  # the loss rises at every step, whatever is rounded: the first is the best
    with monkeypatch.context() as patch:
        signal_in(patch, "training_step", 2, signal.SIGINT)
        train(*options, code=130)
    moved = outputs.with_name("moved")
    outputs.rename(moved)
    options += ["callbacks.early_stopping.patience=50", f"paths.outputs={moved}"]
    train(*options, code=2)
    assert "callbacks.early_stopping.patience=3, now it is 50" in capsys.readouterr().err
    train(*options, "resume=force")
    run = moved / "jsonl" / "x"
    assert record(run)["progress"]["step"] == 9
    best = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)["global_step"]
    assert best == record(run)["metrics"]["best"]["step"] == 1


@pytest.mark.slow
def test_a_resumed_run_releases_the_checkpoint_file(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    from kamerton.train.module import FineTuneModule

    options = ["run_id=x", "trainer.max_steps=4"]
    with monkeypatch.context() as patch:
        signal_in(patch, "training_step", 1, signal.SIGINT)
        train(*options, code=130)
    plain, held = FineTuneModule.training_step, []

    def look(self: FineTuneModule, batch: Any, batch_idx: int) -> None:
        held.append([line for line in Path("/proc/self/maps").read_text().splitlines() if ".ckpt" in line])
        plain(self, batch, batch_idx)

    monkeypatch.setattr(FineTuneModule, "training_step", look)
    train(*options)
    assert held == [[], []]


@pytest.mark.slow
def test_the_best_weights_are_scored_whatever_their_file_is_called(train: Train) -> None:
    options = ["eval.strategy=steps", "eval.every=1", "trainer.max_steps=6", "optimizer.lr=0.05"]
    options += ["callbacks.early_stopping=null", "scheduler=constant"]
    usual = train(*options)
    best, last = record(usual)["metrics"]["best"], record(usual)["metrics"]["validation"]
    assert best["step"] < last["step"]
    other = train(*options, "callbacks.checkpoint_best.filename=top")
    assert record(other)["metrics"]["test"] == record(usual)["metrics"]["test"]


def test_a_diverging_run_is_reported(train: Train, capsys: pytest.CaptureFixture[str]) -> None:
    run = train("optimizer.lr=1e30", "eval.strategy=steps", "eval.every=1", code=1)
    output = capsys.readouterr().err
    assert "the training diverged" in output
    assert "lower optimizer.lr" in output
    assert "Traceback" not in output
    assert record(run)["state"] == "failed"
    assert "NaN" not in (run / "run.json").read_text()


@pytest.mark.slow
def test_what_a_checkpoint_cannot_fill_is_refused_even_by_force(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        signal_in(patch, "training_step", 3, signal.SIGINT)
        stopped = train("run_id=x", code=130)
    before = (stopped / "config.yaml").read_text()
    for other in ("adapter.r=4", "adapter=full", "optimizer=sgd"):
        train("run_id=x", other, "resume=force", code=2)
    assert (stopped / "config.yaml").read_text() == before
    assert record(train("run_id=x"))["state"] == "succeeded"


@pytest.mark.slow
def test_killed_at_random_moments_a_run_still_ends_with_the_same_bits() -> None:
    """`make stress` kills 200 times."""
    script = Path(__file__).parents[2] / "scripts" / "chaos.py"
    done = subprocess.run([sys.executable, script, "--kills", "4"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 kills" in done.stdout


def test_resuming_with_another_configuration_or_other_data_is_refused(
    train: Train, animals: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        signal_in(patch, "training_step", 1, signal.SIGINT)
        train("run_id=x", code=130)
    train("run_id=x", "optimizer.lr=0.5", code=2)
    assert "run x was started with optimizer.lr=0.001, now it is 0.5" in capsys.readouterr().err
    animals.write_text(animals.read_text().replace("cat number 7", "lion number 7"))
    train("run_id=x", code=2)
    assert "was started with other data" in capsys.readouterr().err


@pytest.mark.slow
def test_a_multirun_leaves_one_directory_each(train: Train, outputs: Path) -> None:
    train("-m", "optimizer.lr=1e-3,1e-2", "seed=1,2", "trainer.max_steps=1")
    runs = [record(path.parent) for path in outputs.glob("*/*/run.json")]
    assert {run["state"] for run in runs} == {"succeeded"}
    assert len({run["run_id"] for run in runs}) == 4
    configurations = [
        yaml.safe_load((path.parent / "config.yaml").read_text()) for path in outputs.glob("*/*/run.json")
    ]
    pairs = {(config["seed"], config["optimizer"]["lr"]) for config in configurations}
    assert pairs == {(1, 1e-3), (1, 1e-2), (2, 1e-3), (2, 1e-2)}


def test_callbacks_are_removable_and_free_text_is_scored_by_loss(train: Train, animals: Path) -> None:
    removed = ["callbacks.early_stopping=null", "~callbacks.checkpoint_best"]
    run = train(*removed, "data.labels=null", "trainer.max_steps=2")
    assert not (run / "checkpoints" / "best.ckpt").exists()
    assert "accuracy" not in record(run)["metrics"]["test"]
    assert record(run)["metrics"]["test"]["perplexity"] > 1


def test_a_failing_run_records_its_error(train: Train, monkeypatch: pytest.MonkeyPatch, outputs: Path) -> None:
    import kamerton.run.model

    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("disk on fire")

    monkeypatch.setattr(kamerton.run.model, "load_model", broken)
    assert train("trainer.max_steps=1", code=1)
    (run,) = outputs.glob("*/*/run.json")
    assert json.loads(run.read_text())["state"] == "failed"
    assert json.loads(run.read_text())["error"] == {"code": "RuntimeError", "message": "disk on fire", "param": None}


def test_data_and_configuration_faults_are_reported_together_before_a_model_loads(
    train: Train, animals: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], outputs: Path
) -> None:
    import kamerton.run.model

    monkeypatch.setattr(kamerton.run.model, "load_model", lambda *_, **__: pytest.fail("a model was loaded"))
    with animals.open("a") as file:
        file.write('{"completion": "yes"}\n{"prompt": "x", "completion": 3}\n{"prompt": \n')
    train("optimizer.lr=-1", "batch.siz=3", "callbacks.early_stopping.patiense=3", code=2)
    output = capsys.readouterr().err
    for part in ("optimizer.lr is -1", "'batch.siz'", "'size'", "'patience'"):
        assert part in output, part
    for row in (121, 122, 123):
        assert f"animals.jsonl:{row}" in output
    assert not list(outputs.glob("*/*"))


@pytest.mark.slow
def test_how_the_model_was_loaded_does_not_change_the_run(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    import kamerton.run.model

    first = weights(train("trainer.max_steps=2"))
    plain = kamerton.run.model.load_model

    def load_after_drawing(*arguments: Any, **options: Any) -> Any:
        torch.rand(7)  # as converting a model does the first time
        return plain(*arguments, **options)

    monkeypatch.setattr(kamerton.run.model, "load_model", load_after_drawing)
    second = weights(train("trainer.max_steps=2"))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_rows_too_long_for_the_limit_are_listed_before_anything_is_made(
    train: Train, outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train("data.max_length=20", "batch.siz=3", code=2)
    output = capsys.readouterr().err
    assert "too-long" in output
    assert "did you mean 'size'?" in output
    assert not outputs.exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "options", [["ema_decay=0.5"], ["optimizer=schedule_free", "scheduler=constant"]], ids=["ema", "schedule-free"]
)
def test_averaged_weights_are_what_is_exported_and_scored(train: Train, options: list[str]) -> None:
    if "optimizer=schedule_free" in options:
        pytest.importorskip("schedulefree")
    run = train(*options, "optimizer.lr=0.01", "model.export=adapter")
    best = run / "checkpoints" / "best.ckpt"
    exported = load_file(run / "model" / "adapter_model.safetensors")
    for name, weight in exported.items():
        key = "model." + name.replace(".weight", ".default.weight")
        assert torch.equal(weight, part_of(best)[key])
        assert not torch.equal(weight, part_of(best, "state_dict")[key])
    validation, test = (record(run)["metrics"][split]["loss"] for split in ("validation", "test"))
    assert test == pytest.approx(validation, rel=0.2)


def test_a_plain_lora_of_the_base_is_exported_from_pissa(train: Train, capsys: pytest.CaptureFixture[str]) -> None:
    run = train("adapter.init=pissa", "adapter.r=4", "trainer.max_steps=4", "model.export=adapter")
    assert "a LoRA adapter; README.md there has the code to load it" in capsys.readouterr().out
    assert AutoPeftModelForCausalLM.from_pretrained(run / "model").peft_config["default"].r == 8  # by its folder alone
    assert json.loads((run / "model" / "adapter_config.json").read_text())["r"] == 8
    assert "pissa" not in (run / "model" / "adapter_config.json").read_text()


def test_parts_that_the_model_lacks_and_four_bits_without_a_gpu_are_faults_before_anything_is_made(
    train: Train, outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train("adapter=full", "adapter.freeze=[layers.7]", "batch.siz=3", code=2)
    train("adapter.targets=[q_prj]", code=2)
    train("adapter=qlora", "trainer.accelerator=cpu", code=2)
    output = capsys.readouterr().err
    for part in ("'layers.7'", "embed_tokens, layers.0-1, norm, lm_head", "'size'", "'q_prj'", "adapter=qlora needs"):
        assert part in output, part
    assert not outputs.exists()
