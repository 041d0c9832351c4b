"""One trial of a sweep: ordinary runs in the sweep's folder, never scored on the test split; returns their value.

A trial that was killed or interrupted resumes in the folder of its first number, from its checkpoint.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kamerton.config.schema import Config
from kamerton.config.sweep import direction
from kamerton.console import plain_console
from kamerton.errors import Cancelled, Fault, UserError
from kamerton.locks import lock_owner
from kamerton.pipeline.prepare import prepare, read_data
from kamerton.pipeline.run import fit
from kamerton.pipeline.session import Invocation, RunResult, open_session, result_of
from kamerton.pipeline.shared_cache import SharedCache
from kamerton.pipeline.wandb import log_result, wandb_run
from kamerton.run.directory import read_record, record_at
from kamerton.run.distributed import leave_group
from kamerton.run.graders import current_graders
from kamerton.run.opening import LOCK
from kamerton.run.record import Record
from kamerton.sweep.cleanup import delete_checkpoints
from kamerton.sweep.objective import excess, values, watched
from kamerton.sweep.trial_runs import TrialRun, for_a_trial, refuse_another, trial_runs
from kamerton.train.callbacks.pruning import PRUNED, Pruning, report

if TYPE_CHECKING:
    from optuna import Trial

TRIALS = "trials"
STEPS = "steps"  # the trial's attribute with its optimizer steps: done, and of its whole training
DATA = "data"  # the study's attribute with the fingerprints of the data that its first trial was trained with
GRADERS = "graders"  # the study's attribute with the fingerprint of the grader files of its first trial


def run_trial(
    config: Config,
    trial: Trial,
    sweep: Path,
    invocation: Invocation | None = None,
) -> list[float]:
    """Train what is not done of a trial of the sweep in the folder `sweep`; return the values of its objective.

    Its runs print nothing; they share a cache, as the trials before and after it do in one process.
    Raises `optuna.TrialPruned` if the study's pruner stopped it, `UserError` if the data or graders are not those
    of the trials before, and whatever `train` raises.
    """
    from optuna import TrialPruned

    from hydra_plugins.kamerton.trial import original_number

    directions = _directions(config, trial)
    _check_graders(config, trial)
    number = original_number(trial)
    facts = {"trial": {"study": trial.study.study_name, "number": number, "params": trial.params}}
    runs = trial_runs(for_a_trial(config), sweep / TRIALS, number)
    invocation = invocation or Invocation()
    cache = invocation.shared_cache or SharedCache()
    invocation = dataclasses.replace(invocation, console=plain_console(quiet=True), shared_cache=cache)
    try:
        records = _train_runs(runs, trial, config, facts, invocation)
    except Cancelled as error:
        raise TrialPruned(str(error)) from error
    finally:
        _note(trial, config, runs)
        # Of the trials before: the study does not have this one's end yet.
        delete_checkpoints(trial.study, sweep / TRIALS)
    objectives = values(config.sweep.objectives, records)
    for name, beyond in excess(config.sweep.constraints, directions, records).items():
        if name not in trial.constraints:
            trial.set_constraint(name, beyond)
    return objectives


def _directions(config: Config, trial: Trial) -> dict[str, str]:
    """Return the direction of each objective and constraint; raises `UserError` if the study has another one."""
    names = [*config.sweep.objectives, *config.sweep.constraints]
    directions = {name: direction(name, config.metrics, config.allow_targets) for name in names}
    right = [directions[name] for name in config.sweep.objectives]
    study_directions = [each.name.lower() for each in trial.study.directions]
    if study_directions != right:
        objectives = ",".join(config.sweep.objectives)
        message = f"hydra.sweeper.direction is {','.join(study_directions)}, but sweep.objective is {objectives}"
        written = right[0] if len(right) == 1 else f"[{','.join(right)}]"
        fix = f"set 'hydra.sweeper.direction={written}' and another hydra.sweeper.study_name"
        raise UserError([Fault("config.sweep", message, fix, column="hydra.sweeper.direction")])
    return directions


def _check_graders(config: Config, trial: Trial) -> None:
    """Raise `UserError` if the grader files are not those of the trials before; a searched reward may have others."""
    if any(key.startswith("reward") for key in trial.params):
        return
    graders = current_graders(dataclasses.asdict(config))
    if graders != trial.study.user_attrs.get(GRADERS, graders):
        message = "the grader is not that of the trials before: the content of its file has changed since"
        fix = "restore the file to continue, or begin a new sweep with another hydra.sweeper.study_name"
        raise UserError([Fault("sweep.grader-changed", message, fix, column="reward")])
    if graders is not None:
        trial.study.set_user_attr(GRADERS, graders)


def join_trial(config: Config, folder: Path, invocation: Invocation) -> None:
    """Train as another rank of the run in `folder`, in a process that Lightning started for it."""
    trial = record_at(folder).trial
    assert trial is not None  # rank 0 wrote it before it started this process
    several = bool(config.sweep.seeds or config.cv.folds)
    runs = trial_runs(for_a_trial(config), folder.parents[1 if several else 0], trial.number)
    own = next(run for run in runs if run.folder == folder)
    try:
        train_trial_run(own, invocation, pruning=None if several else _pruning(config))
    except Cancelled:
        return  # rank 0 reports it


def train_trial_run(
    run: TrialRun, invocation: Invocation, facts: Mapping[str, Any] | None = None, pruning: Pruning | None = None
) -> RunResult:
    """Train one run of a trial. It does not use the test split, exports nothing and has no report.

    `pruning` may end it early (`Cancelled`).
    """
    with open_session(run.config, invocation, run.home, facts, report=None) as session:
        inputs = read_data(session)
        if "validation" not in inputs.encoded:
            message = "there is no validation split, and trials are compared by it"
            fix = "give data.validation, or a second share in split.ratios"
            raise UserError([Fault("sweep.no-validation", message, fix, column="sweep.objective")])
        ready = prepare(inputs, session)
        with wandb_run(ready.config):
            fit(ready, session, pruning)
            log_result(ready.config, session.run)
        session.run.set_state("succeeded")
    return result_of(session.run)


def _train_runs(
    runs: Sequence[TrialRun],
    trial: Trial,
    config: Config,
    facts: Mapping[str, Any],
    invocation: Invocation,
) -> list[Record]:
    """Train a trial's runs and return their records. After each of several runs the trial may be pruned."""
    records: list[Record] = []
    metric = watched(config.sweep.objectives)
    before: list[dict[str, Any]]
    # A run whose record starts with the data's fingerprint is refused if the data have changed.
    fingerprints = trial.study.user_attrs.get(DATA, [])
    if len(fingerprints) != len(runs) or any(key.startswith(("data", "split")) for key in trial.params):
        before = [{} for _ in runs]
    else:
        before = [{"data": {"fingerprint": fingerprint}} for fingerprint in fingerprints]
    for step, (run, data) in enumerate(zip(runs, before, strict=True)):
        alone = len(runs) == 1
        pruning = _pruning(config, trial) if alone else None
        records.append(_record(run, invocation, {**facts, **data}, pruning))
        if metric and not alone:
            report(trial, values(config.sweep.objectives, records[-1:])[0], step)
            if step + 1 < len(runs) and trial.should_prune():
                message = f"pruned after run {step + 1} of {len(runs)}: unlikely to become the best trial"
                raise Cancelled(Fault(PRUNED, message, "hydra/sweeper/pruner=none trains every trial to its end"))
    return records


