"""`kamerton train sweep=…` on the tiny model, from what is typed to what is there afterwards."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import shlex
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, NamedTuple

import optuna
import pytest

from kamerton.cli import main
from kamerton.errors import Fault, RunFailed
from kamerton.locks import acquire, lock_owner
from kamerton.sweep.report import write_sweep_report
from support import rows
from support.runs import LEAN, record
from support.warm import Starter

Sweep = Callable[..., Path]
Module = Callable[[str, str], None]
SMALL = ["sweep=default", *LEAN]
STUDY = ["hydra.sweeper.study_name=s", "hydra.sweeper.n_trials=2"]
LR = "optimizer.lr=tag(log, interval(1e-4, 1e-2))"
FIRST_GOOD = "hydra.sweeper.enqueue=[{optimizer.lr: 0.01}, {optimizer.lr: 0.0001}]"


@pytest.fixture
def words(animals: Path, tmp_path: Path) -> list[str]:
    """What is typed for a sweep of two trials."""
    return ["train", *SMALL, *STUDY, f"data.path={animals}", f"paths.outputs={tmp_path}/o"]


@pytest.fixture
def sweep(words: list[str], tmp_path: Path) -> Sweep:
    """Runs the command; returns the sweep's directory."""

    def run(*overrides: str, code: int = 0) -> Path:
        assert main([*words, *overrides]) == code
        return tmp_path / "o" / "jsonl" / "s"

    return run


class Whole(NamedTuple):
    """A finished sweep of three trials, its command, which takes more options, and what it printed."""

    run: Callable[..., int]
    path: Path
    output: str


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """Shared by tests that only read its trials, or add one."""
    folder = tmp_path_factory.mktemp("whole")
    data = rows.animals(folder / "animals.jsonl")
    options = [LR, "hydra.sweeper.n_trials=3", "base=true", "model.export=adapter"]
    words = ["train", *SMALL, *STUDY, f"data.path={data}", f"paths.outputs={folder}/o", *options]

    def run(*overrides: str) -> int:
        return main([*words, *overrides])

    with contextlib.redirect_stdout(io.StringIO()) as output:
        assert run() == 0
    return Whole(run, folder / "o" / "jsonl" / "s", output.getvalue())


