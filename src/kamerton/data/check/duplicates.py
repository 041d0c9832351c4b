"""Exact and near duplicates, prompts with contradicting labels, and leakage between splits.

All functions work on numeric columns (ids, hashes of prompts and completions), so ten million rows only need sorting.
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
    """Log a fault for each row, with the other row's location as `{other}`; return whether the rows are dropped."""
    drop = log.action(code) in ("drop", "error")
    for row, other in zip(rows, others, strict=True):
        file, number = store.location(row)
        other_location = ":".join(map(str, store.location(other)))
        log.add(Fault(code, message.format(other=other_location), fix, file, number))
        if drop:
            log.reject(file, number, code, other=other_location)
    return drop


def first_of_each(*keys: Keys) -> Index:
    """Return the position of the first row with the same keys, for each row: [rows]."""
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
    """Return `rows` without exact duplicates within the same given split."""
    first = rows[first_of_each(store.column("id")[rows], store.column("split")[rows])]
    repeated = first != rows
    dropped = report_rows(
        store,
        rows[repeated].tolist(),
        log,
        "exact-duplicate",
        "prompt and completion are those of {other}",
        "remove one of them",
        first[repeated].tolist(),
    )
    return rows[~repeated] if dropped else rows


def drop_contradictions(store: Store, rows: Index, log: FaultLog) -> Index:
    """Report prompts with several labels; return `rows` without them if the policy drops them."""
    prompt, label = store.column("prompt_key")[rows], store.column("completion_key")[rows]
    first = first_of_each(prompt)
    differs = label[first] != label
    contradicts = np.isin(first, first[differs])
    index = np.flatnonzero(contradicts)
    other = np.where(differs, first, -1)
    other[first[differs]] = np.flatnonzero(differs)  # for the first row of a prompt: a row with another label
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
    rest = np.flatnonzero(contradicts & (other < 0))  # agree with the first row, but their prompt has several labels
    for row in rows[rest].tolist():
        log.reject(*store.location(row), "contradiction")
    return rows[~contradicts]


def cached_clusters(store: Store, rows: Index, threshold: float, folder: Path) -> Index:
    """Return `near_clusters`, cached in `folder`."""
    key = hashlib.blake2b(f"{threshold} ".encode() + rows.tobytes(), digest_size=8).hexdigest()
    path = folder / f"near-{key}.npy"
    if path.exists():
        cached: Index = np.load(path)
        return cached
    clusters = near_clusters(store, rows, threshold)
    with tempfile.NamedTemporaryFile(dir=folder, suffix=".npy", delete=False) as part:
        np.save(part, clusters)
    os.replace(part.name, path)
    return clusters


def drop_near(store: Store, rows: Index, clusters: Index, split: npt.NDArray[np.int8], log: FaultLog) -> Mask:
    """Report near duplicates within a split; return the mask of the rows to keep: [rows]."""
    first = first_of_each(clusters, split)
    repeated = first != np.arange(len(rows))
    dropped = report_rows(
        store,
        rows[repeated].tolist(),
        log,
        "near-duplicate",
        "nearly the same words as {other}",
        "keep one of them, or set data.policy.near-duplicate=drop",
        rows[first[repeated]].tolist(),
    )
    return ~repeated if dropped else np.ones(len(rows), bool)


def drop_leaks(
    store: Store, rows: Index, keys: Keys, split: npt.NDArray[np.int8], log: FaultLog, code: str
) -> tuple[Mask, dict[str, int]]:
    """Report rows whose key also occurs in a later split (validation, test); rows are dropped from the earlier split.

    Returns the mask of the rows to keep ([rows]), and the number of leaking rows for each pair of splits.
    """
    names = ("train", "validation", "test")
    kept = np.ones(len(rows), bool)
    counts: dict[str, int] = {}
    what = "the prompt" if code == "leakage" else "a near duplicate"
    for late in (2, 1):
        late_rows = np.flatnonzero(split == late)
        order = late_rows[np.argsort(keys[late_rows], kind="stable")]
        for early in range(late):
            early_rows = np.flatnonzero((split == early) & kept)
            position = np.searchsorted(keys[order], keys[early_rows])
            leaks = position < len(order)
            leaks[leaks] = keys[order[position[leaks]]] == keys[early_rows[leaks]]
            if not leaks.any():
                continue
            counts[f"{names[early]} and {names[late]}"] = int(leaks.sum())
            message = f"{what} of this {names[early]} row is in {names[late]}: {{other}}"
            fix = f"remove it from {names[early]}"
            others = rows[order[position[leaks]]].tolist()
            if report_rows(store, rows[early_rows[leaks]].tolist(), log, code, message, fix, others):
                kept[early_rows[leaks]] = False
    return kept, counts
