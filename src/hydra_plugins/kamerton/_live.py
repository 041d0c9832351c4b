"""What a person sees of a sweep: a live table on a terminal, one line for each finished trial elsewhere."""

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
_AGE = 2.0  # seconds for which what was read from the storage is shown
_COLOURS = {"complete": "green", "pruned": "yellow", "running": "cyan", "waiting": "dim"}


class Terminal:
    """Shows a study while it runs. `total` is how many trials were asked for, None without bound."""

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
        """A trial of this worker is over."""
        self._read, self._waits_for = 0.0, ""
        if self._live is None:
            self.console.print(self._line(trial), highlight=False, soft_wrap=True, markup=False)

    def waits(self, numbers: Sequence[int]) -> None:
        """No trial is left to begin, but these run elsewhere."""
        text = f"waiting for {_listed(numbers)}: they run elsewhere, and are taken over here if they are killed"
        if text != self._waits_for and self._live is None:
            self.console.print(text, highlight=False, soft_wrap=True)
        self._waits_for = text

    def _line(self, trial: FrozenTrial) -> str:
        shown = outcome(trial)
        reason = f" {trial.user_attrs['error']}" if shown == "failed" and "error" in trial.user_attrs else ""
        return "  ".join(
            [
                f"trial {_name(trial, self.total)}",
                f"{shown}{reason}",
                *([_numbers(trial)] if shown in ("complete", "pruned") else []),
                *self._best_so_far(trial),
                *([f"{trial.duration.total_seconds():.1f} s"] if trial.duration else []),
                " ".join(f"{key}={_short(value)}" for key, value in trial.params.items()),
            ]
        )

    def _best_so_far(self, trial: FrozenTrial) -> list[str]:
        if len(self.study.directions) > 1 or trial.state != TrialState.COMPLETE:
            return []
        best = best_trials(self.study)
        return [f"(best {_numbers(best[0])}, trial {best[0].number})"] if best else []

    def _table(self) -> RenderableType:
        if time.monotonic() - self._read > _AGE:
            with suppress(Exception):  # the storage may be busy; what was shown stays
                self._shown = self._built(self.study._storage.get_all_trials(self.study._study_id, deepcopy=False))
            self._read = time.monotonic()
        return self._shown

    def _built(self, trials: Sequence[FrozenTrial]) -> RenderableType:
        gone = superseded(trials)
        trials = [trial for trial in trials if trial.state != TrialState.WAITING and trial.number not in gone]
        best = {trial.number for trial in best_trials(self.study)}
        rows = [t for t in trials[:-_ROWS] if t.number in best or t.state == TrialState.RUNNING] + trials[-_ROWS:]
        keys = sorted({key for trial in rows for key in trial.params})
        table = Table(title=escape(self.study.study_name), title_justify="left")
        for name in ("trial", "outcome", *keys, "value", "reports", "seconds"):
            table.add_column(name, justify="left" if name in ("outcome", *keys) else "right", overflow="fold")
        for trial in rows:
            shown = outcome(trial) or "running"
            params = [escape(_short(trial.params[key])) if key in trial.params else "" for key in keys]
            cells = [str(trial.number), shown, *params, _numbers(trial), *_progress(trial)]
            table.add_row(*cells, style="bold" if trial.number in best else _COLOURS.get(shown, "red"))
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
    """How the sweep ended, its best trial, and what runs that one again."""
    counts = ", ".join(f"{count} {name}" for name, count in end.outcomes.items()) or "none"
    console.print(f"{end.study_name}: {sum(end.outcomes.values())} trials ({counts})", highlight=False, markup=False)
    if not end.best:
        console.print("no trial completed")
    for one in end.best:
        values = ", ".join(f"{value:.6g}" for value in one.values)
        again = shlex.join(masked(text) for text in one.overrides)
        there = "" if one.original == one.number else f" (trial {one.original} again, in its directory)"
        console.print(f"best: trial {one.number}{there}, {values}", highlight=False, markup=False)
        console.print(f"  its overrides: {again}", highlight=False, markup=False, soft_wrap=True)
    console.print(f"files: {end.directory}", highlight=False, markup=False, soft_wrap=True)


def _name(trial: FrozenTrial, total: int | None) -> str:
    """A trial's number of so many; one that was run again has a number beyond them."""
    first = original_number(trial)
    if first != trial.number:
        return f"{trial.number} (trial {first} again)"
    return f"{trial.number}/{total}" if total else str(trial.number)


def _numbers(trial: FrozenTrial) -> str:
    """A trial's values; of one that runs or was pruned, what it reported last."""
    last = [trial.intermediate_values[trial.last_step]] if trial.last_step is not None else []
    return ", ".join(f"{value:.6g}" for value in (trial.values or last))


def _progress(trial: FrozenTrial) -> list[str]:
    began, ended = trial.datetime_start, trial.datetime_complete
    seconds = f"{((ended or datetime.now()) - began).total_seconds():.1f}" if began else ""
    return [str(len(trial.intermediate_values) or ""), seconds]


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _listed(numbers: Sequence[int]) -> str:
    return f"trial {numbers[0]}" if len(numbers) == 1 else f"trials {', '.join(map(str, numbers))}"
