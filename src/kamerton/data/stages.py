"""The stages of the data gate after reading: each takes the remaining rows and returns those it keeps."""

from __future__ import annotations

from typing import Any

import numpy as np

from kamerton.data.check.duplicates import cached_clusters, drop_leaks, drop_near, first_of_each, report_rows
from kamerton.data.data_file import DataFile
from kamerton.data.data_report import DataReport
from kamerton.data.faults import FaultLog
from kamerton.data.options import DataOptions, SplitOptions
from kamerton.data.read.columns.layout import PROMPTS
from kamerton.data.read.rows import StoredRows
from kamerton.data.read.sources import SPLITS
from kamerton.data.splits.assign import FOLD_SALT, Assignment, assign, assign_by_time, assign_fold
from kamerton.data.splits.balance import balance_labels, mix_sources
from kamerton.data.splits.folds import connected_groups, even_folds
from kamerton.data.splits.keys import group_keys, strata_keys
from kamerton.data.splits.times import field_times
from kamerton.data.store import Index, Store
from kamerton.errors import Fault

MIN_ROWS = 20  # of a split, without a warning


def drop_mixed_schemas(stored: StoredRows, log: FaultLog) -> tuple[Index, dict[str, dict[str, int]]]:
    """Keep the rows of the most frequent schema of each source; return them and the row count of each schema.

    Prompts alone are compared with each other: rows with completions may stand among them.
    """
    store, schemas = stored.store, stored.reading.schemas
    number = store.column("schema")
    counts = np.bincount(number, minlength=len(schemas))
    usual: dict[tuple[str, bool], int] = {}
    for i, (source, schema) in enumerate(schemas):
        key = source, schema.startswith(PROMPTS)
        if key not in usual or counts[i] > counts[usual[key]]:
            usual[key] = i
    keep = np.ones(len(number), bool)
    for row in np.flatnonzero(~np.isin(number, list(usual.values()))).tolist():
        source, schema = schemas[number[row]]
        file, at = store.location(row)
        message = f"the row is {schema}; most of the data is {schemas[usual[source, schema.startswith(PROMPTS)]][1]}"
        fix = "write all rows in one schema, name the columns (data.columns), or make it a separate source"
        keep[row] = log.add_row([Fault("mixed-schemas", message, fix, file, at)])
    by_source: dict[str, dict[str, int]] = {source: {} for source, _ in usual}
    for i, (source, name) in enumerate(schemas):
        by_source[source][name] = int(counts[i])
    return np.flatnonzero(keep), by_source


def needs_split(options: DataOptions, files: list[DataFile]) -> bool:
    """Return True if rows must be split, False if each file belongs to a split."""
    is_given = bool(files) and all(file.split for file in files)
    return bool(options.path or options.sources or options.prompt_file) and not is_given


def is_cross_validated(split: SplitOptions) -> bool:
    """Return True if each row is held out in one of the folds (cross-validation)."""
    return bool(split.folds) and split.held_out == "test"


def assign_rows(
    store: Store, rows: Index, split: SplitOptions, log: FaultLog, *, kind: str, from_files: bool
) -> Assignment:
    """Return each row's split (0 train, 1 validation, 2 test): that of its file if `from_files`, else by the options.

    For cross-validation (see `assign_folds`), rows of a test file are 2 and all others 0. `kind` is `DataOptions.rows`.
    """
    assignment: Assignment = store.column("split")[rows].astype(np.int8)
    if is_cross_validated(split):
        return np.where(assignment == 2, 2, 0).astype(np.int8)
    groups = group_keys(store, rows, split.group, log)
    strata = strata_keys(store, rows, split.stratify, kind, log)
    if not from_files:
        if split.time:
            assignment = assign_by_time(field_times(store, rows, split.time, log), split.ratios)
        else:
            assignment = assign(groups, split.ratios, split.seed, strata)
    if split.folds:
        assignment = assign_fold(groups, assignment, split.folds, split.fold, split.seed, strata)
    return assignment


def drop_leaked(
    stored: StoredRows, rows: Index, assignment: Assignment, threshold: float | None, log: FaultLog, report: DataReport
) -> tuple[Index, Assignment, Index | None]:
    """Drop exact and near duplicates across splits, and near duplicates within a split.

    Returns rows, their splits, and each row's cluster of near duplicates (None without a threshold); adds the counts to
    `report`.
    """
    store = stored.store
    kept, exact = drop_leaks(store, rows, store.column("prompt_key")[rows], assignment, log, "leakage")
    rows, assignment = rows[kept], assignment[kept]
    report.leakage = {"exact": exact}
    if threshold is None:
        return rows, assignment, None
    clusters = cached_clusters(store, rows, threshold, stored.folder)
    report.near_duplicates = _cluster_summary(store, rows, clusters)
    kept, report.leakage["near"] = drop_leaks(store, rows, clusters, assignment, log, "near-leakage")
    rows, assignment, clusters = rows[kept], assignment[kept], clusters[kept]
    kept = drop_near(store, rows, clusters, assignment, log)
    return rows[kept], assignment[kept], clusters[kept]


