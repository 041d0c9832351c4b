"""The monitor at work in a run: after every step the detectors read what was logged, and say what they find.

A problem goes to `events.jsonl`, to the terminal and, where W&B logs the run, to its alerts; `stop_on` names the codes
that end the training as early stopping does: what was best so far is scored. The values are those that loggers have
read already, so that no device is waited for.
"""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Collection
from typing import Any

import pytorch_lightning as pl
import torch

from kamerton.monitor.detect import EVERY, Watch
from kamerton.monitor.issue import Issue
from kamerton.monitor.series import Setting, read_rows
from kamerton.monitor.weights import NOTHING_LEARNT, Marks, marks, nothing_learnt
from kamerton.output import echo
from kamerton.run.directory import RunDirectory
from kamerton.train.batches import StepBatch

_GROUPS = ("train/", "perf/", "lr")


class Monitor(pl.Callback):
    """Watches one run."""

    def __init__(
        self, run: RunDirectory, setting: Setting, ignore: Collection[str] = (), stop_on: Collection[str] = ()
    ) -> None:
        """`ignore` are codes of detectors that are switched off; `stop_on` those that end the training."""
        self._run, self._setting, self._ignore, self._stop_on = run, setting, ignore, frozenset(stop_on)
        self._watch = Watch(setting, ignore)
        self._stop = False
        self.stopped_by: dict[str, Any] | None = None  # the problem of `stop_on` that ended the training
        self._marks: Marks | None = None  # of the weights at the beginning of the run
        self._first = {"predicted": Counter[int](), "token": Counter[int]()}

    def state_dict(self) -> dict[str, Any]:
        return {
            "said": sorted(self._watch.said),
            "stop": self._stop,
            "stopped_by": self.stopped_by,
            "marks": self._marks,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._watch = Watch(self._setting, self._ignore, state_dict["said"])
        self._stop, self.stopped_by = state_dict["stop"], state_dict.get("stopped_by")
        self._marks = state_dict.get("marks")

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """A run that goes on is judged by all of its steps, not by those since it was taken up again."""
        if not trainer.global_step:
            self._marks = marks(pl_module)
        for step, row in read_rows(self._run.path / "metrics.csv") if trainer.global_step else ():
            if step <= trainer.global_step:
                self._watch.series.add(step, row)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Nothing is learnt where no process's part of the weights has changed."""
        same = self._marks is not None and trainer.global_step > 0 and marks(pl_module) == self._marks
        same = trainer.strategy.reduce_boolean_decision(same, all=True)
        if same and NOTHING_LEARNT not in {*self._ignore, *self._watch.said}:
            self._say(trainer, [nothing_learnt(self._watch.series)])

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: StepBatch, batch_idx: int
    ) -> None:
        row = {
            key: float(value)
            for key, value in trainer.callback_metrics.items()
            if key.startswith(_GROUPS) and not key.startswith("lr-")
        }
        self._say(trainer, self._watch.add(trainer.global_step, row | {"train/targets": float(batch.targets)}))
        if self._stop_on and trainer.global_step % EVERY == 0:  # ranks agree: all end at one step
            self._stop = trainer.strategy.reduce_boolean_decision(self._stop, all=False)
            trainer.should_stop |= self._stop

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, *_: Any
    ) -> None:
        if not outputs or trainer.sanity_checking:
            return
        owner = outputs["sequence"]
        first = torch.ones_like(owner, dtype=torch.bool)
        first[1:] = owner[1:] != owner[:-1]
        for name, counts in self._first.items():
            counts.update(outputs[name][first].tolist())

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        for name, counts in (("answer", self._first["predicted"]), ("reference", self._first["token"])):
            if counts:
                pl_module.log(f"val/{name}_entropy", torch.tensor(entropy(counts)))
            counts.clear()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.sanity_checking:
            found = trainer.callback_metrics.items()
            row = {key: float(value) for key, value in found if key.startswith("val/")}
            self._say(trainer, self._watch.add(trainer.global_step, row))

    def _say(self, trainer: pl.Trainer, issues: list[Issue]) -> None:
        for issue in issues:
            if issue.code in self._stop_on and not self._stop:
                self._stop = True
                self.stopped_by = {"code": issue.code, "step": issue.step, "message": issue.message}
                self._run.update(stopped=self.stopped_by)
        if not trainer.is_global_zero:
            return
        for issue in issues:
            evidence = {"step": issue.step, **issue.evidence}
            self._run.event(issue.severity, issue.code, issue.message, evidence=evidence, advice=issue.advice)
            if not self._run.record.get("trial"):  # a sweep's terminal shows its trials
                echo(f"\n{issue.severity}: {issue.message} [{issue.code}]\n    try: {issue.advice}", err=True)
            _alert(issue)


def entropy(counts: Counter[int]) -> float:
    """Entropy of a distribution given by counts, in nats."""
    total = counts.total()
    return -sum(n / total * math.log(n / total) for n in counts.values()) if total else 0.0


def _alert(issue: Issue) -> None:
    """W&B's alert, where a run of its is under way."""
    wandb = sys.modules.get("wandb")
    if wandb is not None and wandb.run is not None:
        level = wandb.AlertLevel.ERROR if issue.severity == "error" else wandb.AlertLevel.WARN
        wandb.run.alert(title=issue.code, text=f"{issue.message}. {issue.advice}", level=level)
