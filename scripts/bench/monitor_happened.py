"""Which faults happened in a run of monitor_plants.py, by its texts, and log-probabilities and answers after it.

The rules are apart from those of the detectors, which see neither. A fault has a degree: it happened from 1 on; below
0.5 a report of it is false; between them, a run counts neither way.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from kamerton.monitor.series import read_rows
from kamerton.score.table import read_scores

ENDS = 20  # steps
WORDS = ("wren", "xeno", "yarn", "zinc")
ANSWER = re.compile(rf"({'|'.join(WORDS)})( ok)*( o?)?")  # also one that was cut off
WITHOUT_REFERENCE = ("simpo", "orpo")
Degrees = dict[str, float]


def is_right(answer: str, word: str) -> bool:
    """Whether an answer begins with the word and is whole: nothing but words of the language."""
    return answer.startswith(word) and ANSWER.fullmatch(answer) is not None


def ends(values: Sequence[float]) -> tuple[float, float]:
    """The means of the first and of the last values."""
    known = [value for value in values if np.isfinite(value)]
    return float(np.mean(known[: ENDS // 2])), float(np.mean(known[-ENDS:]))


def column(path: Path, name: str) -> list[float]:
    return [row[name] for _, row in read_rows(path / "metrics.csv") if name in row]


def of_rewards(path: Path) -> tuple[Degrees, str]:
    """The faults of a run on rewards, and the numbers that show them.

    length-hacking: answers are a third longer and better rewarded, and not more often right. no-signal: equal rewards
    in 90 % of the groups of the whole run, which has not collapsed. policy-collapse: the reward lost a fifth from its
    best 20 steps, and the answers of a prompt three quarters of their variety; or it lost nine tenths. kl-runaway: over
    2 nats per token at the end without reward, and most answers broken.
    """
    lines = [json.loads(line) for line in (path / "samples.jsonl").read_text().splitlines()]
    prompts = {(line["step"], line["example_id"]): line["prompt"] for line in lines if "prompt" in line}
    for line in lines:
        word = WORDS["ABCD".index(prompts[line["step"], line["example_id"]][-1])]
        line |= {"right": is_right(line["completion"], word), "whole": bool(ANSWER.fullmatch(line["completion"]))}
    steps = [list(step) for _, step in groupby(lines, lambda line: line["step"])]
    groups = [[list(group) for _, group in groupby(step, lambda line: line["example_id"])] for step in steps]

    def mean(key: str) -> list[float]:
        return [float(np.mean([line[key] for line in step])) for step in steps]

    def by_group(value: Callable[[list[dict[str, Any]]], float]) -> list[float]:
        return [float(np.mean([value(group) for group in step])) for step in groups]

    equal = float(np.mean(by_group(lambda group: len({line["reward"] for line in group}) == 1)))
    variety = ends(by_group(lambda group: len({line["completion"] for line in group})))
    reward, length, right, whole = mean("reward"), ends(mean("tokens")), ends(mean("right")), ends(mean("whole"))[1]
    best = max(float(np.mean(reward[at : at + ENDS])) for at in range(max(1, len(reward) - ENDS + 1)))
    (first, last), kl = ends(reward), ends(column(path, "train/kl") or [0.0])[1]
    gained = right[1] - right[0]
    lost, uniform = 1 - last / best if best > 0 else 0.0, variety[1] < 0.25 * variety[0]
    collapsed = max(lost / 0.2 * uniform, lost / 0.9)
    degrees = {
        "length-hacking": (length[1] / length[0] - 1)
        / 0.3
        * (last > 1.1 * first)
        * (1 if gained < 0.05 else gained < 0.1 and 0.5),
        "no-signal": equal / 0.9 * (collapsed < 1),
        "policy-collapse": collapsed,
        "kl-runaway": kl / 2 * (last < first + 0.02) * (whole < 0.5),
    }
    text = f"reward {first:.2f} {best:.2f} {last:.2f}, tokens {length[0]:.0f} {length[1]:.0f}, right {right[0]:.2f}"
    text += f" {right[1]:.2f}, whole {whole:.2f}, distinct {variety[0]:.1f} {variety[1]:.1f}, kl {kl:.2g},"
    return degrees, f"{text} equal {equal:.2f}"


def of_preferences(path: Path, start: Path) -> tuple[Degrees, str]:
    """The faults of a run on preferences that began at the run `start`, and the numbers that show them.

    chosen-falling: chosen completions of the validation data lost 0.2 nats per token while their margin rose: since
    before training, or since the best validation if the objective has no reference.
    kl-runaway: training pairs are a nat per token from the reference, and most answers are broken. length-drift:
    answers are a third longer, and not because they are broken. margin-saturated: every validation since the middle of
    the run met all pairs, and the loss of its second half is below a hundredth. no-preference: the last validation met
    less than 60 % of the pairs (70 %: a report is not false).
    """

    def written(scores: Path) -> tuple[float, float]:
        texts = [str(text) for text in read_scores(scores)["prediction"].to_pylist()]
        return float(np.mean([len(text) for text in texts])), float(np.mean([bool(ANSWER.fullmatch(t)) for t in texts]))

    (before, _), (after, whole) = written(start / "scores" / "test.parquet"), written(path / "scores" / "task.parquet")
    drift, loss = ends(column(path, "train/drift") or [0.0])[1], column(path, "train/loss")
    margins, accuracies = column(path, "val/margin"), column(path, "val/preference_accuracy")
    side = "chosen" if column(path, "val/length_chosen") else "desired"
    length = column(path, f"val/length_{side}")[-1]
    objective = yaml.safe_load((path / "config.yaml").read_text())["objective"]
    if objective["name"] in WITHOUT_REFERENCE:
        logprobs = column(path, "val/logprob_chosen")
        fallen = (max(logprobs) - logprobs[-1]) / length
    else:  # since before training
        fallen = -column(path, f"val/reward_{side}")[-1] / objective["beta"] / length
    is_saturated = min(accuracies[len(accuracies) // 2 - 1 :]) == 1
    far = drift * (whole < 0.5)
    degrees = {
        "chosen-falling": fallen / 0.2 * (margins[-1] > margins[0]),
        "kl-runaway": far,
        "length-drift": (after / before - 1) / 0.3 * (far < 1),
        "margin-saturated": 0.01 / float(np.mean(loss[len(loss) // 2 :]) / loss[0]) * is_saturated,
        "no-preference": float(accuracies[-1] < 0.6) or 0.5 * (accuracies[-1] < 0.7),
    }
    text = (
        f"characters {before:.0f} {after:.0f}, whole {whole:.2f}, drift {drift:.2g}, chosen fell {fallen:.2g} nats per"
    )
    return degrees, f"{text} token, margin {margins[-1]:.2g}, loss {ends(loss)[1]:.2g}, accuracy {accuracies[-1]:.2f}"
