"""Many workers on one PostgreSQL: the total is exact, who is killed loses nothing, and no password is seen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from support import postgres
from support.workers import QUICK, Worker, await_that, ended, notes

TOTAL = 12

pytestmark = [pytest.mark.slow, pytest.mark.skipif(postgres.missing() is not None, reason=str(postgres.missing()))]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    pytest.importorskip("psycopg", reason="pip install 'kamerton[postgres]'")
    with postgres.server() as address:
        yield address


def test_four_workers_two_of_them_killed_run_each_trial_once(url: str, tmp_path: Path, worker: Worker) -> None:
    """Three have the URL from the environment, one has it typed."""
    gate = tmp_path / "gate"
    gate.touch()
    options = ("x=interval(-2,2)", "y=range(0,4)", "steps=1", "gate=gate", f"hydra.sweeper.n_trials={TOTAL}")
    options += ("hydra.sweeper.study_name=many", "++hydra.output_subdir=.hydra")
    named, typed = "hydra.sweeper.storage=${oc.env:STUDY}", f"hydra.sweeper.storage='{url}'"
    trials_folder = tmp_path / "sweep/trials"

    def begun() -> dict[int, str]:
        """The directories of the trials that have begun, by process."""
        folders = trials_folder.iterdir() if trials_folder.exists() else []
        return {note["pid"]: folder.name for folder in folders for note in notes(folder) if "begins" in note}

    with ExitStack() as stack:
        crew = [
            stack.enter_context(worker(tmp_path, *QUICK, *options, storage, STUDY=url))
            for storage in (named, named, typed, named)
        ]
        running = await_that(lambda: begun() if len(begun()) == len(crew) else None)
        dead = [int(running[process.pid]) for process in crew[:2]]
        for process in crew[:2]:
            process.kill()
        gate.unlink()
        outputs = [ended(process) for process in crew[2:]]

    trials = optuna.load_study(study_name="many", storage=url.replace("://", "+psycopg://")).trials
    fresh = [item for item in trials if "failed_trial" not in item.system_attrs and item.state != TrialState.WAITING]
    again = [item for item in trials if "failed_trial" in item.system_attrs and item.state != TrialState.WAITING]
    assert len(fresh) == TOTAL
    assert {item.number for item in trials if item.state == TrialState.FAIL} == set(dead)
    assert Counter(item.state for item in trials if item.state != TrialState.WAITING) == {
        TrialState.COMPLETE: TOTAL,
        TrialState.FAIL: 2,
    }
    assert {item.system_attrs["failed_trial"] for item in again} == set(dead)
    for item in again:
        assert item.params == trials[item.system_attrs["failed_trial"]].params
    assert {folder.name for folder in trials_folder.iterdir()} == {str(item.number) for item in fresh}
    for item in fresh:
        lines = Counter(key for note in notes(trials_folder / str(item.number)) for key in note if key != "pid")
        assert lines["ends"] == 1
        assert lines["begins"] == (2 if item.number in dead else 1)

    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(path.name == "hydra.yaml" for path in files)
    assert [path for path in files if postgres.PASSWORD in path.read_text(errors="replace")] == []
    assert all(postgres.PASSWORD not in output and "many: 12 trials (12 complete)" in output for output in outputs)


def test_a_refused_connection_is_reported_without_the_password(url: str, tmp_path: Path, worker: Worker) -> None:
    wrong = url.replace(postgres.PASSWORD, "not-the-password")
    with worker(tmp_path, "x=1,2", "hydra.sweeper.storage=${oc.env:STUDY}", STUDY=wrong) as process:
        output = ended(process, 1)
    assert "cannot be opened" in output
    assert "authentication failed" in output
    assert "not-the-password" not in output
