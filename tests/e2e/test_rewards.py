"""`kamerton train objective=grpo` on the tiny model: killed, resumed, divided over processes, in folds and sweeps."""

from __future__ import annotations

import csv
import json
import os
import signal
from pathlib import Path

import pytest

from support.resuming import same_result, signal_in
from support.rows import write_jsonl
from support.runs import LEAN, Train, metric_rows, record, trainer, weights
from support.warm import Starter

WORDS = (
    *(word for word in LEAN if not word.startswith("batch.size")),
    *("objective=grpo", "objective.samples=3", "objective.max_new_tokens=6", "objective.updates=2", "batch.size=3"),
    *("reward=length", "reward.length.most=4", "reward.length.unit=characters", "optimizer.lr=1e-2"),
    *("trainer.max_steps=4", "trainer.accelerator=cpu", "save.strategy=steps", "save.every=1"),
    *("eval.strategy=steps", "eval.every=2", "eval.sample=3", "data.near_duplicates=null"),
)
KILLING = """
import os, signal, sys
from kamerton.cli import main
from kamerton.model import loss
from kamerton.pipeline import rollouts
from kamerton.train.module import FineTuneModule

owner, name = {
    "generation": (rollouts, "generate"),
    "reward": (rollouts, "grade"),
    "samples": (rollouts.RollOuts, "_rollout"),
    "update": (FineTuneModule, "_clip_and_step"),
}[os.environ["PLACE"]]
plain, left = getattr(owner, name), [int(os.environ["CALL"])]
loss.LOGITS = int(os.environ.get("LOGITS", loss.LOGITS))

def killing(*arguments, **options):
    left[0] -= os.environ.get("LOCAL_RANK", "0") == "0"
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
    return plain(*arguments, **options)

setattr(owner, name, killing)
main(sys.argv[1:])
"""
ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    rows = [{"prompt": f"{a} + {b} =", "level": a} for a in range(1, 6) for b in range(1, 6)]
    return write_jsonl(tmp_path / "prompts.jsonl", rows)


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    return tmp_path / "outputs"


@pytest.fixture
def train(prompts: Path, outputs: Path) -> Train:
    return trainer(prompts, outputs, *WORDS)


def words(prompts: Path, outputs: Path, *more: str) -> list[str]:
    return ["train", *WORDS, f"data.path={prompts}", f"paths.outputs={outputs}", *more]


