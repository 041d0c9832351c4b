"""The monitor on training on rewards: faults planted into simulated runs, and plain ones without any.

    python scripts/bench/monitor_rewards.py [--seeds 5] [--plain 60] [--only KIND,…] [--real 5 --work DIR]

A simulated policy answers prompts of different difficulty in groups, with a skill, a length and an entropy that move as
training goes on; rewards, their spread, groups without signal and truncated answers are counted from its answers.
As `monitor.py`: a planted fault counts as found if its code is reported before half of the rest of the run after it
began; anything reported in a plain run is a false alarm. Exits with 1 if fewer than 95 % are found, or more than one
plain run in 60 has a report. `--real` adds plain runs of the tiny model, tuned on answers before.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kamerton.monitor.detect import find_issues
from kamerton.monitor.series import Setting
from monitor import BEGIN, STEPS, Plant, command_line, few, issues, rows, run

SETTING = Setting(STEPS, 1.0, 10, "grpo")


@dataclass
class Policy:
    """What a simulated policy is like at a step: log-odds of a right answer, mean tokens, nats per token."""

    skill: float
    length: float
    entropy: float
    kl: float
    certain: bool = False  # one answer for each prompt


Change = Callable[[Policy, int], None]


@dataclass
class Simulated(Plant):
    """A fault of a simulated run: how it changes the policy, and which rewards are given."""

    change: Change = lambda policy, step: None
    reward: str = "number"


def simulate(seed: int, change: Change, reward: str) -> list[tuple[int, dict[str, float]]]:
    """The metrics of a run: shapes drawn by `seed`, then changed."""
    draw = np.random.default_rng(seed)
    prompts, samples = int(draw.choice([4, 8, 16])), int(draw.choice([4, 8, 16]))
    skill, gain, pace = draw.uniform(-2.0, 0.5), draw.uniform(0.5, 3.0), draw.uniform(20, 120)
    spread, limit = draw.uniform(0.5, 2.0), 256
    first, longer = draw.uniform(15, 80), draw.uniform(0.4, 2.5)
    quiet, start = draw.uniform(0.1, 0.9), draw.uniform(0.4, 3.0)
    most_kl = float(draw.choice([0.02, 0.3, 3.0]))
    found = []
    for step in range(1, STEPS + 1):
        done = 1 - math.exp(-step / pace)
        policy = Policy(skill + gain * done, first * longer**done, max(0.04, start * quiet**done), most_kl * done)
        change(policy, step)
        values = answers(draw, policy, prompts, samples, spread, limit, reward)
        noise = math.exp(0.1 * draw.standard_normal())
        values |= {"entropy": policy.entropy * noise, "kl": policy.kl * noise, "loss": 1e-3 * draw.standard_normal()}
        values |= {"grad_norm": 0.3 * noise, "targets": 1000.0}
        row = {f"train/{name}": float(value) for name, value in values.items()}
        found.append((step, row | {"lr": 1e-5 * (1 - step / (STEPS + 1)), "perf/tokens_per_s": 900 * noise}))
        if step % 20 == 0:
            entropies = {"val/answer_entropy": 0.01, "val/reference_entropy": 1.5}
            found.append((step, {"val/loss": 1.2 + 0.02 * step, "val/reward": values["reward"], **entropies}))
    return found


def answers(
    draw: np.random.Generator, policy: Policy, prompts: int, samples: int, spread: float, limit: int, reward: str
) -> dict[str, float]:
    """What a step logs of the answers of a policy."""
    shape = prompts, 1 if policy.certain else samples
    chance = 1 / (1 + np.exp(draw.normal(0, spread, (prompts, 1)) - policy.skill))
    tokens = np.ceil(policy.length * np.exp(0.4 * draw.standard_normal(shape)))
    cut = tokens > limit
    right = (draw.random(shape) < chance) & ~cut
    tokens = np.minimum(tokens, limit)
    parts = {"number": right.astype(float)}
    if "short" in reward:
        parts["length"] = np.clip(2 - tokens / 40, 0, 1)
    if "detail" in reward:
        parts["detail"] = tokens / limit
    if "format" in reward:
        parts["format"] = (draw.random(shape) < 1 / (1 + np.exp(-policy.skill - 1))).astype(float)
    if reward == "detail":
        del parts["number"]
    weights = {"length": 0.2, "format": 0.3}
    total = sum(weights.get(name, 1.0) * value for name, value in parts.items()) + np.zeros((prompts, samples))
    logged = {f"reward_{name}": value.mean() for name, value in parts.items() if len(parts) > 1}
    return {
        **{name: float(value) for name, value in logged.items()},
        "reward": float(total.mean()),
        "reward_spread": float(total.std(axis=1, ddof=1).mean()),
        "no_signal": float((np.ptp(total, axis=1) == 0).mean()),
        "length": float(tokens.mean()),
        "truncated": float(cut.mean()),
    }


def ramble(policy: Policy, step: int) -> None:
    policy.skill, policy.length = -1.0, 20 * 12 ** (step / 100)


def set_skill(value: float) -> Change:
    def change(policy: Policy, step: int) -> None:
        policy.skill = value

    return change


def repeat(policy: Policy, step: int) -> None:
    policy.skill = min(policy.skill, 0.5)
    if step >= BEGIN:
        policy.skill, policy.entropy, policy.certain = -1.0, 0.004, True


def babble(policy: Policy, step: int) -> None:
    policy.skill = max(policy.skill, -1.0)
    if step >= BEGIN:
        policy.skill, policy.entropy = -12.0, 4.0


def run_away(policy: Policy, step: int) -> None:
    if step >= BEGIN:
        policy.skill, policy.kl = policy.skill - (step - BEGIN) / 20, 0.5 * math.exp((step - BEGIN) / 15)


PLANTS = {
    "longer answers, no more right ones": Simulated(("length-hacking",), change=ramble, reward="number+detail"),
    "a reward for length alone": Simulated(("length-hacking",), change=ramble, reward="detail"),
    "prompts too hard": Simulated(("no-signal",), change=set_skill(-12.0)),
    "prompts too easy": Simulated(("no-signal",), change=set_skill(12.0)),
    "one answer for each prompt": Simulated(("policy-collapse",), change=repeat, since=BEGIN),
    "what was learnt is lost": Simulated(("policy-collapse",), change=babble, since=BEGIN),
    "divergence without reward": Simulated(("kl-runaway",), change=run_away, since=BEGIN),
}
PLAIN = ("number", "number", "number+short", "number+format", "number+format+short", "number+detail")


def judge(folder: Path, plant: Plant, name: str, seed: int) -> tuple[list[tuple[str, int]], int]:
    """What the detectors say of a simulated run with this fault, and its number of steps."""
    assert isinstance(plant, Simulated)
    found = find_issues(simulate(seed, plant.change, plant.reward), SETTING)
    return [(issue.code, issue.step) for issue in found], STEPS


def plain(folder: Path, count: int) -> bool:
    """Simulated runs of all shapes, with one reward or several."""
    accused: list[tuple[Any, ...]] = []
    for number in range(count):
        reward = PLAIN[number % len(PLAIN)]
        found = find_issues(simulate(1000 + number, lambda policy, step: None, reward), SETTING)
        if found:
            accused.append((number, reward, [(issue.code, issue.step, issue.message) for issue in found]))
    return few(accused, count)


def real(folder: Path, count: int) -> bool:
    """Plain runs of the tiny model, tuned on half of the labels at first."""
    accused: list[tuple[Any, ...]] = []
    for number in range(count):
        draw = random.Random(number)
        data = {"train": rows(draw, noise=0.6), "validation": rows(draw, 48)}
        run(folder, f"tuned-{number}", [f"seed={number}", "trainer.max_steps=60", "model.export=adapter"], data, None)
        typed = [f"seed={number}", f"objective={('grpo', 'rloo')[number % 2]}", "objective.kl_weight=0"]
        typed += [
            f"model.name={folder}/watch/tuned-{number}/model",
            "objective.samples=8",
            "objective.max_new_tokens=6",
        ]
        typed += ["reward=[exact_match,length]" if number % 3 else "reward=exact_match"]
        typed += [f"optimizer.lr={draw.choice((1e-4, 3e-4))}", "eval.sample=16"]
        data = {"train": rows(draw), "validation": rows(draw, 48)}
        reported = issues(run(folder, f"real-{number}", typed, data, None))
        if reported:
            accused.append((typed, reported))
    return few(accused, count)


if __name__ == "__main__":
    command_line(__doc__, PLANTS, judge, plain, real)