def trials(sweep: Path) -> list[dict[str, str]]:
    """The rows of trials.csv."""
    with (sweep / "trials.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def best(sweep: Path) -> dict[str, Any]:
    return json.loads((sweep / "sweep.json").read_text())["best"][0]


def files(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Return every file except locks, because inspecting a run acquires its lock."""
    result = [path for path in folder.rglob("*") if path.is_file() and path.name != ".lock"]
    return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in result}


def scored(sweep: Path) -> list[str]:
    """The trials whose test split was scored."""
    return sorted(path.parent.parent.name for path in sweep.glob("trials/*/scores/test.parquet"))


def rerun(sweep: Path, number: int) -> dict[str, Any]:
    """The record of the run that the report's command makes; the run is deleted."""
    command = json.loads((sweep / "report.json").read_text())["commands"][number]
    assert main(shlex.split(command)[1:]) == 0
    (made,) = (path for path in sweep.parent.glob("r*/run.json"))
    content = json.loads(made.read_text())
    shutil.rmtree(made.parent)  # a comparison of the folder would take it for the trial that it repeats
    return content


def test_trials_are_runs_and_the_best_one_alone_meets_the_test_split(
    whole: Whole, capsys: pytest.CaptureFixture[str]
) -> None:
    result = whole.path
    records = [record(result / "trials" / str(number)) for number in range(3)]
    losses = [item["metrics"]["best"]["loss"] for item in records]
    winner = losses.index(min(losses))
    assert best(result)["values"] == [min(losses)]
    assert (best(result)["number"], scored(result)) == (winner, [str(winner)])
    assert {item["state"] for item in records} == {"succeeded"}
    assert [item["trial"]["number"] for item in records] == [0, 1, 2]
    assert {item["trial"]["study"] for item in records} == {"s"}
    assert len({item["trial"]["params"]["optimizer.lr"] for item in records}) == 3
    assert len({(item["seed"], item["data"]["fingerprint"]) for item in records}) == 1
    kept = [path.parent.name for path in result.glob("trials/*/checkpoints")]
    assert kept == [str(winner)]
    assert {"test", "base"} <= records[winner]["metrics"].keys()
    assert (result / "trials" / str(winner) / "model").exists()
    assert rerun(result, 0)["metrics"]["best"] == records[winner]["metrics"]["best"]
    assert "Test split" in whole.output

    capsys.readouterr()
    before = files(result / "trials")
    assert whole.run() == 0
    assert files(result / "trials") == before
    assert "Test split" not in capsys.readouterr().out

    assert whole.run("hydra.sweeper.n_trials=4") == 0
    assert sorted(path.name for path in (result / "trials").iterdir()) == ["0", "1", "2", "3"]
    again = files(result / "trials")
    assert {path: again[path] for path in before if f"/trials/{winner}/" not in path} == {
        path: item for path, item in before.items() if f"/trials/{winner}/" not in path
    }


@pytest.mark.slow
def test_a_hopeless_trial_is_pruned_and_the_sweep_goes_on(sweep: Sweep) -> None:
    result = sweep(
        LR, FIRST_GOOD, "hydra.sweeper.pruner.n_startup_trials=1", "hydra.sweeper.n_trials=3", "sweep.final=null"
    )
    assert [row["outcome"] for row in trials(result)][:2] == ["complete", "pruned"]
    assert len(trials(result)) == 3
    pruned = record(result / "trials" / "1")
    assert (pruned["state"], pruned["error"]["code"]) == ("cancelled", "pruned")
    assert pruned["progress"]["step"] < pruned["progress"]["steps"]


@pytest.mark.slow
def test_a_diverged_trial_does_not_fail_the_sweep(sweep: Sweep) -> None:
    tries = "hydra.sweeper.enqueue=[{optimizer.lr: 1e30}, {optimizer.lr: 0.01}]"
    result = sweep("optimizer.lr=tag(log, interval(1e-4, 1e30))", tries, "scheduler.warmup_steps=0")
    assert [row["outcome"] for row in trials(result)] == ["diverged", "complete"]
    assert record(result / "trials" / "0")["error"]["code"] == "train.diverged"
    assert scored(result) == ["1"]


@pytest.mark.slow
def test_another_space_is_refused(whole: Whole, capsys: pytest.CaptureFixture[str]) -> None:
    before = files(whole.path / "trials")
    assert whole.run("optimizer.lr=interval(0.1, 0.2)") == 2
    errors = capsys.readouterr().err
    assert "optimizer.lr was tag(log, interval(0.0001,0.01)), is interval(0.1,0.2)" in errors
    assert "study_name" in errors
    assert files(whole.path / "trials") == before


@pytest.mark.slow
@pytest.mark.parametrize("pruned", [False, True])
def test_runs_of_another_study_are_not_taken_over(
    sweep: Sweep, capsys: pytest.CaptureFixture[str], *, pruned: bool
) -> None:
    result = sweep(LR, "sweep.final=null", "hydra.sweeper.n_trials=1")
    (result / "study.db").unlink()
    if pruned:
        changed = {"state": "cancelled", "error": {"code": "pruned", "message": "pruned"}}
        (result / "trials" / "0" / "run.json").write_text(json.dumps(record(result / "trials" / "0") | changed))
    before = files(result / "trials")
    sweep("optimizer.lr=interval(0.1, 0.2)", "sweep.final=null", "hydra.sweeper.n_trials=1", code=1)
    assert [row["outcome"] for row in trials(result)] == ["failed"]
    assert "with another configuration (optimizer.lr: " in capsys.readouterr().err
    assert files(result / "trials") == before


@pytest.mark.slow
def test_failing_trials_end_the_sweep_when_there_are_too_many(sweep: Sweep, capsys: pytest.CaptureFixture[str]) -> None:
    result = sweep(LR, "split.ratios=[0.9,0.0,0.1]", "hydra.sweeper.max_failures=1", code=1)
    output = capsys.readouterr().err
    assert "there is no validation split" in output
    assert "max_failures" in output
    assert "Traceback" not in output
    assert f"see {result}/report.html" in output
    assert [row["outcome"] for row in json.loads((result / "report.json").read_text())["trials"]] == ["failed"]
    assert scored(result) == []
    assert "progress" not in record(result / "trials" / "0")  # nothing was trained first


@pytest.mark.slow
def test_the_best_trial_of_a_resumed_sweep_is_scored_at_its_end(sweep: Sweep, module: Module) -> None:
    module(
        "failing_once",
        "def space(cfg, trial):\n"
        "    if trial.number == 1:\n"
        "        raise ValueError('nowhere')\n"
        "    trial.suggest_float('optimizer.lr', 1e-4, 1e-2)\n",
    )
    options = ["hydra.sweeper.custom_search_space=failing_once.space", "hydra.sweeper.n_trials=3"]
    result = sweep(*options, "hydra.sweeper.max_failures=1", code=1)
    assert [row["outcome"] for row in trials(result)] == ["complete", "failed"]
    assert [item["number"] for item in json.loads((result / "report.json").read_text())["best"]] == [0]
    assert scored(result) == []
    sweep(*options, "hydra.sweeper.max_failures=1")
    assert [row["outcome"] for row in trials(result)] == ["complete", "failed", "complete"]
    assert scored(result) == [str(best(result)["number"])]


@pytest.mark.slow
def test_every_trial_is_trained_with_each_seed_and_their_mean_counts(sweep: Sweep) -> None:
    result = sweep(LR, FIRST_GOOD, "sweep.seeds=[1,2]")
    runs = [[record(result / "trials" / number / seed) for seed in ("1", "2")] for number in ("0", "1")]
    assert [[item["seed"] for item in each] for each in runs] == [[1, 2], [1, 2]]
    means = [sum(item["metrics"]["best"]["loss"] for item in each) / 2 for each in runs]
    assert [float(row["value"]) for row in trials(result)] == pytest.approx(means)
    assert sorted(result.glob("trials/*/*/scores/test.parquet")) == [
        result / "trials" / "0" / seed / "scores" / "test.parquet" for seed in ("1", "2")
    ]


@pytest.mark.slow
def test_an_unpromising_trial_is_pruned_between_its_seeds(sweep: Sweep) -> None:
    result = sweep(LR, FIRST_GOOD, "sweep.seeds=[1,2]", "hydra.sweeper.pruner.n_startup_trials=1", "sweep.final=null")
    assert [row["outcome"] for row in trials(result)] == ["complete", "pruned"]
    assert [path.name for path in (result / "trials" / "1").iterdir()] == ["1"]


@pytest.mark.slow
def test_folds_validate_in_turn_and_share_one_test_split(sweep: Sweep) -> None:
    result = sweep(LR, FIRST_GOOD, "cv.folds=3", "cv.stratify=label")
    runs = [record(result / "trials" / "0" / str(fold)) for fold in range(3)]
    losses = [item["metrics"]["best"]["loss"] for item in runs]
    assert float(trials(result)[0]["value"]) == pytest.approx(sum(losses) / 3)
    assert len({item["data"]["counts"]["test"] for item in runs}) == 1
    assert sum(item["data"]["counts"]["validation"] for item in runs) == 120 - runs[0]["data"]["counts"]["test"]
    ids = [_ids(result / "trials" / "0" / str(fold) / "scores" / "test.parquet") for fold in range(3)]
    assert ids[0] == ids[1] == ids[2]
    again = rerun(result, 1)
    assert (
        again["metrics"]["best"] == record(result / "trials" / str(best(result)["directory"]) / "1")["metrics"]["best"]
    )
    assert again["data"]["counts"]["test"] == runs[0]["data"]["counts"]["test"]


def _ids(path: Path) -> list[str]:
    import pyarrow.parquet as pq

    return pq.read_table(path)["example_id"].to_pylist()


@pytest.mark.slow
def test_the_command_of_the_best_trial_finds_the_users_own_files(sweep: Sweep, tmp_path: Path) -> None:
    own = tmp_path / "own" / "experiment" / "mine.yaml"
    own.parent.mkdir(parents=True)
    own.write_text("# @package _global_\nclip_norm: 0.5\n")
    result = sweep(
        LR, "experiment=mine", f"--config-dir={tmp_path}/own", "hydra.sweeper.n_trials=1", "sweep.final=null"
    )
    assert rerun(result, 0)["metrics"]["best"] == record(result / "trials" / "0")["metrics"]["best"]


@pytest.mark.slow
def test_an_error_in_the_best_trial_does_not_prevent_the_report(
    sweep: Sweep, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> None:
        raise RunFailed(Fault("run.disk", "the disk is full", "free some space"))

    item = (LR, "hydra.sweeper.n_trials=1")
    with monkeypatch.context() as patched:
        patched.setattr("kamerton.sweep.finish.score_winner", fail)
        result = sweep(*item, code=1)
    assert "the disk is full" in capsys.readouterr().err
    assert json.loads((result / "report.json").read_text())["commands"]

    (result / "report.json").unlink()
    shutil.rmtree(result / "trials")
    sweep(*item)
    assert "is not on this machine, so it was not scored; give" in capsys.readouterr().out
    assert (result / "report.json").exists()

    (result / "report.json").unlink()
    monkeypatch.setattr("kamerton.sweep.finish.trial_runs", fail)  # the commands that repeat it are unknown
    sweep(*item, code=1)
    assert json.loads((result / "report.json").read_text())["commands"] == []


@pytest.mark.slow
def test_the_best_trial_can_be_retrained(sweep: Sweep) -> None:
    result = sweep(LR, "sweep.final=retrain")
    number = str(best(result)["directory"])
    anew = record(result / "final" / number)
    assert scored(result) == []
    assert anew["state"] == "succeeded"
    assert anew["metrics"]["best"] == record(result / "trials" / number)["metrics"]["best"]
    before = files(result / "final")
    sweep(LR, "sweep.final=retrain")
    assert files(result / "final") == before


@pytest.mark.slow
def test_several_objectives_and_constraints(sweep: Sweep) -> None:
    result = sweep(
        *("adapter.r=choice(4,64)", "sweep.objective=[loss,parameters]", "hydra.sweeper.direction=[minimize,minimize]"),
        *("hydra.sweeper.enqueue=[{adapter.r: 4}, {adapter.r: 64}]", "hydra/sweeper/sampler=nsga2"),
    )
    small, large = (record(result / "trials" / number)["model"]["trainable_parameters"] for number in "01")
    assert small < large
    assert [float(row["value_1"]) for row in trials(result)] == [small, large]
    assert len(scored(result)) == 1


@pytest.mark.slow
def test_a_trial_beyond_its_bound_does_not_win(sweep: Sweep) -> None:
    tries = "hydra.sweeper.enqueue=[{adapter.r: 64, optimizer.lr: 0.01}, {adapter.r: 4, optimizer.lr: 0.0001}]"
    result = sweep("adapter.r=choice(4,64)", LR, tries, "sweep.constraints={parameters: 10000}")
    values = [float(row["value"]) for row in trials(result)]
    assert values[0] < values[1]
    assert (best(result)["number"], scored(result)) == (1, ["1"])


def test_compare_takes_a_sweep_for_its_best_trial(whole: Whole, tmp_path: Path) -> None:
    result = whole.path
    outputs = f"paths.outputs={tmp_path}/c"
    for entry in (str(result), f"{result.parent}/*"):
        assert main(["compare", f"runs=[{entry}]", "name=x", outputs]) == 0
        comparison = json.loads((tmp_path / "c" / "comparisons" / "x" / "comparison.json").read_text())
        runs = [run for side in comparison["sides"] for run in side["runs"]]
        assert str(result / "trials" / str(best(result)["number"])) in runs


@pytest.mark.slow
def test_a_killed_trial_resumes_to_the_same_result(words: list[str], tmp_path: Path, warm: Starter) -> None:
    typed = [*words, LR, "hydra.sweeper.n_trials=1", "sweep.final=null", "trainer.max_epochs=3"]
    typed += [
        "save.strategy=steps",
        "save.every=1",
        "hydra.sweeper.heartbeat_interval=1",
        "hydra.sweeper.grace_period=2",
    ]
    result = tmp_path / "o" / "jsonl" / "s"
    trial = result / "trials" / "0"
    with (tmp_path / "log").open("w") as log:
        process = warm(*typed, output=log)
        while not (trial / "checkpoints" / "previous.ckpt").exists():
            assert process.poll() is None, (tmp_path / "log").read_text()
            time.sleep(0.01)
        process.kill()
        process.wait()
    assert record(trial)["state"] == "running"
    assert main(typed) == 0
    assert main([*typed, f"paths.outputs={tmp_path}/whole"]) == 0
    whole = tmp_path / "whole" / "jsonl" / "s"
    assert [row["outcome"] for row in trials(result)] == ["killed", "complete"]
    assert best(result)["values"] == best(whole)["values"]
    assert _curve(trial) == _curve(whole / "trials" / "0")
    assert "resumed" in (trial / "events.jsonl").read_text()
    assert [path.name for path in (result / "trials").iterdir()] == ["0"]


@pytest.mark.slow
def test_two_workers_share_a_sweep_and_one_of_them_scores_the_best_trial(
    words: list[str], tmp_path: Path, warm: Starter
) -> None:
    with (tmp_path / "one").open("w") as first, (tmp_path / "two").open("w") as two:
        workers = [warm(*words, LR, "hydra.sweeper.n_trials=4", "threads=1", output=output) for output in (first, two)]
        codes = [worker.wait(600) for worker in workers]
    outputs = [(tmp_path / name).read_text() for name in ("one", "two")]
    assert codes == [0, 0], outputs
    result = tmp_path / "o" / "jsonl" / "s"
    assert [row["outcome"] for row in trials(result)] == ["complete"] * 4
    assert scored(result) == [str(best(result)["number"])]
    assert sum("Test split" in text for text in outputs) == 1, outputs


@pytest.mark.slow
def test_workers_that_end_together_write_the_report_one_after_the_other(
    sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = []

    def write(*arguments: Any) -> Path:
        held.append(lock_owner(tmp_path / "o" / "jsonl" / "s" / ".lock"))
        return write_sweep_report(*arguments)

    monkeypatch.setattr("kamerton.sweep.finish.write_sweep_report", write)
    result = sweep(LR, "hydra.sweeper.n_trials=1", "sweep.final=null")
    assert [item and item.pid for item in held] == [os.getpid()]
    assert lock_owner(result / ".lock") is None
    assert scored(result) == []  # sweep.final=null


@pytest.mark.slow
def test_what_a_worker_writes_is_what_the_study_is_when_its_turn_comes(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another worker's trial finishes while this one waits to write; it is better each time."""

    def hold_late(path: Path, *patience: float) -> IO[str] | None:
        lock = acquire(path, *patience)
        if path.parent.name == "s":
            study = optuna.load_study(study_name="s", storage=f"sqlite:///{path.parent}/study.db")
            first = study.trials[0]
            attributes = {"outcome": "complete", "objective": ["loss"]}
            study.add_trial(
                optuna.create_trial(
                    params={"optimizer.lr": 0.001 * len(study.trials)},
                    distributions=first.distributions,
                    value=first.values[0] / 2 ** len(study.trials),
                    user_attrs=attributes,
                )
            )
        return lock

    monkeypatch.setattr("kamerton.locks.acquire", hold_late)
    result = sweep(LR, "hydra.sweeper.n_trials=1", "sweep.final=null")
    assert best(result)["number"] == 1
    assert [row["number"] for row in trials(result)] == ["0", "1"]
    report = json.loads((result / "report.json").read_text())
    assert [item["number"] for item in report["best"]] == [2]
    assert report["headline"].startswith("Trial 2 is the best of 3 trials")
    assert "optimizer.lr=0.002" in report["commands"][0]


@pytest.mark.slow
def test_trials_are_not_trained_with_other_data_than_those_before(
    sweep: Sweep, animals: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep(LR, "hydra.sweeper.n_trials=1", "sweep.final=null")
    with animals.open("a") as file:
        file.write('{"prompt": "the cat number 1000", "completion": "yes"}\n')
    more = ["hydra.sweeper.n_trials=2", "hydra.sweeper.max_failures=1", "sweep.final=null"]
    result = sweep(LR, *more, code=1)
    assert "the data are not those of the trials before" in capsys.readouterr().err
    assert [row["outcome"] for row in trials(result)] == ["complete", "failed"]
    assert "progress" not in record(result / "trials" / "1")  # before its first step


@pytest.mark.slow
def test_a_running_trial_without_heartbeats_is_waited_for(
    sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "o" / "jsonl" / "s" / "trials" / "0"
    folder.mkdir(parents=True)
    lock = acquire(folder / ".lock")
    assert lock is not None
    monkeypatch.setattr(time, "sleep", lambda seconds: lock.close())
    result = sweep(LR, "hydra.sweeper.n_trials=1", "sweep.final=null")
    assert [row["outcome"] for row in trials(result)] == ["complete"]
    assert "trial 0 is still at work in another process" in capsys.readouterr().err


def _curve(folder: Path) -> list[tuple[str, str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return [(row["step"], row["train/loss"], row["val/loss"]) for row in csv.DictReader(file)]


@pytest.mark.slow
def test_a_function_can_define_a_conditional_space(sweep: Sweep, module: Module) -> None:
    module(
        "branching_space",
        "def space(cfg, trial):\n"
        "    if trial.suggest_categorical('adapter', ['lora', 'full']) == 'lora':\n"
        "        trial.suggest_int('adapter.r', 4, 64, log=True)\n"
        "    else:\n"
        "        trial.suggest_float('label_smoothing', 0.1, 0.2)\n",
    )
    tries = "hydra.sweeper.enqueue=[{adapter: lora}, {adapter: full}]"
    result = sweep("hydra.sweeper.custom_search_space=branching_space.space", tries, "sweep.final=null")
    params = [record(result / "trials" / number)["trial"]["params"] for number in "01"]
    assert [set(item) for item in params] == [{"adapter", "adapter.r"}, {"adapter", "label_smoothing"}]
    assert "adapter.r" in (result / "report.html").read_text()


@pytest.mark.slow
def test_all_ranks_of_a_trial_end_when_it_is_pruned(words: list[str], tmp_path: Path, warm: Starter) -> None:
    pruner = ["hydra.sweeper.pruner._target_=optuna.pruners.ThresholdPruner", "+hydra.sweeper.pruner.upper=0.0"]
    pruner += ["hydra/sweeper/pruner=none", "+hydra.sweeper.pruner.n_warmup_steps=2", "hydra.sweeper.n_trials=1"]
    devices = ["trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu", "threads=1"]
    warm.finish("-m", "kamerton", *words, LR, *pruner, *devices)
    result = tmp_path / "o" / "jsonl" / "s"
    (row,) = trials(result)
    assert row["outcome"] == "pruned"
    assert record(result / "trials" / "0")["error"]["message"].startswith("pruned at validation 2")


@pytest.mark.slow
def test_a_sweep_none_of_whose_trials_completed_has_failed(sweep: Sweep, capsys: pytest.CaptureFixture[str]) -> None:
    result = sweep("optimizer.lr=1e30,2e30", "clip_norm=null", "optimizer.weight_decay=0", code=1)
    assert {row["outcome"] for row in trials(result)} == {"diverged"}
    assert "no trial of s completed (2 diverged)" in capsys.readouterr().err
    assert (result / "report.html").exists()


def test_a_sweep_with_only_failed_trials_is_reported_once(
    sweep: Sweep, module: Module, capsys: pytest.CaptureFixture[str]
) -> None:
    module("no_space", "def space(cfg, trial):\n    raise ValueError('nowhere')\n")
    result = sweep("hydra.sweeper.custom_search_space=no_space.space", "hydra.sweeper.n_trials=2", code=1)
    output = capsys.readouterr().err
    assert output.count("no trial of s completed (2 failed); ValueError: nowhere") == 1
    assert output.count("no trial of s") == 1
    assert (result / "report.html").exists()
