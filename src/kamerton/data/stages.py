"""The stages of the data gate after reading: each takes the rows that are left and says which it keeps."""

from __future__ import annotations

from typing import Any

import numpy as np

from kamerton.data.check.duplicates import cached_clusters, drop_leaks, drop_near, first_of_each, report_rows
from kamerton.data.faults import FaultLog
from kamerton.data.options import DataFile, DataOptions, SplitOptions
from kamerton.data.read.rows import StoredRows
from kamerton.data.read.sources import SPLITS
from kamerton.data.splits.assign import FOLD_SALT, Keys, Places, assign, assign_by_time, fold
from kamerton.data.splits.balance import balanced, mixed
from kamerton.data.splits.folds import even_folds, units
from kamerton.data.splits.keys import group_keys
from kamerton.data.splits.times import times
from kamerton.data.store import Index, Store
from kamerton.errors import Fault

FEW = 20  # rows in a split


def one_schema(stored: StoredRows, log: FaultLog) -> tuple[Index, dict[str, Any]]:
    """All rows but those whose schema is not that of most rows of their source; and the count of each schema."""
    store, schemas = stored.store, stored.reading.schemas
    number = store.column("schema")
    counts = np.bincount(number, minlength=len(schemas))
    usual: dict[str, int] = {}
    for i, (source, _) in enumerate(schemas):
        if source not in usual or counts[i] > counts[usual[source]]:
            usual[source] = i
    keep = np.ones(len(number), bool)
    for row in np.flatnonzero(~np.isin(number, list(usual.values()))).tolist():
        source, schema = schemas[number[row]]
        file, at = store.place(row)
        message = f"the row is {schema}; most of the data is {schemas[usual[source]][1]}"
        fix = "write all rows in one schema, name the columns (data.columns), or make it a source of its own"
        keep[row] = log.row([Fault("mixed-schemas", message, fix, file, at)])
    found = {s: {name: int(counts[i]) for i, (t, name) in enumerate(schemas) if t == s} for s in usual}
    return np.flatnonzero(keep), found


def is_cut_here(options: DataOptions) -> bool:
    """True if the rows are yet to be split, False if the files say which split is theirs."""
    return bool(options.path or options.sources)


def is_crossed(split: SplitOptions) -> bool:
    """True if every row is held out in one of the folds."""
    return bool(split.folds) and split.held_out == "test"


def places_of(store: Store, rows: Index, options: DataOptions, split: SplitOptions, log: FaultLog) -> Places:
    """The split of each row (0 train, 1 validation, 2 test): its file's, or by the split options.

    Where all rows are to be crossed (`cross`), those of a test file are 2 and all others 0.
    """
    places: Places = store.column("split")[rows].astype(np.int8)
    if is_crossed(split):
        return np.where(places == 2, 2, 0).astype(np.int8)
    groups = group_keys(store, rows, split.group, log)
    strata = group_keys(store, rows, split.stratify, log) if split.stratify else None
    if is_cut_here(options):
        if split.time:
            places = assign_by_time(times(store, rows, split.time, log), split.ratios)
        else:
            places = assign(groups, split.ratios, split.seed, strata)
    if split.folds:
        places = fold(groups, places, split.folds, split.fold, split.seed, strata)
    return places


def without_leaks(
    stored: StoredRows, rows: Index, places: Places, threshold: float | None, log: FaultLog
) -> tuple[Index, Places, Index | None, dict[str, Any]]:
    """Rows and their splits without exact and near duplicates across splits, and what of them there was.

    The third value is each row's cluster of near duplicates, where they were looked for.
    """
    store = stored.store
    stays, exact = drop_leaks(store, rows, store.column("prompt_key")[rows], places, log, "leakage")
    rows, places = rows[stays], places[stays]
    if threshold is None:
        return rows, places, None, {"leakage": {"exact": exact}}
    clusters = cached_clusters(store, rows, threshold, stored.folder)
    summary = _cluster_summary(store, rows, clusters)
    stays, near = drop_leaks(store, rows, clusters, places, log, "near-leakage")
    rows, places, clusters = rows[stays], places[stays], clusters[stays]
    stays = drop_near(store, rows, clusters, places, log)
    found = {"leakage": {"exact": exact, "near": near}, "near_duplicates": summary}
    return rows[stays], places[stays], clusters[stays], found


