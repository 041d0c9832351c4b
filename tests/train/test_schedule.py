"""The learning rate of every step, as written down by hand and as transformers computes it."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import get_scheduler

from kamerton.train.schedule import schedule


def curve(total: int, **options: Any) -> list[float]:
    """Return the learning rates of steps 1 to `total` + 1 with an initial rate of 2.0."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0)
    scheduled, rates = schedule(optimizer, total, **options), []
    for _ in range(total + 1):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduled.step()
    return rates


def test_linear_rises_and_falls_to_zero() -> None:
    expected = [0, 1, 2, 1.5, 1, 0.5, 0]
    assert curve(6, name="linear", warmup_steps=2) == pytest.approx(expected)


def test_constant_stays() -> None:
    assert curve(5, name="constant", warmup_steps=2) == pytest.approx([0, 1, 2, 2, 2, 2])
    assert curve(3, name="constant", warmup_steps=0) == pytest.approx([2, 2, 2, 2])


@pytest.mark.parametrize("least", [0.0, 0.25])
def test_cosine_falls_to_its_least_rate(least: float) -> None:
    falling = [least + (1 - least) * (1 + math.cos(math.pi * step / 4)) / 2 for step in range(5)]
    assert curve(6, name="cosine", warmup_steps=2, min_ratio=least) == pytest.approx([0, 1, *(2 * f for f in falling)])


def test_wsd_is_constant_until_its_last_share_of_all_steps() -> None:
    scheduled = curve(10, name="wsd", warmup_steps=2, decay_ratio=0.4, min_ratio=0.5)
    assert scheduled == pytest.approx([1, 1.5, 2, 2, 2, 2, 2, 1.75, 1.5, 1.25, 1])


def test_wsd_falls_at_once_where_warm_up_and_decay_fill_the_run() -> None:
    assert curve(4, name="wsd", warmup_steps=2, decay_ratio=1.0) == pytest.approx([0, 1, 2, 1, 0])


def test_the_warm_up_is_a_number_or_a_share_of_steps_or_ten_but_at_most_a_tenth() -> None:
    share = curve(40, name="linear", warmup_ratio=0.1)
    assert share == curve(40, name="linear", warmup_steps=4)
    assert curve(100, name="linear") == curve(100, name="linear", warmup_steps=10)
    assert curve(400, name="linear") == curve(400, name="linear", warmup_steps=10)
    assert curve(40, name="linear") == curve(40, name="linear", warmup_steps=4)
    assert curve(41, name="linear", warmup_ratio=0.1) == curve(41, name="linear", warmup_steps=5)  # rounded up


@pytest.mark.parametrize("name", ["linear", "constant", "cosine", "wsd"])
@given(total=st.integers(1, 60), ratio=st.none() | st.floats(0, 0.999))
def test_no_run_is_too_short_for_a_warm_up_that_nobody_counted_in_steps(
    name: str, total: int, ratio: float | None
) -> None:
    assert max(curve(total, name=name, warmup_ratio=ratio)[:total]) == 2.0


OF_TRANSFORMERS: dict[str, tuple[str, dict[str, Any]]] = {
    "linear": ("linear", {}),
    "constant": ("constant_with_warmup", {}),
    "cosine": ("cosine_with_min_lr", {"min_lr_rate": 0.1}),
    "wsd": ("warmup_stable_decay", {"num_decay_steps": 7, "decay_type": "linear", "min_lr_ratio": 0.1}),
}


@pytest.mark.parametrize("name", OF_TRANSFORMERS)
@pytest.mark.parametrize("warmup", [0, 1, 5])
def test_the_curves_are_those_of_transformers(name: str, warmup: int) -> None:
    theirs, more = OF_TRANSFORMERS[name]
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0)
    scheduler, rates = get_scheduler(theirs, optimizer, warmup, 23, scheduler_specific_kwargs=more), []
    for _ in range(24):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    ours = curve(23, name=name, warmup_steps=warmup, min_ratio=0.1, decay_ratio=0.3)
    assert ours == pytest.approx(rates, rel=1e-12, abs=1e-15)
