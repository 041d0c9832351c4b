"""Detectors on synthetic metrics: each reports its problem, and none reports anything for a healthy run."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kamerton.monitor.codes import CODES
from kamerton.monitor.detect import EACH_STEP, SOMETIMES, VALIDATIONS, Watch, find_issues
from kamerton.monitor.issue import Issue
from kamerton.monitor.series import Setting
from kamerton.monitor.weights import NOTHING_LEARNT

STEPS = 200
Rows = list[tuple[int, dict[str, float]]]
Change = Callable[[int, dict[str, float]], None]


def stream(
    change: Change = lambda step, row: None,
    *,
    start: float = 4.0,
    end: float = 0.2,
    noise: float = 0.05,
    pace: float = 25.0,
    seed: int = 0,
) -> Rows:
    """A run that learns: loss falls exponentially with noise, the gradient with it; a validation every 20 steps."""
    draw = np.random.default_rng(seed)
    rows: Rows = []
    for step in range(1, STEPS + 1):
        level = end + (start - end) * math.exp(-step / pace)
        row = {
            "train/loss": level * math.exp(noise * draw.standard_normal()),
            "train/token_accuracy": 1 - min(0.9, level / 4),
            "train/grad_norm": level * math.exp(0.2 * draw.standard_normal()),
            "train/targets": 24.0,
            "lr": 1e-3 * (1 - step / (STEPS + 1)),
            "perf/data_wait": 0.01,
            "perf/core_wait": 0.02,
            "perf/tokens_per_s": 1000 * math.exp(0.05 * draw.standard_normal()),
            "perf/peak_memory_mb": 900.0 + min(step, 20),
        }
        change(step, row)
        rows.append((step, row))
        if step % 20 == 0:
            val = {"val/loss": level * 1.1, "val/answer_entropy": 1.3, "val/reference_entropy": 1.4}
            change(step, val)
            rows.append((step, val))
    return rows


def codes(rows: Rows, **setting: Any) -> list[str]:
    return [issue.code for issue in find_issues(rows, Setting(STEPS, **setting))]


@given(
    start=st.floats(0.5, 8),
    share=st.floats(0.01, 0.3),
    noise=st.floats(0, 0.15),
    pace=st.floats(4, 40),
    seed=st.integers(0, 10**6),
)
@settings(max_examples=60, deadline=None)
def test_a_learning_run_has_no_warnings(start: float, share: float, noise: float, pace: float, seed: int) -> None:
    rows = stream(start=start, end=min(start * share, 0.25), noise=noise, pace=pace, seed=seed)
    assert codes(rows, clip_norm=1.0, warmup=10) == []


def since(first: int, key: str, value: Callable[[int, float], float]) -> Change:
    """`key` becomes `value(step, what it was)` from step `first` on."""

    def change(step: int, row: dict[str, float]) -> None:
        if step >= first and key in row:
            row[key] = value(step, row[key])

    return change


def compared(
    *, reward: float = 0.5, margin: float = 1.0, accuracy: float = 0.8, drift: float = 0.1, loss: float = 0.5
) -> Change:
    """Metrics of preferences that move to these values within 50 steps."""
    ends = {"reward_chosen": (0.0, reward), "margin": (0.0, margin), "preference_accuracy": (0.5, accuracy)}
    ends |= {"drift": (0.0, drift), "loss": (0.7, loss)}

    def change(step: int, row: dict[str, float]) -> None:
        if "train/loss" in row:
            share = min(1.0, step / 50)
            row |= {f"train/{name}": begin + share * (end - begin) for name, (begin, end) in ends.items()}

    return change


def graded(**values: Callable[[int], float]) -> Change:
    """Metrics of training on rewards by their value at a step."""

    def change(step: int, row: dict[str, float]) -> None:
        if "train/loss" in row:
            row |= {f"train/{name}": value(step) for name, value in values.items()}

    return change


FAULTS: dict[str, tuple[Change, dict[str, float]]] = {
    "non-finite-loss": (since(50, "train/loss", lambda step, _: math.nan), {}),
    "non-finite-gradient": (since(50, "train/grad_norm", lambda step, _: math.inf), {}),
    "loss-spike": (since(90, "train/loss", lambda step, loss: 9.0 if step == 90 else loss), {}),
    "no-targets": (since(90, "train/targets", lambda step, _: 0.0), {}),
    "learning-rate-too-high": (since(15, "train/loss", lambda step, _: 7.0 + step % 3), {}),
    "divergence": (since(120, "train/loss", lambda step, loss: loss + (step - 120) / 10), {}),
    "learning-rate-too-low": (since(1, "train/loss", lambda step, _: 4.0 - step / 2000), {}),
    "plateau": (since(1, "train/loss", lambda step, _: max(1.0, 4.0 - step / 10) + 0.01 * (step % 2)), {"end": 1.0}),
    "underfitting": (since(1, "train/loss", lambda step, _: 3.2 + 0.8 * math.exp(-step / 20)), {"end": 3.0}),
    "vanishing-gradient": (since(40, "train/grad_norm", lambda step, _: 1e-9), {"end": 1.0}),
    "zero-gradient": (since(40, "train/grad_norm", lambda step, _: 0.0), {"end": 1.0}),
    "always-clipped": (since(1, "train/grad_norm", lambda step, _: 50.0), {}),
    "data-starvation": (since(1, "perf/data_wait", lambda step, _: 0.5), {}),
    "throughput-drop": (since(100, "perf/tokens_per_s", lambda step, _: 300.0), {}),
    "memory-creep": (since(30, "perf/peak_memory_mb", lambda step, mb: mb + 5 * (step - 30)), {}),
    "chosen-falling": (compared(reward=-1.0, margin=1.5), {}),
    "margin-saturated": (compared(accuracy=1.0, margin=9.0, loss=1e-3), {}),
    "kl-runaway": (compared(reward=-30.0, drift=2.0), {}),
    "no-preference": (compared(accuracy=0.5), {}),
    "length-hacking": (
        graded(reward=lambda step: (40 + step + step % 3) / 400, length=lambda step: 40 + step + step % 3),
        {},
    ),
    "no-signal": (graded(reward=lambda step: 0.0, no_signal=lambda step: 1.0), {}),
    "policy-collapse": (
        graded(
            reward=lambda step: 0.6 if step < 50 else 0.1 + 0.05 * (step % 2),
            entropy=lambda step: 2.0 if step < 50 else 0.001,
        ),
        {},
    ),
    "overfitting": (since(60, "val/loss", lambda step, _: 0.8 + step / 100), {}),
    "suspicious-validation": (since(1, "val/loss", lambda step, _: 0.01), {"end": 0.5}),
    "prediction-collapse": (since(1, "val/answer_entropy", lambda step, _: 0.0), {}),
}


def test_every_detector_has_a_fault_here() -> None:
    assert list(CODES) == [*EACH_STEP, *SOMETIMES, *VALIDATIONS, NOTHING_LEARNT]
    assert {*FAULTS, NOTHING_LEARNT} == set(CODES)


@pytest.mark.parametrize("code", FAULTS)
def test_each_fault_is_found_by_its_code_with_evidence_and_advice(code: str) -> None:
    change, shape = FAULTS[code]
    result = {issue.code: issue for issue in find_issues(stream(change, **shape), Setting(STEPS, clip_norm=1.0))}
    assert code in result
    issue = result[code]
    assert issue.evidence
    assert issue.advice
    assert issue.message[0].islower() or issue.message[0].isdigit()


def test_a_loss_that_falls_fast_does_not_make_the_first_validation_suspicious() -> None:
    losses = [8.0, 8.3, 6.0, 3.0, 2.1, 1.7, 1.0, 0.67, 0.31, 0.2, 0.34]
    rows: Rows = [(step, {"train/loss": loss}) for step, loss in enumerate(losses, start=1)]
    assert codes([*rows, (11, {"val/loss": 0.13})]) == []
    assert codes([*rows, (11, {"val/loss": 0.01})]) == ["suspicious-validation"]


def test_answers_that_are_alike_are_advised_by_what_the_run_shows() -> None:
    def advice(change: Change, **shape: float) -> str:
        result = find_issues(stream(change, **shape), Setting(STEPS))
        return next(issue.advice for issue in result if issue.code == "prediction-collapse")

    never_apart = since(1, "val/answer_entropy", lambda step, _: 0.0)
    forgot = since(STEPS // 2, "val/answer_entropy", lambda step, _: 0.0)
    assert "train longer (trainer.max_epochs)" in advice(never_apart)
    worse = since(STEPS // 2, "val/loss", lambda step, loss: 3.0)

    def forgets(step: int, row: dict[str, float]) -> None:
        forgot(step, row)
        worse(step, row)

    assert advice(forgets).startswith("lower optimizer.lr: answers differed before")
    assert all("score.normalization" in advice(change) for change in (never_apart, forgets))


@pytest.mark.parametrize("code", FAULTS)
def test_a_disabled_detector_reports_nothing(code: str) -> None:
    change, shape = FAULTS[code]
    watch = Watch(Setting(STEPS, clip_norm=1.0), ignore=[code])
    assert code not in [issue.code for step, row in stream(change, **shape) for issue in watch.add(step, row)]


def test_a_gradient_of_zero_is_one_problem_and_none_where_nothing_is_left_to_learn() -> None:
    nothing = since(1, "train/grad_norm", lambda step, _: 0.0)
    result = find_issues(stream(nothing, end=1.0), Setting(STEPS))
    assert [(issue.code, issue.step) for issue in result if "gradient" in issue.code] == [("zero-gradient", 5)]

    def learnt(step: int, row: dict[str, float]) -> None:
        row.update({key: 0.0 for key in ("train/grad_norm", "train/loss") if key in row})

    assert "zero-gradient" not in codes(stream(learnt))


def test_a_problem_is_reported_once_also_after_a_resume() -> None:
    rows = stream(FAULTS["data-starvation"][0])
    watch = Watch(Setting(STEPS))
    first = [issue for step, row in rows[:100] for issue in watch.add(step, row)]
    again = Watch(Setting(STEPS), reported=watch.reported)
    rest = [issue for step, row in rows[100:] for issue in again.add(step, row)]
    assert [issue.code for issue in (*first, *rest)].count("data-starvation") == 1


NUMBERS = {
    "any": ("train/loss", "train/grad_norm", "val/loss"),
    "preferences": ("train/loss", "train/preference_accuracy", "train/margin", "train/drift", "train/reward_chosen"),
    "rewards": tuple(
        f"train/{name}" for name in ("loss", "reward", "no_signal", "length", "entropy", "kl", "reward_a", "truncated")
    ),
}


@pytest.mark.parametrize("names", NUMBERS.values(), ids=NUMBERS)
@given(values=st.lists(st.tuples(*[st.floats()] * 8), max_size=60))
@settings(max_examples=60, deadline=None)
def test_any_numbers_at_all_are_read_without_an_exception(
    names: tuple[str, ...], values: list[tuple[float, ...]]
) -> None:
    rows: Rows = []
    for step, row in enumerate(values, 1):
        logged = {"lr": 1e-3, **dict(zip(names, row, strict=False))}
        validated = {name: logged.pop(name) for name in names if name.startswith("val/")}
        rows += [(step, metrics) for metrics in (logged, validated) if metrics]
    assert all(isinstance(issue, Issue) for issue in find_issues(rows, Setting(len(values) or 1, clip_norm=1.0)))


def test_a_drop_beside_other_processes_names_them() -> None:
    def change(step: int, row: dict[str, float]) -> None:
        for key, value in (("perf/tokens_per_s", 300.0), ("perf/core_wait", 1.2)):
            since(100, key, lambda *_, value=value: value)(step, row)

    (issue,) = find_issues(stream(change), Setting(STEPS))
    assert issue.code == "throughput-drop"
    assert "1.2 threads wait for a core" in issue.message
    assert issue.evidence["core_wait"] == 1.2
