"""Every fault of a sweep is reported before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from kamerton.config.faults import check_overrides
from kamerton.errors import Fault

LR = "optimizer.lr=tag(log, interval(1e-4, 1e-2))"


def faults(*overrides: str) -> list[Fault]:
    return check_overrides(["model=tiny", "data=jsonl", "data.path=x", *overrides])


@pytest.mark.parametrize("name", ["lr_batch", "lora", "full", "preference"])
def test_the_sweeps_that_come_along_have_no_fault(name: str) -> None:
    assert faults(f"sweep={name}") == []


def test_a_sweep_may_be_typed_and_needs_no_m() -> None:
    assert faults("sweep=default", LR, "batch.size=8,16", "adapter=choice(lora,full)") == []


@pytest.mark.parametrize(
    ("override", "column", "part"),
    [
        ("optimizer.lr=interval(-1, 1)", "optimizer.lr", "must be a positive number"),
        ("batch.size=choice(8, 0)", "batch.size", "greater than 0"),
        ("adapter.dropout=interval(0, 1)", "adapter.dropout", "less than 1"),
        ("adapter.rr=choice(8, 16)", "adapter.rr", "unknown configuration key"),
        ("adapter=choice(lora, lorra)", "adapter", "no option 'lorra'"),
        ("batch.size=int(interval(0, 8))", "batch.size", "greater than 0"),
        ("seed=range(1, 4)", "seed", "sweep.seeds"),
        ("data.path=choice(a, b)", "data.path", "other examples"),
        ("run_id=mine", "run_id", "named by their trials"),
        ("hydra.sweeper.n_trials=0", "hydra.sweeper.n_trials", "above 0"),
        ("hydra.sweeper.study_name=../up", "hydra.sweeper.study_name", "write hydra.sweeper.study_name=up"),
        ("sweep.objective=token_accuracy", "hydra.sweeper.direction", "direction=maximize"),
        ("sweep.objective=[loss,seconds]", "hydra.sweeper.direction", "[minimize,minimize]"),
        ("sweep.objective=accuracy", "sweep.objective", "set eval.score=labels"),
        ("sweep.objective=rougeL", "sweep.objective", "set eval.score=generate"),
        ("sweep.objective=acuracy", "sweep.objective", "accuracy"),
        ("sweep.objective=preference_accuracy", "sweep.objective", "choose objective=dpo"),
        ("sweep.constraints={f1: 0.5}", "sweep.constraints", "set eval.score=labels"),
        ("sweep.seeds=[1,1]", "sweep.seeds", "each seed once"),
        ("sweep.constraints={second: 3}", "sweep.constraints.second", "seconds"),
        ("hydra.sweeper.sampler._target_=os.system", "hydra.sweeper.sampler._target_", "may not be used"),
        (
            "hydra.sweeper.sampler._target_=optuna.samplers.os.System",
            "hydra.sweeper.sampler._target_",
            "may not be used",
        ),
    ],
)
def test_a_fault_of_a_sweep_names_its_key(override: str, column: str, part: str) -> None:
    result = faults("sweep=default", LR, override)
    assert [fault.column for fault in result if fault.column == column], result
    assert any(part in str(fault) for fault in result), result


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_a_scored_objective_has_its_direction(direction: str) -> None:
    options = ("sweep.objective=f1", "eval.score=labels", f"hydra.sweeper.direction={direction}")
    columns = [fault.column for fault in faults("sweep=default", LR, *options)]
    assert columns == ([] if direction == "maximize" else ["hydra.sweeper.direction"])


@pytest.mark.parametrize(
    ("typed", "key", "fix"),
    [
        ("hydra.sweeper.n_trails=3", "hydra.sweeper.n_trails", "did you mean 'n_trials'?"),
        ("hydra.sweeper.param.x=3", "hydra.sweeper.param", "did you mean 'params'?"),
        (
            "hydra.sweeper.sampler.n_startup_trails=3",
            "hydra.sweeper.sampler.n_startup_trails",
            "did you mean 'n_startup_trials'?; a new one is added with +hydra.sweeper.sampler.n_startup_trails=…",
        ),
    ],
)
def test_a_misspelt_key_of_the_sweeper_names_the_nearest_one(typed: str, key: str, fix: str) -> None:
    (fault,) = faults("sweep=lr_batch", typed)
    assert (fault.code, fault.file, fault.column) == ("config.key", "command line", key)
    assert fault.fix == fix


def test_a_misspelt_key_of_the_sweeper_in_a_file_names_that_file(tmp_path: Path) -> None:
    (tmp_path / "sweep").mkdir()
    text = "# @package _global_\ndefaults: [default]\nhydra:\n  sweeper:\n    n_trails: 3\n"
    (tmp_path / "sweep" / "mine.yaml").write_text(text)
    (fault,) = check_overrides(["model=tiny", "data=jsonl", "data.path=x", "sweep=mine"], str(tmp_path))
    assert (fault.file, fault.column) == ("sweep/mine.yaml", "hydra.sweeper.n_trails")
    assert fault.fix == "did you mean 'n_trials'?"


def test_a_sweep_key_without_a_sweep_is_a_fault() -> None:
    (fault,) = faults("hydra.sweeper.n_trials=3")
    assert fault.fix.startswith("add sweep=lr_batch")


def test_all_faults_are_reported_together() -> None:
    result = faults(
        "sweep=lr_batch", "optimizer.lr=interval(0, 1)", "batch.size=choice(0,-1)", "seed=1,2", "data.pth=x"
    )
    assert {"optimizer.lr", "batch.size", "seed", "data.pth"} <= {fault.column for fault in result}


def test_both_ends_are_tried() -> None:
    (high,) = faults("sweep=default", "label_smoothing=interval(0, 1)")
    (low,) = faults("sweep=default", "label_smoothing=interval(-0.1, 0.5)")
    assert "1" in high.message
    assert "-0.1" in low.message


def test_a_fault_of_a_files_space_names_that_file(tmp_path: Path) -> None:
    (tmp_path / "sweep").mkdir()
    text = (
        "# @package _global_\ndefaults: [default]\nhydra:\n  sweeper:\n    params:\n      batch.size: choice(8, -8)\n"
    )
    (tmp_path / "sweep" / "mine.yaml").write_text(text)
    (fault,) = check_overrides(["model=tiny", "data=jsonl", "data.path=x", "sweep=mine"], str(tmp_path))
    assert (fault.file, fault.column) == ("sweep/mine.yaml", "batch.size")


def test_a_space_that_cannot_be_read_is_a_fault() -> None:
    (fault,) = faults("sweep=default", LR, "batch.size=interval(8, 4)")
    assert "interval" in fault.message


def test_settings_without_effect_are_reported() -> None:
    assert [fault.column for fault in faults("sweep.seeds=[1,2]")] == ["sweep.seeds"]
    assert [fault.column for fault in faults("sweep=default")] == ["hydra.sweeper.params"]
    assert [fault.column for fault in faults("hydra/sweeper=optuna", "hydra.mode=MULTIRUN", LR)] == ["sweep"]


def test_a_file_may_not_name_the_search_space_function(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    text = "# @package _global_\nhydra:\n  sweeper:\n    custom_search_space: os.system\n"
    (tmp_path / "experiment" / "mine.yaml").write_text(text)
    typed = ["model=tiny", "data=jsonl", "data.path=x", "sweep=default", "experiment=mine"]
    assert "config.trust" in {fault.code for fault in check_overrides(typed, str(tmp_path))}
    assert check_overrides([*typed, "hydra.sweeper.custom_search_space=mine.space"], str(tmp_path)) == []


def test_a_share_of_a_step_is_a_fault() -> None:
    assert [fault.column for fault in faults("eval.strategy=steps", "eval.every=0.5")] == ["eval.every"]
    assert [fault.column for fault in faults("eval.every=1.5")] == ["eval.every"]
    assert faults("eval.every=0.5") == faults("eval.every=2.0") == []
    for value in ("0", "-1", "1.5", "nan", "inf", "true", "often", "null", "[1]"):
        (fault,) = faults(f"eval.every={value}")
        assert fault.message.endswith(": must be a whole number of 1 or more, or a share between 0 and 1")


@pytest.mark.parametrize("objective", ["ipo", "apo", "kto"])
def test_the_sweep_of_preferences_takes_any_objective(objective: str) -> None:
    assert faults("sweep=preference", f"objective={objective}") == []
    (fault,) = faults("sweep=preference", f"objective={objective}", "sweep.objective=loss")
    assert (fault.column, fault.fix) == ("hydra.sweeper.direction", "set 'hydra.sweeper.direction=minimize'")
    assert faults("sweep=preference", "sweep.objective=loss", "hydra.sweeper.direction=minimize") == []


def test_trials_on_rewards_are_compared_by_the_reward() -> None:
    rewards = ["sweep=lr_batch", "objective=grpo", "reward=exact_match"]
    (fault,) = faults(*rewards)
    assert fault.column == "sweep.objective"
    assert faults(*rewards, *fault.fix.removeprefix("add ").split()) == []