def cross(
    store: Store, rows: Index, places: Places, clusters: Index | None, split: SplitOptions, log: FaultLog
) -> tuple[Index, Places, dict[str, Any]]:
    """The rows that are in folds, their splits when fold `split.fold` is held out, and how large the folds are."""
    clusters = None if clusters is None else clusters[places != 2]
    rows = rows[places != 2]
    ids = store.column("id")[rows]
    first = first_of_each(ids)  # the same row in the files of train and of validation
    again = first != np.arange(len(rows))
    message, fix = "prompt and completion are those of {other}", "remove one of them"
    report_rows(store, rows[again].tolist(), log, "exact-duplicate", message, fix, rows[first[again]].tolist())
    rows, ids = rows[~again], ids[~again]
    near = [] if clusters is None else [clusters[~again].astype(np.uint64)]
    together = units(ids, group_keys(store, rows, split.group, log), store.column("prompt_key")[rows], *near)
    strata = group_keys(store, rows, split.stratify, log) if split.stratify else None
    number = even_folds(together, int(split.folds or 1), split.seed, strata)
    sizes = np.bincount(number, minlength=int(split.folds or 1)).tolist()
    if not all(sizes):
        message = f"{split.folds} folds of {len(np.unique(together))} groups of rows: one fold would be empty"
        fix = "choose fewer folds, or add rows; rows with one prompt, near duplicates and groups stay together"
        log.add(Fault("too-few-rows", message, fix, column="split.folds"))
    return rows, _held_out(number, together, strata, split), {"folds": sizes}


def _held_out(number: Places, together: Keys, strata: Keys | None, split: SplitOptions) -> Places:
    """The held-out fold as test; of the others a whole fraction next to its ratio validates, the rest trains."""
    result = np.where(number == split.fold, 2, 0).astype(np.int8)
    if split.ratios[1] > 0:
        rest = np.flatnonzero(number != split.fold)
        parts = max(2, round(sum(split.ratios[:2]) / split.ratios[1]))
        salt = split.seed + FOLD_SALT + 1 + split.fold
        inner = even_folds(together[rest], parts, salt, None if strata is None else strata[rest])
        result[rest[inner == 0]] = 1
    return result


def _cluster_summary(store: Store, rows: Index, clusters: Index) -> dict[str, Any]:
    """How many clusters of near duplicates there are, and the largest of them."""
    names, counts = np.unique(clusters, return_counts=True)
    large = np.flatnonzero(counts > 1)
    largest = large[np.argsort(-counts[large], kind="stable")[:5]]
    shown = []
    for i in largest.tolist():
        members = rows[clusters == names[i]][:3].tolist()
        texts = [str(store.value(row, "prompt") or store.value(row, "completion"))[-200:] for row in members]
        shown.append({"rows": int(counts[i]), "examples": texts})
    return {"clusters": len(large), "rows": int(counts[large].sum()), "largest": shown}


def split_rows(
    rows: Index, places: Places, files: list[DataFile], options: DataOptions, split: SplitOptions, log: FaultLog
) -> dict[str, Index]:
    """The rows of each split that there is to be; a fault for each that comes out empty or too small."""
    if is_cut_here(options):
        wanted = [ratio > 0 for ratio in split.ratios]
    else:
        wanted = [bool(getattr(options, name)) for name in SPLITS]
    if is_crossed(split):
        wanted = [True, split.ratios[1] > 0, True]
    wanted[1] |= bool(split.folds) and not is_crossed(split)
    result = {name: rows[places == i] for i, name in enumerate(SPLITS) if wanted[i]}
    file = str(files[0].path)
    for name, chosen in result.items():
        if not len(chosen):
            message = f"no row is left for the {name} split ({len(rows)} distinct rows in all)"
            fix = "add rows, choose another split.seed, or change split.ratios (0: no such split)"
            fix += f"; split.group={split.group} keeps rows together" if split.group else ""
            log.add(Fault("too-few-rows", message, fix, file, column="split.ratios"))
        elif len(chosen) < FEW:
            message = f"the {name} split has {len(chosen)} rows: numbers measured on it mean little"
            log.add(Fault("few-rows", message, "add rows", file, column="split.ratios"))
    return result


def training_rows(
    store: Store, train: Index, files: list[DataFile], options: DataOptions, seed: int, *, labelled: bool
) -> Index:
    """The rows an epoch goes through: mixed by the sources' weights, balanced by label."""
    ids = store.column("id")
    if options.sources:
        weights = np.array([options.sources[file.source].weight for file in files])
        train = mixed(train, weights[store.column("file")[train]], ids[train], seed)
    if labelled:
        train = balanced(train, store.column("completion_key")[train], ids[train], options.balance, seed)
    return train
