"""Preferences against each other: rows that contradict others, and the numbers of prompts, completions and pairs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import Any

import numpy as np

from kamerton.data.check.duplicates import report_rows
from kamerton.data.faults import FaultLog
from kamerton.data.store import Index, Store
from kamerton.data.stored import hash64
from kamerton.errors import Fault

Order = tuple[int, int]  # the hashes of a better and a worse completion
JUDGED = 0  # in place of the other completion of one that is judged alone


def drop_opposites(store: Store, rows: Index, log: FaultLog) -> Index:
    """Report rows that prefer the completion of a prompt that another row rejects, or judge one completion otherwise.

    Returns `rows` without them if the policy drops them.
    """
    prompts = store.column("prompt_key")[rows]
    _, inverse, counts = np.unique(prompts, return_inverse=True, return_counts=True)
    repeated = np.flatnonzero(counts[inverse] > 1)
    orders = [
        (int(i), (int(prompt), tools), list(_orders(completion, values)))
        for i, prompt, (completion, values) in zip(
            repeated, prompts[repeated], _contents(store, rows[repeated]), strict=True
        )
        for tools in [values.get("tools", "")]
    ]
    first: dict[Any, int] = {}
    for i, prompt, pairs in orders:
        for pair in pairs:
            first.setdefault((prompt, pair), i)
    opposite: dict[int, int] = {}  # the row that says the opposite
    for i, prompt, pairs in orders:
        for better, worse in pairs:
            other = first.get((prompt, (worse, better)))
            if other is not None:
                opposite.setdefault(i, other)
    index = np.array(sorted(opposite), np.int64)
    others = [int(rows[opposite[int(i)]]) for i in index]
    message, fix = "{other} prefers the same completions the other way round", "decide which completion is better"
    dropped = report_rows(store, rows[index].tolist(), log, "contradiction", message, fix, others)
    return np.delete(rows, index) if dropped else rows


def check_judgements(store: Store, splits: Mapping[str, Index], file: str, log: FaultLog) -> None:
    """Warn of splits whose completions are all desired, or all undesired; `file` is for messages."""
    for name, rows in splits.items():
        counts = count_preferences(store, rows, judged=True)
        for kind, label in (("desired", "true"), ("undesired", "false")):
            if counts["completions"] and not counts[kind]:
                message = f"the {name} split has no {kind} completion, and KTO learns from the difference of both kinds"
                fix = f"add rows with the label {label}"
                if name != "train":
                    message = f"the {name} split has no {kind} completion, so its metrics are of the other kind alone"
                    fix += ", or choose another split.seed"
                elif kind == "undesired":
                    fix += "; to learn from good completions alone, remove the labels and leave out objective=kto"
                log.add(Fault("label-missing", message, fix, file, column="label"))


def count_preferences(store: Store, rows: Index, *, judged: bool) -> dict[str, int]:
    """Return the numbers of prompts, completions, and pairs of different scores, or of desired completions and others.

    With `judged`, each completion counts alone: of several of a prompt the best are desired.
    """
    counts = {"prompts": len(np.unique(store.column("prompt_key")[rows])), "completions": 0}
    kinds = ("desired", "undesired") if judged else ("pairs",)
    counts |= dict.fromkeys(kinds, 0)
    for _, values in _contents(store, rows):
        scores = [values["score"], *(other[1] for other in values["alternatives"])]
        counts["completions"] += len(scores)
        if judged:
            best = sum(score == max(scores) for score in scores) if len(scores) > 1 else int(scores[0] > 0)
            counts["desired"] += best
            counts["undesired"] += len(scores) - best
        else:
            counts["pairs"] += sum(a != b for a, b in combinations(scores, 2))
    return counts


def _contents(store: Store, rows: Index) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the completion of each row and its further fields."""
    texts = store.take("completion", rows).to_pylist()
    for text, extras in zip(texts, store.take("extras", rows).to_pylist(), strict=True):
        yield text, json.loads(extras)


def _orders(completion: str, values: dict[str, Any]) -> Iterator[Order]:
    """Yield the better and the worse completion of each pair of a row, or its judgement."""
    best = [completion, values["score"], values.get("reasoning", ""), values.get("tool_calls", [])]
    answers = [
        (hash64(json.dumps([text, reasoning, calls]).encode()), score)
        for text, score, reasoning, calls in (best, *values["alternatives"])
    ]
    if len(answers) == 1:
        (answer, score), *_ = answers
        yield (answer, JUDGED) if score > 0 else (JUDGED, answer)
    for (a, score), (b, other) in combinations(answers, 2):
        if score != other:
            yield (a, b) if score > other else (b, a)
