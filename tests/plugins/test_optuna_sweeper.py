"""Whole sweeps of a small Hydra application, in this process."""

from __future__ import annotations

import csv
import json
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import hydra
import optuna
import pytest
import yaml
from hydra.core.plugins import Plugins
from hydra.core.singleton import Singleton

from hydra_plugins.kamerton import _study, _sweep
from hydra_plugins.kamerton._results import finished
from hydra_plugins.kamerton._space import SweepError
from hydra_plugins.kamerton._storage import has_password, masked
from hydra_plugins.kamerton.trial import current_trial
from kamerton.mask import MASK

Run = Callable[..., Any]
SAMPLERS = ("tpe", "random", "nsga2")
# So that few trials are enough for the sampler to learn from them.
EARLY = {"tpe": ["hydra.sweeper.sampler.n_startup_trials=3"]}
Module = Callable[[str, str], None]


def trials(end: Any) -> list[optuna.trial.FrozenTrial]:
    return optuna.load_study(study_name=end.study_name, storage=end.storage).trials


def free_port() -> int:
    with socket.socket() as item:
        item.bind(("127.0.0.1", 0))
        return int(item.getsockname()[1])


def notes(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_a_sweep_leaves_a_directory_for_each_trial_and_its_results(sweep: Run, tmp_path: Path) -> None:
    end = sweep("x=interval(-2,2)", "y=0,1", "hydra.sweeper.n_trials=6")
    assert end.outcomes == {"complete": 6}
    folders = sorted((tmp_path / "sweep/trials").iterdir())
    assert [folder.name for folder in folders] == [str(number) for number in range(6)]
    for number, trial in enumerate(trials(end)):
        began, ended = notes(tmp_path / f"sweep/trials/{number}")
        assert (began["begins"], ended["ends"]) == (number, number)
        assert (began["x"], began["y"]) == (trial.params["x"], trial.params["y"])
        assert trial.value == (trial.params["x"] - 1) ** 2 + trial.params["y"]
        assert trial.user_attrs["outcome"] == "complete"
    (best,) = end.best
    assert best.values[0] == min(trial.value for trial in trials(end))
    assert best.overrides == (f"x={best.params['x']!r}", f"y={best.params['y']}")
    rows = list(csv.DictReader((tmp_path / "sweep/trials.csv").open()))
    assert [float(row["value"]) for row in rows] == [trial.value for trial in trials(end)]
    summary = json.loads((tmp_path / "sweep/sweep.json").read_text())
    assert summary["best"][0]["number"] == best.number
    assert summary["space"] == {"x": "interval(-2.0,2.0)", "y": "choice(0,1)"}
    old = yaml.safe_load((tmp_path / "sweep/optimization_results.yaml").read_text())
    assert old == {"name": "optuna", "best_params": dict(best.params), "best_value": best.values[0]}
    assert yaml.safe_load((tmp_path / "sweep/multirun.yaml").read_text())["hydra"]["sweeper"]["n_trials"] == 6


def test_the_configuration_that_is_kept_has_no_secret(sweep: Run, tmp_path: Path) -> None:
    url = "postgresql://me:s3cr3t@host/db"
    typed = ("word={url:" + f"'{url}'" + "}", "+hub.token=s3cr3t", "+tokens='1e3'", "hydra.sweeper.n_trials=1")
    sweep("y=1,2", *typed, "+hydra.job.env_set.API_KEY=s3cr3t", f"+hydra.job.env_set.DB='{url}'")
    text = (tmp_path / "sweep/multirun.yaml").read_text()
    assert "s3cr3t" not in text
    kept = yaml.safe_load(text)
    assert kept["hub"] == {"token": MASK}
    assert kept["tokens"] == "1e3"
    assert kept["hydra"]["sweep"]["subdir"] == "trials/${hydra.job.num}"
    assert f"+hub.token={MASK}" in kept["hydra"]["overrides"]["task"]


@pytest.mark.slow
def test_the_same_command_runs_no_more_than_was_asked_for(sweep: Run, tmp_path: Path) -> None:
    command = ("x=interval(-2,2)", "hydra.sweeper.n_trials=3")
    first = [trial.params for trial in trials(sweep(*command))]
    assert [trial.params for trial in trials(sweep(*command))] == first
    more = trials(sweep("x=interval(-2,2)", "hydra.sweeper.n_trials=5"))
    assert [trial.params for trial in more[:3]] == first
    assert len(more) == 5
    assert all(len(notes(tmp_path / f"sweep/trials/{number}")) == 2 for number in range(5))


@pytest.mark.slow
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_sweep_in_two_parts_tries_what_one_in_a_single_part_tries(sweep: Run, sampler: str) -> None:
    options = ("x=interval(-2,2)", "y=range(0,5)", f"hydra/sweeper/sampler={sampler}", *EARLY.get(sampler, ()))
    whole = trials(sweep(*options, "hydra.sweeper.n_trials=8", "hydra.sweep.dir=whole"))
    sweep(*options, "hydra.sweeper.n_trials=4", "hydra.sweep.dir=parts")
    parts = trials(sweep(*options, "hydra.sweeper.n_trials=8", "hydra.sweep.dir=parts"))
    assert [trial.params for trial in parts] == [trial.params for trial in whole]


@pytest.mark.slow
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_rerunning_a_trial_does_not_change_later_trials(
    sweep: Run, app: Any, sampler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["x=interval(-2,2)", "y=range(0,5)", f"hydra/sweeper/sampler={sampler}", *EARLY.get(sampler, ())]
    options += ["hydra.sweeper.n_trials=8"]
    whole = trials(sweep(*options, "hydra.sweep.dir=whole"))
    stops = [2, 6]

    def job(cfg: Any) -> Any:
        trial = current_trial()
        assert trial is not None
        if trial.number in stops:
            stops.remove(trial.number)
            raise KeyboardInterrupt
        return app.work(cfg)

    main = hydra.main(version_base="1.3", config_path=str(Path(app.__file__).parent), config_name="app")(job)
    monkeypatch.setattr(app, "main", main)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            sweep(*options, "hydra.sweep.dir=parts")
    parts = [trial for trial in trials(sweep(*options, "hydra.sweep.dir=parts")) if trial.state.name == "COMPLETE"]
    assert [trial.params for trial in parts] == [trial.params for trial in whole]


def test_failed_diverged_and_pruned_trials_are_three_things_and_none_ends_the_sweep(sweep: Run) -> None:
    end = sweep(
        *("x=choice(-3,-2,-1,0,1,2,5,6)", "hydra/sweeper/sampler=grid", "hydra.sweeper.n_trials=8"),
        *("fails_at=-2", "nan_at=0", "prunes=true", "steps=3", "hydra.sweeper.pruner.n_startup_trials=2"),
    )
    states = {trial.params["x"]: trial.user_attrs["outcome"] for trial in trials(end)}
    assert states[-3] == "failed"
    assert {states[x] for x in (-2, -1)} <= {"diverged", "pruned"}
    assert {"diverged", "pruned", "failed", "complete"} == set(end.outcomes)
    assert sum(end.outcomes.values()) == 8
    (failed,) = [trial for trial in trials(end) if trial.params["x"] == -3]
    assert failed.user_attrs["error"].startswith("RuntimeError: x is -3; see postgresql://me:•••@host/db")


@pytest.mark.slow
def test_max_failures_stops_the_sweep_and_it_can_be_resumed(sweep: Run) -> None:
    options = ("x=interval(-2,2)", "hydra.sweeper.n_trials=6", "hydra.sweeper.max_failures=2")
    with pytest.raises(SweepError, match=r"(?s)2 trials failed.*RuntimeError.*fix: correct"):
        sweep(*options, "fails_at=9")
    with pytest.raises(SweepError, match="2 trials failed"):
        sweep(*options, "fails_at=9")
    with pytest.raises(SweepError, match="2 trials failed"):
        sweep(*options, "fails_at=9")
    with pytest.raises(SweepError, match=r"no trial of sweep-\w+ completed \(6 failed\)"):
        sweep(*options, "fails_at=9")


@pytest.mark.slow
def test_a_sweep_all_of_whose_trials_failed_has_failed(app: Any, tmp_path: Path) -> None:
    options = ["x=interval(-2,2)", "hydra.sweeper.n_trials=2", "hydra.sweeper.study_name=s", "fails_at=9"]
    for _ in range(2):  # the second time nothing is left to run
        command = [sys.executable, app.__file__, "-m", "hydra/sweeper=optuna", *options]
        done = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True)
        assert done.returncode == 1
        assert "no trial of s completed (2 failed)\n  trial 0: RuntimeError: x is" in done.stderr
        assert json.loads((tmp_path / "sweep/sweep.json").read_text())["outcomes"] == {"failed": 2}


@pytest.mark.slow
def test_changed_trial_settings_are_reported(sweep: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A configuration file has changed between two calls; what was typed has not."""
    folder = tmp_path / "mine"
    folder.mkdir()
    ours = [f"hydra.searchpath=[file://{folder}]", "+ours=a", "x=interval(0,1)", "hydra.sweeper.study_name=s"]
    for number, word in ((1, "one"), (2, "one"), (3, "two")):
        (folder / "ours").mkdir(exist_ok=True)
        (folder / "ours" / "a.yaml").write_text(f"# @package _global_\nword: {word}\n")
        sweep(*ours, f"hydra.sweeper.n_trials={number}")
        output = capsys.readouterr().out
        assert ("word was one, is two" in output) == (number == 3)
        assert ("has changed since this study began" in output) == (number == 3)


def test_another_space_or_direction_is_refused_with_the_difference(sweep: Run) -> None:
    named = "hydra.sweeper.study_name=mine"
    sweep("x=interval(-2,2)", "hydra.sweeper.n_trials=1", named)
    with pytest.raises(SweepError, match=r"(?s)x was interval\(-2.0,2.0\), is interval\(-2.0,3.0\).*fix"):
        sweep("x=interval(-2,3)", "hydra.sweeper.n_trials=1", named)
    with pytest.raises(SweepError, match="y was not in the space, is choice"):
        sweep("x=interval(-2,2)", "y=1,2", "hydra.sweeper.n_trials=1", named)
    with pytest.raises(SweepError, match="direction was minimize, is maximize"):
        sweep("x=interval(-2,2)", "hydra.sweeper.n_trials=1", named, "hydra.sweeper.direction=maximize")


@pytest.mark.slow
def test_several_directions_give_a_front(sweep: Run, tmp_path: Path) -> None:
    end = sweep(
        *("x=interval(-2,2)", "y=range(0,4)", "two=true", "hydra.sweeper.n_trials=12"),
        *("hydra.sweeper.direction=[minimize,maximize]", "hydra/sweeper/sampler=random"),
    )
    values = [trial.values for trial in trials(end)]
    front = [item for item in values if not any(o[0] <= item[0] and o[1] >= item[1] and o != item for o in values)]
    assert sorted(best.values for best in end.best) == sorted(map(tuple, front))
    kept = yaml.safe_load((tmp_path / "sweep/optimization_results.yaml").read_text())["solutions"]
    assert len(kept) == len(front)


@pytest.mark.slow
def test_enqueued_parameters_run_first(sweep: Run) -> None:
    first = sweep("x=interval(-2,2)", "y=1,2", "hydra.sweeper.n_trials=4", "hydra.sweep.dir=first")
    options = "hydra.sweeper.enqueue=[{x:0.5,y:2},{y:1},first]"
    for _ in range(2):
        end = sweep("x=interval(-2,2)", "y=1,2", "hydra.sweeper.n_trials=5", "hydra.sweep.dir=second", options)
        tried = [trial.params for trial in trials(end)]
        assert len(tried) == 5
        assert tried[0] == {"x": 0.5, "y": 2}
        assert tried[1]["y"] == 1
        assert tried[2] == dict(first.best[0].params)
    with pytest.raises(SweepError, match="x=7 is outside of its space"):
        sweep("x=interval(-2,2)", "y=1,2", "hydra.sweep.dir=third", "hydra.sweeper.enqueue=[{x:7}]")


@pytest.mark.slow
def test_choices_of_every_kind_reach_the_job(sweep: Run, tmp_path: Path) -> None:
    end = sweep("word=1,'1',true,null,'a,b',[c,'d e'],\"it's\"", "hydra/sweeper/sampler=grid")
    seen = [notes(folder)[0]["word"] for folder in (tmp_path / "sweep/trials").iterdir()]
    assert end.outcomes == {"complete": 7}
    assert sorted(map(repr, seen)) == sorted(map(repr, [1, "1", True, None, "a,b", "['c', 'd e']", "it's"]))


def test_an_invalid_override_is_reported_before_any_job(sweep: Run, tmp_path: Path) -> None:
    with pytest.raises(Exception, match="zzz"):
        sweep("zzz=1,2")
    assert not (tmp_path / "sweep").exists()


@pytest.mark.slow
def test_a_function_may_suggest_what_depends_on_another_choice(sweep: Run, module: Module, tmp_path: Path) -> None:
    module(
        "plugin_space",
        "def suggest(cfg, trial):\n"
        "    if trial.params['y'] == 1 and cfg.steps == 0:\n"
        "        trial.suggest_float('x', 3, 4)\n",
    )
    end = sweep("y=1,2", "hydra.sweeper.n_trials=6", "hydra.sweeper.custom_search_space=plugin_space.suggest")
    for trial in trials(end):
        began = notes(tmp_path / f"sweep/trials/{trial.number}")[0]
        assert ("x" in trial.params) == (began["y"] == 1)
        assert began["x"] == trial.params.get("x", 0.0)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("nowhere.space", "No module named 'nowhere'"),
        ("broken_space.space", "ZeroDivisionError"),
        ("json.nothing", "has no attribute 'nothing'"),
        ("json.__doc__", "a str, not a callable"),
    ],
)
def test_an_unusable_space_function_is_reported_before_anything_is_written(
    sweep: Run, module: Module, tmp_path: Path, name: str, reason: str
) -> None:
    module("broken_space", "1 / 0\n")
    with pytest.raises(SweepError, match=rf"(?s)custom_search_space={name} cannot be used: .*{reason}.*fix: name"):
        sweep("y=1,2", f"hydra.sweeper.custom_search_space={name}")
    assert not (tmp_path / "sweep").exists()


def test_an_unknown_key_is_refused(sweep: Run, tmp_path: Path) -> None:
    """Hydra itself advises to write `+` before a key that it does not know."""
    with pytest.raises(SweepError, match=r"(?s)unknown key hydra.sweeper.n_trails\n.*did you mean 'n_trials'"):
        sweep("y=1,2", "+hydra.sweeper.n_trails=3")
    assert not (tmp_path / "sweep").exists()


@pytest.mark.parametrize("times", [(15, 15), (15, 10), (0, 60)])
def test_heartbeat_times_that_would_fail_running_trials_are_refused(sweep: Run, times: tuple[int, int]) -> None:
    options = (f"hydra.sweeper.heartbeat_interval={times[0]}", f"hydra.sweeper.grace_period={times[1]}")
    with pytest.raises(SweepError, match=rf"(?s)grace_period is {times[1]}, heartbeat_interval {times[0]}: .*fix"):
        sweep("y=1,2", *options)


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["gp", "cmaes", "qmc", "nsga3"])
def test_every_sampler_can_be_chosen(sweep: Run, sampler: str) -> None:
    options = (f"hydra/sweeper/sampler={sampler}", "hydra.sweeper.n_trials=4", "x=interval(-2,2)", "y=interval(0,1)")
    end = sweep(*options)
    assert end.outcomes == {"complete": 4}
    assert len({trial.params["x"] for trial in trials(end)}) == 4


@pytest.mark.slow
@pytest.mark.parametrize("pruner", ["hyperband", "asha", "patient", "percentile", "wilcoxon", "none"])
def test_every_pruner_can_be_chosen(sweep: Run, pruner: str) -> None:
    options = (f"hydra/sweeper/pruner={pruner}", "hydra.sweeper.n_trials=3", "steps=3", "prunes=true")
    end = sweep(*options, "x=interval(-2,2)")
    assert sum(end.outcomes.values()) == 3
    assert set(end.outcomes) <= ({"complete"} if pruner == "none" else {"complete", "pruned"})


@pytest.mark.slow
def test_every_point_of_a_grid_runs_once(sweep: Run) -> None:
    options = ("x=range(0,0.3,0.1)", "y=1,2", "hydra/sweeper/sampler=grid", "hydra.sweeper.n_trials=null")
    for _ in range(2):
        points = sorted(tuple(trial.params.values()) for trial in trials(sweep(*options)))
        assert points == [(x, y) for x in (0.0, 0.1, 0.2) for y in (1, 2)]


@pytest.mark.slow
def test_a_truncated_grid_is_reported_before_it_starts(sweep: Run, capsys: pytest.CaptureFixture[str]) -> None:
    grid = ("x=range(0,5)", "hydra/sweeper/sampler=grid")
    assert sweep(*grid, "hydra.sweeper.n_trials=2").outcomes == {"complete": 2}
    warning, first = capsys.readouterr().out.splitlines()[:2]
    assert warning == "warning: 2 of 5 points of the grid; hydra.sweeper.n_trials=null tries all"
    assert first.startswith("trial 0/2")
    assert sweep(*grid).outcomes == {"complete": 5}
    assert "warning" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("url", "secret"),
    [
        ("postgresql://me:s3/cr3t@host/db", True),
        ("postgresql://me:s3cr@3t@host/db", True),
        ("postgresql://host/db?password=s3cr3t", True),
        ("postgresql://me@host:5432/db", False),
        ("sqlite:///a/study.db", False),
        ("grpc://localhost:13000", False),
        ("grpc://localhost:port", False),
    ],
)
def test_a_storage_with_a_password_is_known(url: str, secret: bool) -> None:
    assert has_password(url) == secret
    assert (masked(url) != url) == secret
    assert not re.search("s3|cr3t|3t", masked(url))


@pytest.mark.slow
@pytest.mark.parametrize("storage", ["journal://{folder}/log", "grpc://127.0.0.1:{port}"])
def test_a_study_in_a_journal_file_or_behind_a_proxy(sweep: Run, tmp_path: Path, storage: str) -> None:
    backend = optuna.storages.InMemoryStorage()
    port = free_port()
    server = optuna.storages._grpc.server.make_server(backend, "127.0.0.1", port)
    server.start()
    try:
        url = storage.format(folder=tmp_path, port=port)
        for total in (2, 3):
            end = sweep("x=interval(-2,2)", f"hydra.sweeper.storage='{url}'", f"hydra.sweeper.n_trials={total}")
            assert end.outcomes == {"complete": total}
    finally:
        server.stop(None)


@pytest.mark.parametrize(
    ("url", "check"),
    [
        ("postgresql://me:s3cr3t@127.0.0.1:{port}/db", "the server runs and can be reached"),
        ("grpc://127.0.0.1:{port}", "the proxy"),
        ("grpc://127.0.0.1:port", "grpc://host:port"),
        ("sqlite:///{folder}/file/study.db", "{folder}/file is a folder"),
        ("sqlite:///{folder}/file", "restore a copy of {folder}/file"),
        ("journal://{folder}/file/log", "{folder}/file is a folder"),
        ("elsewhere", "postgresql://"),
    ],
)
def test_an_unusable_storage_is_reported_with_its_fix(
    sweep: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str, check: str
) -> None:
    if url.startswith("postgresql"):
        pytest.importorskip("psycopg", reason="pip install 'kamerton[postgres]'")
    monkeypatch.setattr("hydra_plugins.kamerton._storage._PROXY_WAIT", 0.2)
    (tmp_path / "file").write_text("no database, and no folder\n" * 100)
    with socket.socket() as port:  # bound, but it does not listen: nothing answers there
        port.bind(("127.0.0.1", 0))
        place = {"folder": tmp_path, "port": port.getsockname()[1]}
        address = url.format(**place)
        with pytest.raises(SweepError) as raised:
            sweep("x=1,2", f"hydra.sweeper.storage='{address}'")
    message, _, fix = str(raised.value).partition("\n  fix: ")
    assert f"the storage {address.replace('s3cr3t', MASK)} cannot be opened: " in message
    assert check.format(**place) in fix
    assert "s3cr3t" not in str(raised.value)
    assert not (tmp_path / "sweep").exists()


def test_an_error_may_say_that_the_job_diverged(sweep: Run, app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    marks = [{"outcome": "diverged"}, {"code": "train.diverged"}, {"fault": SimpleNamespace(code="train.diverged")}]

    def job(cfg: Any) -> float:
        error = RuntimeError("loss is not finite")
        trial = current_trial()
        assert trial is not None
        if cfg.y < len(marks):
            error.__dict__.update(marks[cfg.y])
        elif cfg.y == len(marks):
            trial.set_user_attr("outcome", "diverged")
        raise error

    main = hydra.main(version_base="1.3", config_path=str(Path(app.__file__).parent), config_name="app")(job)
    monkeypatch.setattr(app, "main", main)
    end = sweep("y=range(0,5)", "hydra/sweeper/sampler=grid")
    assert {trial.params["y"]: trial.user_attrs["outcome"] for trial in trials(end)} == {
        **dict.fromkeys(range(4), "diverged"),
        4: "failed",
    }


def test_several_trials_at_a_time_need_processes(sweep: Run) -> None:
    with pytest.raises(SweepError, match=r"(?s)n_jobs=2.*hydra/launcher=process"):
        sweep("x=interval(-2,2)", "hydra.sweeper.n_jobs=2")


def test_several_trials_at_a_time_need_processes_also_after_plugins_were_scanned_again(
    sweep: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Singleton, "_instances", dict(Singleton._instances))
    del Singleton._instances[Plugins]  # what its next use scans again: launchers become new classes
    with pytest.raises(SweepError, match=r"(?s)n_jobs=2.*hydra/launcher=process"):
        sweep("x=interval(-2,2)", "hydra.sweeper.n_jobs=2")


def test_a_sweep_without_a_space_is_a_fault_with_an_example(sweep: Run) -> None:
    with pytest.raises(SweepError, match="nothing is varied"):
        sweep("x=1")


def test_a_non_numeric_result_fails_the_trial(sweep: Run) -> None:
    with pytest.raises(SweepError, match="no trial"):
        sweep("x=interval(-2,2)", "hydra.sweeper.n_trials=1", "hydra.sweeper.direction=[minimize,minimize]")
    end = finished[-1]
    assert end.outcomes == {"failed": 1}
    assert "the job returned 1 values, but hydra.sweeper.direction has 2" in trials(end)[0].user_attrs["error"]


def test_the_time_of_a_worker_can_be_bounded(sweep: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (
        _sweep,
        _study,
    ):  # the first trial starts in time even on a slow machine; Optuna's clock is unchanged
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: 0.0, sleep=time.sleep))
    end = sweep("x=interval(-2,2)", "hydra.sweeper.n_trials=null", "hydra.sweeper.timeout=1")
    assert end.outcomes["complete"] >= 1


def test_on_a_terminal_a_table_shows_every_trial(
    sweep: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for key, value in {"FORCE_COLOR": "1", "COLUMNS": "110", "TERM": "xterm"}.items():
        monkeypatch.setenv(key, value)
    sweep("x=choice(0,1,5)", "word=choice('a[b]')", "hydra/sweeper/sampler=grid", "hydra.sweeper.n_trials=3")
    shown = capsys.readouterr().out
    assert "3 of 3 done, 3 complete" in shown
    assert "a[b]" in shown
    assert "its overrides" in shown


def test_hydras_own_multirun_is_unchanged(app: Any, tmp_path: Path) -> None:
    command = [sys.executable, app.__file__, "-m", "x=1,2", "y=range(0,2)"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    seen = [notes(tmp_path / f"sweep/trials/{number}")[0] for number in range(4)]
    assert [(item["x"], item["y"], item["begins"]) for item in seen] == [
        *((1, 0, None), (1, 1, None), (2, 0, None), (2, 1, None))
    ]
