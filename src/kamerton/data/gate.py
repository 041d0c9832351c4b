"""The data gate: read → check → clean → de-duplicate → split → balance; every fault listed before anything trains."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kamerton.data.check.duplicates import drop_contradictions, drop_exact
from kamerton.data.check.labels import (
    Counts,
    check_labels,
    count_completions,
    drop_unknown,
    find_labels,
    find_spellings,
    mend_spellings,
)
from kamerton.data.check.outliers import drop_outliers
from kamerton.data.faults import FaultLog
from kamerton.data.options import DataFile, DataOptions, SplitOptions
from kamerton.data.read.ingest import report_unused
from kamerton.data.read.rows import LOGS, StoredRows, digest, log_files, stored_rows
from kamerton.data.read.sources import find_files
from kamerton.data.splits.balance import label_weights
from kamerton.data.stages import (
    cross,
    is_crossed,
    is_cut_here,
    one_schema,
    places_of,
    split_rows,
    training_rows,
    without_leaks,
)
from kamerton.data.store import Examples, Index, TemporaryFolder
from kamerton.errors import Fault, UserError


@dataclass(frozen=True)
class Prepared:
    """Checked examples by split, with the report of how they came about.

    `labels` are the sorted label names, or None for free text; `label_weights` their weights in the loss if
    `data.balance` asks for them. `fingerprint` identifies which examples are in which split. `folder` holds
    faults.jsonl (every fault) and rejects.jsonl (every row dropped or mended, with the reason).
    """

    splits: dict[str, Examples]
    labels: list[str] | None
    report: dict[str, Any]
    fingerprint: str
    folder: Path
    label_weights: dict[str, float] | None = None


class DataError(UserError):
    """The data cannot be used. `report` says what is known of them, `folder` holds what `Prepared.folder` does."""

    def __init__(
        self, faults: Iterable[Fault], report: dict[str, Any], folder: Path, keep_alive: object = None
    ) -> None:
        super().__init__(faults)
        self.report, self.folder, self._keep_alive = report, folder, keep_alive


def prepare(options: DataOptions, split: SplitOptions | None = None, *, cache: Path | None = None) -> Prepared:
    """Read, check and split data.

    Args:
        options: the data.
        split: how they are split; by default 70, 15 and 15 %.
        cache: a folder that keeps rows, memory-mapped, between calls; by default a temporary one that lives as long as
            the result.

    Returns:
        `Prepared`: `splits` by name, `labels`, the `report`, and a `fingerprint` of what is in which split.

    Raises:
        DataError: a `UserError` with every fault of the data.

    Example:
        >>> from kamerton import DataOptions, prepare
        >>> prepared = prepare(DataOptions(path="questions.jsonl"))
        >>> prepared.labels
        ['no', 'yes']
        >>> type(prepared.splits["train"][0]).__name__
        'DataExample'
    """
    split = split or SplitOptions()
    files, missing = find_files(options)
    keep_alive = None
    if cache is None:
        keep_alive = TemporaryFolder()
        cache = keep_alive.path
    folder = cache / "prepared" / digest([asdict(options), asdict(split), [str(file.path) for file in files]])
    report = _nothing_yet(options, split)
    with log_files(folder) as part:
        log = FaultLog(options.policy, part, None if keep_alive else folder / LOGS[0])
        try:
            for fault in missing:
                log.add(fault)
            log.raise_errors()
            examples, names, weights = _stages(options, split, files, cache, log, report, keep_alive)
        except UserError as error:
            raise DataError(error.faults, report | log.outcome(), folder, keep_alive) from None
        finally:
            log.flush()
    contents = {name: part.fingerprint for name, part in examples.items()}
    report |= log.outcome() | {"valid": True, "labels": names, "label_weights": weights}
    report["fingerprint"] = digest([contents, names, weights])
    return Prepared(examples, names, report, report["fingerprint"], folder, weights)


def _nothing_yet(options: DataOptions, split: SplitOptions) -> dict[str, Any]:
    """The report before a file is read; the stages add to it."""
    return {
        "name": options.name,
        "valid": False,
        "fingerprint": "",
        "files": {},
        "schemas": {},
        "unused": {},
        "counts": {"rows read": 0},
        "lengths": {},
        "leakage": {},
        "labels": None,
        "label_distribution": None,
        "seed": split.seed,
        "split": asdict(split),
        "split_given": not is_cut_here(options),
        "balance": options.balance,
    }


def _stages(
    options: DataOptions,
    split: SplitOptions,
    files: list[DataFile],
    cache: Path,
    log: FaultLog,
    report: dict[str, Any],
    keep_alive: object,
) -> tuple[dict[str, Examples], list[str] | None, dict[str, float] | None]:
    """One after the other, adding to the report; the examples by split, the labels and their weights.

    Rows that cannot be used end nothing at once: the others are looked at first, so that all faults are told together.
    """
    stored, rows, labels = _distinct_rows(options, split, files, cache, log, report, keep_alive)
    store = stored.store
    if labels:
        rows = drop_contradictions(store, rows, log)
    rows, report["lengths"] = drop_outliers(store, rows, log, forms=labels is None)
    rows = rows[np.argsort(store.column("id")[rows], kind="stable")]  # the order of the files does not matter
    errors = log.errors
    places = places_of(store, rows, options, split, log)
    if log.errors > errors:  # without a row's group or time nothing can be said of splits
        log.raise_errors()
    rows, places, clusters, found = without_leaks(stored, rows, places, options.near_duplicates, log)
    report |= found
    if is_crossed(split):
        rows, places, found = cross(store, rows, places, clusters, split, log)
        report |= found
    log.raise_errors()
    splits = split_rows(rows, places, files, options, split, log)
    log.raise_errors()
    counts = {name: count_completions(store, chosen) for name, chosen in splits.items()} if labels else None
    names = _label_names(options, counts, str(files[0].path), log)
    log.raise_errors()
    report["label_distribution"] = counts
    train = training_rows(store, splits["train"], files, options, split.seed, labelled=bool(labels))
    report["counts"] |= _resampled(splits["train"], train)
    pool = np.sort(rows)
    examples = {name: Examples(store, chosen, pool) for name, chosen in (splits | {"train": train}).items()}
    report["counts"] |= {name: len(part) for name, part in examples.items()}
    return examples, names, label_weights(counts["train"]) if counts and options.balance == "weights" else None


def _distinct_rows(
    options: DataOptions,
    split: SplitOptions,
    files: list[DataFile],
    cache: Path,
    log: FaultLog,
    report: dict[str, Any],
    keep_alive: object,
) -> tuple[StoredRows, Index, Counts | None]:
    """Read, of one schema, without duplicates, labels spelt one way; and how often each label stands among them."""
    stored = stored_rows(files, cache, log, {}, keep_alive)
    report["files"] = stored.reading.rows
    report["counts"] = {"rows read": sum(stored.reading.rows.values())}
    report["unused"] = {name: seen.rows for name, seen in stored.reading.unused.items()}
    report_unused(stored.reading, (split.group, split.stratify, split.time), log)
    if not stored.store.rows:
        log.raise_errors()
    rows, labels = _distinct(stored, options, log, report)
    relabel = find_spellings(stored.store, rows, labels, log) if labels and isinstance(options.labels, str) else {}
    if labels and relabel:
        mend_spellings(stored.store, rows, relabel, log)
        # The same rows at the same places.
        stored = stored_rows(files, cache, log, relabel, keep_alive, stored.contents)
        usable = len(rows)
        rows = drop_exact(stored.store, rows, log)
        labels = count_completions(stored.store, rows)
        report["relabelled"] = relabel
        report["counts"]["exact duplicates removed"] += usable - len(rows)
        report["counts"]["distinct"] = len(rows)
    return stored, rows, labels


def _resampled(before: Index, after: Index) -> dict[str, int]:
    """What balance and weights of sources made of the training rows, where they changed them."""
    left_out, distinct = len(np.setdiff1d(before, after)), len(np.unique(after))
    found = {"train rows sampled out": left_out, "train rows repeated": len(after) - distinct}
    return {name: count for name, count in found.items() if count}


def _distinct(
    stored: StoredRows, options: DataOptions, log: FaultLog, report: dict[str, Any]
) -> tuple[Index, Counts | None]:
    """Rows of one schema without exact duplicates, and how often each label stands among them."""
    store = stored.store
    rows, report["schemas"] = one_schema(stored, log)
    usable = len(rows)
    rows = drop_exact(store, rows, log)
    report["counts"] |= {"usable": usable, "exact duplicates removed": usable - len(rows), "distinct": len(rows)}
    labels = find_labels(store, rows, options.labels)
    if labels is not None and isinstance(options.labels, list):
        rows = drop_unknown(store, rows, options.labels, labels, log)
        labels = {label: labels.get(label, 0) for label in options.labels}
    if labels is None and options.balance != "none":
        message = f"data.balance={options.balance} needs labels, and these completions are free text"
        fix = "set data.balance=none or name the labels in data.labels"
        log.add(Fault("bad-value", message, fix, column="data.balance"))
    return rows, labels


def _label_names(options: DataOptions, counts: dict[str, Counts] | None, file: str, log: FaultLog) -> list[str] | None:
    if counts is None:
        return None
    found = {name for count in counts.values() for name in count}
    names = sorted(options.labels if isinstance(options.labels, list) else found)
    check_labels(counts, names, file, log)
    return names
