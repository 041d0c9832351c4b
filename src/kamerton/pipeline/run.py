"""One run, top to bottom: data → plan → model → fit → score → report.

Run it with `kamerton train`, `python scripts/train.py`, or from Python: `train(to_config(compose_values([...])))`.
Everything it learns is in the run directory when it returns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console

from kamerton.config.schema import Config
from kamerton.model.adapter import count_parameters
from kamerton.pipeline.finish import finish, score_base
from kamerton.pipeline.prepare import Ready, prepare, read_data
from kamerton.pipeline.session import Invocation, RunResult, Session, open_session, result_of
from kamerton.pipeline.shared_cache import SharedCache
from kamerton.pipeline.terminal import print_ending, print_result
from kamerton.pipeline.wandb import wandb_run
from kamerton.run.model import to_train
from kamerton.train.callbacks.pruning import Pruning
from kamerton.train.fit import fit_model


def train(
    config: Config,
    overrides: Sequence[str] = (),
    console: Console | None = None,
    unresolved: Mapping[str, Any] | None = None,
    shared_cache: SharedCache | None = None,
) -> RunResult:
    """Fine-tune as `config` says and write the run directory.

    `unresolved` are the configuration's values with `${oc.env:NAME}` where the environment gave one; files hold that
    text. What is in `shared_cache` from an earlier run of this process is not made again.
    Raises `UserError` for what the user must mend (nothing is trained then) and `Interrupted` when asked to stop
    (what was done is saved and the same run can be resumed).
    """
    with open_session(config, Invocation(overrides, console, unresolved, shared_cache)) as session:
        run_all(session)
    if session.run.writes:
        print_result(session.console, session.run)
    return result_of(session.run)


def run_all(session: Session) -> None:
    """Every step of a run whose directory is open."""
    ready = prepare(read_data(session), session)
    score_base(ready, session)
    with wandb_run(ready.config):
        tuned = fit(ready, session)
        finish(ready, tuned, session)


def fit(ready: Ready, session: Session, pruning: Pruning | None = None) -> Any:
    """Train the model, unless that was done before, and return it. `pruning` may end a trial early (`Cancelled`)."""
    config, run, stop, console = ready.config, session.run, session.stop, session.console
    tuned = to_train(config, ready.model)
    run.update(model={"name": short_name(config.model.name), **count_parameters(tuned)})
    if run.writes:  # the other ranks stop at a step, with all: one that left alone here would be waited for
        stop.check()
    run.set_state("running")
    fit_model(config, run, stop, ready.data, tuned, ready.steps, pruning, console)
    if run.writes:
        print_ending(console, run)
    return tuned


def short_name(name: str) -> str:
    """A model's name for people: the file's of a wheel address."""
    return name.partition("#")[0].rpartition("/")[2] if name.startswith("pypi://") else name
