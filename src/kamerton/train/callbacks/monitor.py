"""Run the monitor's detectors on the metrics logged after every step, and report the problems they detect.

A problem is written to `events.jsonl`, the terminal and, if W&B logs the run, its alerts. The codes in `stop_on` end
training as early stopping does: the best checkpoint so far is scored. The values were already read by the loggers, so
no device synchronisation is needed.
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
from kamerton.run.distributed import exchange
from kamerton.train.batches import StepBatch

_GROUPS = ("train/", "perf/", "lr")


class Monitor(pl.Callback):
    """Apply the detectors to one run and report each problem once."""

    def __init__(
        self, run: RunDirectory, setting: Setting, ignore: Collection[str] = (), stop_on: Collection[str] = ()
    ) -> None:
        """`ignore` lists the codes of disabled detectors, `stop_on` the codes that end training."""
        self._run, self._setting, self._ignore, self._stop_on = run, setting, ignore, frozenset(stop_on)
        self._watch = Watch(setting, ignore)
        self._stop = False
        self.stopped_by: dict[str, Any] | None = None  # the problem in `stop_on` that ended training
        self._marks: Marks | None = None  # fingerprint of the initial weights
        self._first_of_answers = {"predicted": Counter[int](), "token": Counter[int]()}

    def state_dict(self) -> dict[str, Any]:
        return {
            "said": sorted(self._watch.reported),
            "stop": self._stop,
            "stopped_by": self.stopped_by,
            "marks": self._marks,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._watch = Watch(self._setting, self._ignore, state_dict["said"])
        self._stop, self.stopped_by = state_dict["stop"], state_dict.get("stopped_by")
        self._marks = state_dict.get("marks")

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Read the earlier rows of a resumed run, so that the detectors see all of its steps."""
        if not trainer.global_step:
            self._marks = marks(pl_module)
        for step, row in read_rows(self._run.path / "metrics.csv") if trainer.global_step else ():
            if step <= trainer.global_step:
                self._watch.series.add(step, row)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Report `nothing-learnt` if the weights are unchanged on every rank."""
        same = self._marks is not None and trainer.global_step > 0 and marks(pl_module) == self._marks
        same = trainer.strategy.reduce_boolean_decision(same, all=True)
        if same and NOTHING_LEARNT not in {*self._ignore, *self._watch.reported}:
            self._report(trainer, [nothing_learnt(self._watch.series)])

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: StepBatch, batch_idx: int
    ) -> None:
        trained = getattr(pl_module, "step_batch", None) or batch
        row = {
            key: float(value)
            for key, value in trainer.callback_metrics.items()
            if key.startswith(_GROUPS) and not key.startswith("lr-")
        }
        self._report(trainer, self._watch.add(trainer.global_step, row | {"train/targets": float(trained.targets)}))
        if self._stop_on and trainer.global_step % EVERY == 0:  # ranks agree, so all stop at the same step
            self._stop = trainer.strategy.reduce_boolean_decision(self._stop, all=False)
            trainer.should_stop |= self._stop

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, *_: Any
    ) -> None:
        if not outputs or trainer.sanity_checking:
            return
        sequence = outputs["sequence"]
        first = torch.ones_like(sequence, dtype=torch.bool)  # the first prediction of each sequence
        first[1:] = sequence[1:] != sequence[:-1]
        for name, counts in self._first_of_answers.items():
            counts.update(outputs[name][first].tolist())

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        for name, counts in (
            ("answer", self._first_of_answers["predicted"]),
            ("reference", self._first_of_answers["token"]),
        ):
            total = sum(exchange(counts), Counter[int]())
            if total:
                pl_module.log(f"val/{name}_entropy", torch.tensor(entropy(total)))
            counts.clear()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.sanity_checking:
            metrics = trainer.callback_metrics.items()
            row = {key: float(value) for key, value in metrics if key.startswith("val/")}
            self._report(trainer, self._watch.add(trainer.global_step, row))

    def _report(self, trainer: pl.Trainer, issues: list[Issue]) -> None:
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
            if not self._run.record.trial:  # a sweep's terminal lists its trials
                echo(f"\n{issue.severity}: {issue.message} [{issue.code}]\n    try: {issue.advice}", err=True)
            wandb = sys.modules.get("wandb")
            if wandb is not None and wandb.run is not None:
                level = wandb.AlertLevel.ERROR if issue.severity == "error" else wandb.AlertLevel.WARN
                wandb.run.alert(title=issue.code, text=f"{issue.message}. {issue.advice}", level=level)


def entropy(counts: Counter[int]) -> float:
    """Return the entropy, in nats, of the distribution given by `counts`; 0 without counts."""
    total = counts.total()
    return -sum(n / total * math.log(n / total) for n in counts.values()) if total else 0.0
