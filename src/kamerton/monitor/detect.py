"""Run all detectors over rows of metrics; each problem is reported once.

watch = Watch(Setting(steps=100, clip_norm=1.0))
for step, row in rows:
    for issue in watch.add(step, row): ...
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping

from kamerton.monitor import gradient, loss, preference, reward, speed, validation
from kamerton.monitor.codes import OF_THE_LOSS
from kamerton.monitor.issue import Issue
from kamerton.monitor.series import Series, Setting

Detector = Callable[[Series], Issue | None]


def _kl_runaway(series: Series) -> Issue | None:
    return reward.kl_runaway(series) if series.learns_rewards else preference.kl_runaway(series)


# By code of the reported problem. `EACH_STEP` detectors run at every step, `SOMETIMES` at every fifth and the last.
EACH_STEP: dict[str, Detector] = {
    "non-finite-loss": loss.non_finite_loss,
    "non-finite-gradient": gradient.non_finite_gradient,
    "loss-spike": loss.loss_spike,
    "no-targets": gradient.no_targets,
    "zero-gradient": gradient.zero_gradient,
}
SOMETIMES: dict[str, Detector] = {
    "learning-rate-too-high": loss.learning_rate_too_high,
    "divergence": loss.divergence,
    "learning-rate-too-low": loss.learning_rate_too_low,
    "plateau": loss.plateau,
    "underfitting": loss.underfitting,
    "vanishing-gradient": gradient.vanishing_gradient,
    "always-clipped": gradient.always_clipped,
    "data-starvation": speed.data_starvation,
    "throughput-drop": speed.throughput_drop,
    "memory-creep": speed.memory_creep,
    "chosen-falling": preference.chosen_falling,
    "margin-saturated": preference.margin_saturated,
    "kl-runaway": _kl_runaway,
    "no-preference": preference.no_preference,
    "length-hacking": reward.length_hacking,
    "no-signal": reward.no_signal,
    "policy-collapse": reward.policy_collapse,
}
VALIDATIONS: dict[str, Detector] = {
    "overfitting": validation.overfitting,
    "suspicious-validation": validation.suspicious_validation,
    "prediction-collapse": validation.prediction_collapse,
}
EVERY = 5


class Watch:
    """The state of watching one run: its `series`, and the codes of the `reported` problems."""

    def __init__(self, setting: Setting, ignore: Collection[str] = (), reported: Iterable[str] = ()) -> None:
        """`ignore` are codes of disabled detectors, `reported` those that an earlier part of the run reported."""
        self.series = Series(setting)
        self._ignore = frozenset(ignore)
        self.reported = set(reported)

    def add(self, step: int, row: Mapping[str, float]) -> list[Issue]:
        """Add a row and return the problems that it shows for the first time."""
        validated = self.series.add(step, row)
        detectors: dict[str, Detector] = {}
        if "train/loss" in row:
            detectors |= EACH_STEP
            if self.series.step % EVERY == 0 or self.series.step == self.series.setting.steps:
                detectors |= SOMETIMES
        if validated:
            detectors |= VALIDATIONS
        unfit = OF_THE_LOSS if self.series.learns_rewards else ()
        issues = []
        for code, detector in detectors.items():
            if code in self._ignore or code in self.reported or code in unfit:
                continue
            issue = detector(self.series)
            if issue is not None:
                self.reported.add(code)
                issues.append(issue)
        return issues


def find_issues(rows: Iterable[tuple[int, Mapping[str, float]]], setting: Setting) -> list[Issue]:
    """Return every problem that the rows of a run show, in the order of their steps."""
    watch = Watch(setting)
    return [issue for step, row in rows for issue in watch.add(step, row)]