def assign_folds(
    store: Store,
    rows: Index,
    assignment: Assignment,
    clusters: Index | None,
    split: SplitOptions,
    log: FaultLog,
    *,
    kind: str,
) -> tuple[Index, Assignment, list[int]]:
    """Divide rows into folds; return the rows outside test files, their splits, and the fold sizes.

    Fold `split.fold` is the test split; one of n equal parts of the other folds is the validation split, where 1/n is
    nearest to its ratio.
    """
    clusters = None if clusters is None else clusters[assignment != 2]
    rows = rows[assignment != 2]
    ids = store.column("id")[rows]
    first = first_of_each(ids)  # the same row in the files of train and of validation
    repeated = first != np.arange(len(rows))
    message, fix = "prompt and completion are those of {other}", "remove one of them"
    report_rows(store, rows[repeated].tolist(), log, "exact-duplicate", message, fix, rows[first[repeated]].tolist())
    rows, ids = rows[~repeated], ids[~repeated]
    near = [] if clusters is None else [clusters[~repeated].astype(np.uint64)]
    groups = connected_groups(ids, group_keys(store, rows, split.group, log), store.column("prompt_key")[rows], *near)
    strata = strata_keys(store, rows, split.stratify, kind, log)
    fold = even_folds(groups, int(split.folds or 1), split.seed, strata)
    sizes = np.bincount(fold, minlength=int(split.folds or 1)).tolist()
    if not all(sizes):
        message = f"{split.folds} folds of {len(np.unique(groups))} groups of rows: one fold would be empty"
        fix = "choose fewer folds, or add rows; rows with one prompt, near duplicates and groups stay together"
        log.add(Fault("too-few-rows", message, fix, column="split.folds"))
    result = np.where(fold == split.fold, 2, 0).astype(np.int8)
    if split.ratios[1] > 0:
        others = np.flatnonzero(fold != split.fold)
        parts = max(2, round(sum(split.ratios[:2]) / split.ratios[1]))
        seed = split.seed + FOLD_SALT + 1 + split.fold
        part = even_folds(groups[others], parts, seed, None if strata is None else strata[others])
        result[others[part == 0]] = 1
    return rows, result, sizes


def _cluster_summary(store: Store, rows: Index, clusters: Index) -> dict[str, Any]:
    """Return the number of clusters of near duplicates, their rows, and the five largest with example texts."""
    names, counts = np.unique(clusters, return_counts=True)
    large = np.flatnonzero(counts > 1)
    largest = large[np.argsort(-counts[large], kind="stable")[:5]]
    entries = []
    for i in largest.tolist():
        members = rows[clusters == names[i]][:3].tolist()
        texts = [str(store.value(row, "prompt") or store.value(row, "completion"))[-200:] for row in members]
        entries.append({"rows": int(counts[i]), "examples": texts})
    return {"clusters": len(large), "rows": int(counts[large].sum()), "largest": entries}


def split_rows(
    rows: Index,
    assignment: Assignment,
    files: list[DataFile],
    options: DataOptions,
    split: SplitOptions,
    log: FaultLog,
    *,
    labelled: bool,
) -> dict[str, Index]:
    """Return the rows of each configured split; log a fault for each empty one, and one for all that are small."""
    if is_cross_validated(split):
        configured = [True, split.ratios[1] > 0, True]
    elif needs_split(options, files):
        configured = [ratio > 0 for ratio in split.ratios]
    else:
        configured = [any(file.split == name for file in files) for name in SPLITS]
    configured[1] |= bool(split.folds) and not is_cross_validated(split)
    result = {name: rows[assignment == i] for i, name in enumerate(SPLITS) if configured[i]}
    file = files[0].name
    for name, chosen in result.items():
        if not len(chosen):
            message = f"no row is left for the {name} split ({len(rows)} distinct rows in all)"
            fix = "add rows, choose another split.seed, or change split.ratios (0: no such split)"
            fix += f"; split.group={split.group} keeps rows together" if split.group else ""
            log.add(Fault("too-few-rows", message, fix, file, column="split.ratios"))
    few = [f"{len(chosen)} in the {name} split" for name, chosen in result.items() if 0 < len(chosen) < MIN_ROWS]
    if few:
        message = f"few rows: {', '.join(few)}; numbers measured on so few mean little"
        is_by_chance = needs_split(options, files) and not (split.folds or split.stratify or split.time)
        exact = "; split.stratify=label gives every split its exact share of every label"
        fix = "add rows" + exact * (labelled and is_by_chance)
        log.add(Fault("few-rows", message, fix, file, column="split.ratios"))
    return result


def training_rows(
    store: Store, train: Index, files: list[DataFile], options: DataOptions, seed: int, *, labelled: bool
) -> Index:
    """Return the rows of an epoch: repeated by the weights of their sources, then balanced by label."""
    ids = store.column("id")
    if options.sources:
        weights = np.array([options.sources[file.source].weight for file in files])
        train = mix_sources(train, weights[store.column("file")[train]], ids[train], seed)
    if labelled:
        train = balance_labels(train, store.column("completion_key")[train], ids[train], options.balance, seed)
    return train
