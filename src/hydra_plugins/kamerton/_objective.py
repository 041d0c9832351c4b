"""One trial: suggest its parameters, launch its job, record how it ended. A job's exception never stops the sweep."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from numbers import Real
from traceback import format_exception
from typing import Any

import optuna
from hydra.core.utils import JobReturn, JobStatus
from optuna import Trial, TrialPruned
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState
from rich.text import Text

from hydra_plugins.kamerton._space import Space, SweepError
from hydra_plugins.kamerton._storage import StorageLost, lost, masked
from hydra_plugins.kamerton._trial import running

_log = logging.getLogger(__name__)

Launch = Callable[[Trial, list[str]], JobReturn]
Suggest = Callable[[Trial], None]


class TakenOver(BaseException):
    """Another worker considered this trial dead and runs it again, so its end must not be reported to Optuna."""


class BadResult(Exception):  # noqa: N818 (it names what happened)
    """A job returned a value that cannot be an objective."""


def objective(
    space: Space, launch: Launch, suggest: Suggest | None, n_values: int
) -> Callable[[Trial], float | Sequence[float]]:
    """Return the function that Optuna calls with each trial. It sets the attribute `outcome`, and `error` if it failed.

    The outcome of a value that is not finite is `diverged`; Optuna counts such a trial as pruned, so that samplers
    avoid its parameters.
    """

    def run(trial: Trial) -> float | Sequence[float]:
        try:
            return _record_outcome(trial, lambda: _job(trial))
        except UpdateFinishedTrialError as error:
            raise TakenOver from error

    def _job(trial: Trial) -> list[float]:
        foreign = sorted(trial.params.keys() - space.dimensions.keys())  # added to the study by another program
        if suggest is None and foreign:
            raise SweepError(f"the study has a trial with {', '.join(foreign)}, which this sweep does not search over")
        for key, dimension in space.dimensions.items():
            trial._suggest(key, dimension.distribution)
        if suggest is not None:
            suggest(trial)
            if clash := space.fixed_keys & {key.lstrip("+") for key in trial.params}:
                raise SweepError(f"custom_search_space suggests {', '.join(sorted(clash))}, which is given a value")
        with running(trial):
            returned = launch(trial, [*space.fixed, *space.overrides(trial.params)])
        result: Any = returned._return_value
        if returned.status != JobStatus.COMPLETED:
            raise result
        values = list(result) if isinstance(result, list | tuple) else [result]
        if len(values) != n_values:
            raise BadResult(f"the job returned {len(values)} values, but hydra.sweeper.direction has {n_values}")
        return [_number(value) for value in values]

    return run


def _record_outcome(trial: Trial, run: Callable[[], list[float]]) -> float | Sequence[float]:
    """Return the values of `run`, after the trial's outcome has been recorded."""
    try:
        values = run()
    except UpdateFinishedTrialError:
        raise
    except Exception as error:
        if lost(error):
            raise StorageLost from error
        outcome = _outcome(trial, error)
        if outcome == "failed":
            if _log.hasHandlers():  # an application that logs nothing prints its own tracebacks
                _log.error("trial %d failed\n%s", trial.number, masked("".join(format_exception(error))))
            message = " ".join(Text.from_ansi(str(error)).plain.split())  # on one line, without colours
            trial.set_user_attr("error", masked(f"{type(error).__name__}: {message}"))
        trial.set_user_attr("outcome", outcome)
        if outcome == "diverged":
            raise TrialPruned(str(error)) from error
        raise
    except BaseException as stop:
        trial.set_user_attr("outcome", "interrupted")
        if not isinstance(stop, KeyboardInterrupt):  # Optuna records the end of a trial itself only after Ctrl-C
            trial.storage.set_trial_state_values(trial._trial_id, state=TrialState.FAIL)
        raise
    if not all(math.isfinite(value) for value in values):
        trial.set_user_attr("outcome", "diverged")
        raise TrialPruned(f"the objective is {values}")
    trial.set_user_attr("outcome", "complete")
    return values if len(values) > 1 else values[0]


def _outcome(trial: Trial, error: Exception) -> str:
    """Return the outcome of a job that raised; it may have set `diverged` on its trial or on the exception."""
    if isinstance(error, TrialPruned):
        return "pruned"
    code = str(getattr(error, "code", None) or getattr(getattr(error, "fault", None), "code", ""))
    recorded = trial.storage.get_trial_user_attrs(trial._trial_id).get("outcome")
    marks = (recorded, getattr(error, "outcome", None), code.rpartition(".")[2])
    return "diverged" if "diverged" in marks else "failed"


def _number(value: Any) -> float:
    if isinstance(value, bool) or value is None:
        raise BadResult(f"the job returned {value!r}; let it return the objective, a number for each direction")
    try:
        return float(value) if isinstance(value, Real) else float(value.item())
    except (AttributeError, TypeError, ValueError):
        raise BadResult(f"the job returned {value!r}, which is not a number") from None


@contextmanager
def quiet() -> Iterator[None]:
    """Inside, Optuna logs errors only: the sweeper prints what matters."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)