def _note(trial: Trial, config: Config, runs: Sequence[TrialRun]) -> None:
    """Record facts of a trial for the sweep's report: its optimizer steps, completed and planned."""
    records = [record_at(run.folder) for run in runs]
    completed = sum(record.progress.step or 0 for record in records)
    planned = [record.progress.steps for record in records if record.progress.steps is not None]
    fingerprints = [record.data.fingerprint for record in records]
    if all(fingerprints) and DATA not in trial.study.user_attrs:
        trial.study.set_user_attr(DATA, fingerprints)
    trial.set_user_attr("objective", config.sweep.objectives)
    if planned:
        trial.set_user_attr(STEPS, [completed, sum(planned) * len(runs) // len(planned)])


def _pruning(config: Config, trial: Trial | None = None) -> Pruning | None:
    metric = watched(config.sweep.objectives)
    return Pruning(trial, metric) if metric else None


def _record(run: TrialRun, invocation: Invocation, facts: Mapping[str, Any], pruning: Pruning | None) -> Record:
    """Train a run that is not done, and return its record; one that was done before is kept."""
    lock = run.folder / LOCK  # a process without heartbeats, which counts as dead, may still hold it
    if lock_owner(lock) is not None:
        text = f"trial {run.folder.name} is still at work in another process, which is waited for"
        plain_console(stderr=True).print(text, highlight=False, soft_wrap=True)
    while lock_owner(lock) is not None:
        time.sleep(1)
    record = read_record(run.folder)
    if record is not None:
        refuse_another(run, invocation.unresolved)
    record = record or Record()
    if record.state == "cancelled" and record.error is not None and record.error.code == PRUNED:
        raise Cancelled(Fault(PRUNED, record.error.message, ""))
    if record.state != "succeeded":
        try:
            train_trial_run(run, invocation, facts, pruning)
        except UserError as error:
            codes = [fault.code for fault in error.faults]
            if codes == ["run.grader-changed"]:
                fix = "restore the file to continue, or begin a new sweep with another hydra.sweeper.study_name"
                raise UserError([dataclasses.replace(error.faults[0], fix=fix)]) from error
            if codes != ["run.data-changed"]:
                raise
            message = (
                "the data are not those of the trials before: the files, or how they are split, have changed since"
            )
            fix = "restore the data to continue, or begin a new sweep with another hydra.sweeper.study_name"
            raise UserError([Fault("sweep.data-changed", message, fix, column="data")]) from error
        finally:
            leave_group()
    return record_at(run.folder)
