"""The display of a sweep: a live table on a terminal, otherwise one line for each finished trial."""

from __future__ import annotations

import shlex
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from types import TracebackType
from typing import Self

from optuna import Study
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from hydra_plugins.kamerton._results import Finished, best_trials
from hydra_plugins.kamerton._storage import masked
from hydra_plugins.kamerton._tickets import outcome, superseded
from hydra_plugins.kamerton._trial import original_number
from kamerton.words import duration

_ROWS = 16  # of the live table
_AGE = 2.0  # seconds after which the storage is read again
_COLOURS = {"complete": "green", "pruned": "yellow", "running": "cyan", "waiting": "dim"}


class Terminal:
    """Shows a study while it runs. `total` is the requested number of trials, None if it is unlimited."""

    def __init__(self, console: Console, study: Study, total: int | None) -> None:
        self.console, self.study, self.total = console, study, total
        self._live: Live | None = None
        self._shown: RenderableType = ""
        self._read, self._waits_for = 0.0, ""
        self._best: tuple[int, float] | None = None

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self._live = Live(get_renderable=self._table, console=self.console, refresh_per_second=1)
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._live is not None:
            self._read = 0.0
            self._live.stop()

    def ended(self, study: Study, trial: FrozenTrial) -> None:
        """Print a trial of this worker that has ended."""
        self._read, self._waits_for = 0.0, ""
        if self._live is None:
            self.console.print(self._line(trial), highlight=False, soft_wrap=True, markup=False)

    def waits(self, numbers: Sequence[int]) -> None:
        """Show that no trial is left to start, while these run on other workers."""
        trials = f"trial {numbers[0]}" if len(numbers) == 1 else f"trials {', '.join(map(str, numbers))}"
        text = f"waiting for {trials}: running on other workers; retried here if they die"
        if text != self._waits_for and self._live is None:
            self.console.print(text, highlight=False, soft_wrap=True)
        self._waits_for = text

    def _line(self, trial: FrozenTrial) -> str:
        state, first = outcome(trial), original_number(trial)
        name = f"{trial.number}/{self.total}" if self.total else str(trial.number)
        parts = [f"trial {name if first == trial.number else f'{trial.number} (trial {first} again)'}"]
        reason = f" {trial.user_attrs['error']}" if state == "failed" and "error" in trial.user_attrs else ""
        parts.append(f"{state}{reason}")
        if state in ("complete", "pruned"):
            parts.append(_numbers(trial))
        if len(self.study.directions) == 1 and trial.state == TrialState.COMPLETE:
            parts += [f"(best {_numbers(best)}, trial {best.number})" for best in best_trials(self.study)]
        if trial.duration:
            parts.append(f"{trial.duration.total_seconds():.1f} s")
        return "  ".join([*parts, " ".join(f"{key}={_short(value)}" for key, value in trial.params.items())])

    def _table(self) -> RenderableType:
        if time.monotonic() - self._read > _AGE:
            with suppress(Exception):  # the storage may be busy; the table stays as it was
                self._shown = self._read_table(self.study._storage.get_all_trials(self.study._study_id, deepcopy=False))
            self._read = time.monotonic()
        return self._shown

    def _read_table(self, trials: Sequence[FrozenTrial]) -> RenderableType:
        retried = superseded(trials)
        trials = [trial for trial in trials if trial.state != TrialState.WAITING and trial.number not in retried]
        best = {trial.number for trial in best_trials(self.study)}
        rows = [t for t in trials[:-_ROWS] if t.number in best or t.state == TrialState.RUNNING] + trials[-_ROWS:]
        keys = sorted({key for trial in rows for key in trial.params})
        table = Table(title=escape(self.study.study_name), title_justify="left")
        for name in ("trial", "outcome", *keys, "value", "reports", "seconds"):
            table.add_column(name, justify="left" if name in ("outcome", *keys) else "right", overflow="fold")
        for trial in rows:
            state = outcome(trial) or "running"
            params = [escape(_short(trial.params[key])) if key in trial.params else "" for key in keys]
            started, ended = trial.datetime_start, trial.datetime_complete or datetime.now()
            seconds = f"{(ended - started).total_seconds():.1f}" if started else ""
            reports = str(len(trial.intermediate_values) or "")
            cells = [str(trial.number), state, *params, _numbers(trial), reports, seconds]
            table.add_row(*cells, style="bold" if trial.number in best else _COLOURS.get(state, "red"))
        return Group(table, Text(self._footer(trials), style="dim"))

    def _footer(self, trials: Sequence[FrozenTrial]) -> str:
        counts = Counter(outcome(trial) or "running" for trial in trials)
        done = sum(count for name, count in counts.items() if name != "running")
        parts = [f"{done}{f' of {self.total}' if self.total else ''} done"]
        parts += [f"{count} {name}" for name, count in counts.items()]
        seconds = [trial.duration.total_seconds() for trial in trials if trial.duration]
        if self.total and seconds and done < self.total:
            left = (self.total - done) * sum(seconds) / len(seconds) / max(1, counts["running"])
            parts.append(f"about {duration(left)} left")
        return ", ".join([*parts, *([self._waits_for] if self._waits_for else [])])


def say_end(console: Console, end: Finished) -> None:
    """Print how the sweep ended, its best trials, and the overrides that run them again."""
    counts = ", ".join(f"{count} {name}" for name, count in end.outcomes.items()) or "none"
    console.print(f"{end.study_name}: {sum(end.outcomes.values())} trials ({counts})", highlight=False, markup=False)
    if not end.best:
        console.print("no trial completed")
    for best in end.best:
        values = ", ".join(f"{value:.6g}" for value in best.values)
        overrides = shlex.join(masked(text) for text in best.overrides)
        directory = "" if best.original == best.number else f" (trial {best.original} again, in its directory)"
        console.print(f"best: trial {best.number}{directory}, {values}", highlight=False, markup=False)
        console.print(f"  its overrides: {overrides}", highlight=False, markup=False, soft_wrap=True)
    console.print(f"files: {end.directory}", highlight=False, markup=False, soft_wrap=True)


def _numbers(trial: FrozenTrial) -> str:
    """Return a trial's values; for a running or pruned one, its last reported value."""
    last = [trial.intermediate_values[trial.last_step]] if trial.last_step is not None else []
    return ", ".join(f"{value:.6g}" for value in (trial.values or last))


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