def test_the_divergence_of_a_full_fine_tune_is_from_the_weights_before_training(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("adapter=full", "objective.kl_weight=0.5", "optimizer.lr=1e-3")
    straight = train(*options, "run_id=straight")
    kl = [float(row["train/kl"]) for row in metric_rows(straight) if row.get("train/kl")]
    assert kl[0] == 0
    assert min(kl[1:]) > 0
    with monkeypatch.context() as patch:
        signal_in(patch, "training_step", 2, signal.SIGTERM)
        stopped = train(*options, "run_id=stopped", code=130)
    train(*options, "run_id=stopped")
    assert same_result(stopped, straight)


@pytest.mark.slow
def test_a_run_killed_anywhere_goes_on_to_the_same_bits(
    train: Train, prompts: Path, outputs: Path, tmp_path: Path, warm: Starter
) -> None:
    straight = train("run_id=straight", "adapter=lora", "adapter.dropout=0.1")
    script = tmp_path / "killing.py"
    script.write_text(KILLING)
    # In the generation of the third step, between the grades of the second, after its samples were written, and before
    # the second update of the fourth.
    for place, call in (("generation", 3), ("reward", 13), ("samples", 2), ("update", 8)):
        own = ("adapter=lora", "adapter.dropout=0.1", f"run_id={place}")
        command = words(prompts, outputs, *own)
        environment = {**ONE_THREAD, "PLACE": place, "CALL": str(call)}
        warm.finish(str(script), *command, code=-signal.SIGKILL, env=environment)
        resumed = train(*own)
        assert record(resumed)["state"] == "succeeded"
        assert (resumed / "samples.jsonl").read_bytes() == (straight / "samples.jsonl").read_bytes(), place
        assert same_result(resumed, straight), place


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
@pytest.mark.parametrize("adapter", ["lora", "full"])
def test_two_processes_give_what_one_gives(
    train: Train, prompts: Path, outputs: Path, adapter: str, strategy: str, warm: Starter
) -> None:
    """With three prompts a step, so that the ranks have unequal numbers of them, and passes of a few completions."""
    own = (f"adapter={adapter}", "objective.kl_weight=0.1", "optimizer.lr=1e-3", "batch.max_tokens=60")
    one = train(*own, "run_id=one")
    two = words(prompts, outputs, *own, f"trainer={strategy}", "trainer.devices=2", "run_id=two")
    warm.finish("-m", "kamerton", *two, env=ONE_THREAD)
    assert_same(one.with_name("two"), one)


@pytest.mark.slow
def test_sharded_weights_with_a_rank_without_prompts(
    train: Train, prompts: Path, outputs: Path, tmp_path: Path, warm: Starter
) -> None:
    """One prompt a step, and logits computed in chunks; killed in the third step, and resumed."""
    script = tmp_path / "killing.py"
    script.write_text(KILLING)
    own = ("adapter=lora", "batch.size=1", "objective.kl_weight=0.1", "optimizer.lr=1e-3")
    own += ("objective.baseline=leave_one_out", "objective.standardise=false")
    one = train(*own, "run_id=one")
    sharded = (*own, "trainer=fsdp", "trainer.devices=2")
    for name, call, code in (("straight", -1, 0), ("killed", 6, -signal.SIGKILL), ("killed", -1, 0)):
        command = words(prompts, outputs, *sharded, f"run_id={name}")
        environment = {**ONE_THREAD, "PLACE": "update", "CALL": str(call), "LOGITS": "600"}
        warm.finish(str(script), *command, code=code, env=environment)
    straight, killed = one.with_name("straight"), one.with_name("killed")
    assert_same(straight, one)
    assert (killed / "samples.jsonl").read_bytes() == (straight / "samples.jsonl").read_bytes()
    assert same_result(killed, straight)


def assert_same(run: Path, reference: Path) -> None:
    """The same samples; weights and metrics up to rounding."""
    texts = [
        [{key: row[key] for key in ("step", "example_id", "number", "completion", "reward")} for row in rows]
        for rows in (map(json.loads, (each / "samples.jsonl").read_text().splitlines()) for each in (reference, run))
    ]
    assert texts[0] == texts[1]
    before, after = weights(reference), weights(run)
    assert before.keys() == after.keys()
    for name, weight in before.items():
        assert after[name].numpy() == pytest.approx(weight.numpy(), rel=1e-4, abs=1e-5), name
    for row, expected in zip(metric_rows(run), metric_rows(reference), strict=True):
        for name, value in expected.items():
            if value and name.startswith(("train/", "val/")) and "gap" not in name:
                assert float(row[name]) == pytest.approx(float(value), rel=1e-3, abs=2e-5), name


@pytest.mark.slow
def test_folds_and_sweeps_are_about_the_reward(train: Train, prompts: Path, outputs: Path, warm: Starter) -> None:
    run = train("cv.folds=2", "trainer.max_steps=2", "run_id=folds")
    folds = outputs / "jsonl" / "folds"
    assert run == folds
    metrics = record(folds)["metrics"]
    for name in ("out_of_fold", "mean", "best"):
        assert "reward" in metrics[name], name
    sweep = words(prompts, outputs, "sweep=lora", "sweep.objective=reward", "hydra.sweeper.direction=maximize")
    sweep += ["hydra.sweeper.n_trials=2", "hydra.sweeper.study_name=s", "trainer.max_steps=2", "launcher=null"]
    warm.finish("-m", "kamerton", *sweep)
    study = outputs / "jsonl" / "s"
    with (study / "trials.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 2
    rewards = [record(path)["metrics"]["best"]["reward"] for path in (study / "trials").iterdir()]
    assert json.loads((study / "sweep.json").read_text())["best"][0]["values"] == [max(rewards)]
