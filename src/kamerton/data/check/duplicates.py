"""Rows against rows: exact and near duplicates, one prompt with two labels, and what leaks between splits.

Everything here works on columns of numbers (ids, hashes of prompts and completions): ten million rows are a matter of
sorting.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kamerton.data.check.near import near_clusters
from kamerton.data.faults import FaultLog
from kamerton.data.store import Index, Store
from kamerton.errors import Fault

Mask = npt.NDArray[np.bool_]
Keys = npt.NDArray[Any]


def report_rows(
    store: Store, rows: Iterable[int], log: FaultLog, code: str, message: str, fix: str, others: Iterable[int]
) -> bool:
    """One fault for each row, `{other}` in the message being where the other row stands; True if rows are dropped."""
    drop = log.action(code) in ("drop", "error")
    for row, other in zip(rows, others, strict=True):
        file, number = store.place(row)
        there = ":".join(map(str, store.place(other)))
        log.add(Fault(code, message.format(other=there), fix, file, number))
        if drop:
            log.reject(file, number, code, other=there)
    return drop


def first_of_each(*keys: Keys) -> Index:
    """For each row the first row (smallest position) with the same keys: [rows]."""
    order = np.lexsort(tuple(reversed(keys)))  # stable: of equal rows the first stays first
    new = np.zeros(len(order), bool)
    new[:1] = True
    for key in keys:
        ranked = key[order]
        new[1:] |= ranked[1:] != ranked[:-1]
    first = np.empty(len(order), np.int64)
    first[order] = order[np.flatnonzero(new)][np.cumsum(new) - 1]
    return first


def drop_exact(store: Store, rows: Index, log: FaultLog) -> Index:
    """`rows` without those whose id another row of the same given split has already."""
    first = rows[first_of_each(store.column("id")[rows], store.column("split")[rows])]
    again = first != rows
    dropped = report_rows(
        store,
        rows[again].tolist(),
        log,
        "exact-duplicate",
        "prompt and completion are those of {other}",
        "remove one of them",
        first[again].tolist(),
    )
    return rows[~again] if dropped else rows


def drop_contradictions(store: Store, rows: Index, log: FaultLog) -> Index:
    """Reports prompts that have several labels."""
    prompt, label = store.column("prompt_key")[rows], store.column("completion_key")[rows]
    first = first_of_each(prompt)
    differs = label[first] != label
    guilty = np.isin(first, first[differs])
    index = np.flatnonzero(guilty)
    other = np.where(differs, first, -1)
    other[first[differs]] = np.flatnonzero(differs)  # the first row of a prompt is told of a row that differs
    index = index[other[index] >= 0]
    dropped = report_rows(
        store,
        rows[index].tolist(),
        log,
        "contradiction",
        "the prompt has another label in {other}",
        "decide for one label",
        rows[other[index]].tolist(),
    )
    if not dropped:
        return rows
    rest = np.flatnonzero(guilty & (other < 0))  # agree with the first row, whose prompt is in doubt all the same
    for row in rows[rest].tolist():
        log.reject(*store.place(row), "contradiction")
    return rows[~guilty]


def cached_clusters(store: Store, rows: Index, threshold: float, folder: Path) -> Index:
    """`near_clusters`, kept beside the rows."""
    key = hashlib.blake2b(f"{threshold} ".encode() + rows.tobytes(), digest_size=8).hexdigest()
    path = folder / f"near-{key}.npy"
    if path.exists():
        found: Index = np.load(path)
        return found
    clusters = near_clusters(store, rows, threshold)
    with tempfile.NamedTemporaryFile(dir=folder, suffix=".npy", delete=False) as part:
        np.save(part, clusters)
    os.replace(part.name, path)
    return clusters


def drop_near(store: Store, rows: Index, clusters: Index, split: npt.NDArray[np.int8], log: FaultLog) -> Mask:
    """Reports near duplicates within a split; True for each row that stays."""
    first = first_of_each(clusters, split)
    again = first != np.arange(len(rows))
    dropped = report_rows(
        store,
        rows[again].tolist(),
        log,
        "near-duplicate",
        "nearly the same words as {other}",
        "keep one of them, or set data.policy.near-duplicate=drop",
        rows[first[again]].tolist(),
    )
    return ~again if dropped else np.ones(len(rows), bool)


def drop_leaks(
    store: Store, rows: Index, keys: Keys, split: npt.NDArray[np.int8], log: FaultLog, code: str
) -> tuple[Mask, dict[str, int]]:
    """Reports rows whose key also is in a later split (validation, test); what is dropped, the earlier split loses.

    Returns which rows stay, and how many of each split leak into a later one.
    """
    names = ("train", "validation", "test")
    stays = np.ones(len(rows), bool)
    found: dict[str, int] = {}
    what = "the prompt" if code == "leakage" else "a near duplicate"
    for late in (2, 1):
        later = np.flatnonzero(split == late)
        order = later[np.argsort(keys[later], kind="stable")]
        for early in range(late):
            here = np.flatnonzero((split == early) & stays)
            place = np.searchsorted(keys[order], keys[here])
            hit = place < len(order)
            hit[hit] = keys[order[place[hit]]] == keys[here[hit]]
            if not hit.any():
                continue
            found[f"{names[early]} and {names[late]}"] = int(hit.sum())
            message = f"{what} of this {names[early]} row is in {names[late]}: {{other}}"
            fix = f"remove it from {names[early]}"
            others = rows[order[place[hit]]].tolist()
            if report_rows(store, rows[here[hit]].tolist(), log, code, message, fix, others):
                stays[here[hit]] = False
    return stays, found
