"""The data gate: read → check → clean → de-duplicate → split → balance; reports all faults before training starts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from kamerton.data.check.duplicates import drop_contradictions, drop_exact
from kamerton.data.check.labels import (
    Counts,
    check_labels,
    check_varied,
    count_completions,
    drop_unknown,
    find_labels,
    find_spellings,
    report_respelt,
)
from kamerton.data.check.outliers import drop_outliers
from kamerton.data.check.preferences import check_judgements, count_preferences, drop_opposites
from kamerton.data.data_file import DataFile
from kamerton.data.data_report import DataReport
from kamerton.data.faults import FaultLog
from kamerton.data.options import COMPARED, DataOptions, SplitOptions
from kamerton.data.read.answerless import answered_files
from kamerton.data.read.reading import report_unused
from kamerton.data.read.rows import LOGS, StoredRows, digest, log_files, stored_rows
from kamerton.data.read.sources import find_files, versions_of
from kamerton.data.splits.balance import label_weights
from kamerton.data.stages import (
    assign_folds,
    assign_rows,
    drop_leaked,
    drop_mixed_schemas,
    is_cross_validated,
    needs_split,
    split_rows,
    training_rows,
)
from kamerton.data.store import Examples, Index, TemporaryFolder
from kamerton.data.stored import NO_COMPLETION_KEY
from kamerton.errors import Fault, UserError


@dataclass(frozen=True)
class Prepared:
    """Checked examples by split, with the data report.

    `facts` is the data report, `report` its plain values. `labels` are the sorted label names, or None for free text;
    `label_weights` are their weights in the loss with `data.balance=weights`. `fingerprint` identifies which examples
    are in which split. `folder` contains faults.jsonl (every fault) and rejects.jsonl (every row dropped or fixed, with
    the reason).
    """

    splits: dict[str, Examples]
    labels: list[str] | None
    facts: DataReport
    fingerprint: str
    folder: Path
    label_weights: dict[str, float] | None = None

    @property
    def report(self) -> dict[str, Any]:
        """The data report as plain values, those of data_report.json."""
        return self.facts.to_json()


class DataError(UserError):
    """The data cannot be used. `facts` is the data report so far; `report` and `folder` are as in `Prepared`."""

    def __init__(self, faults: Iterable[Fault], facts: DataReport, folder: Path, keep_alive: object = None) -> None:
        super().__init__(faults)
        self.facts, self.folder, self._keep_alive = facts, folder, keep_alive

    @property
    def report(self) -> dict[str, Any]:
        """The data report as plain values."""
        return self.facts.to_json()


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
    if not any(fault.severity == "error" for fault in missing):
        files, unanswered = answered_files(files, options)
        missing += unanswered
    keep_alive = None
    if cache is None:
        keep_alive = TemporaryFolder()
        cache = keep_alive.path
    folder = cache / "prepared" / digest([asdict(options), asdict(split), [file.name for file in files]])
    report = DataReport(options.name, split, not needs_split(options, files), options.balance)
    report.versions = versions_of(files)
    with log_files(folder) as part:
        log = FaultLog(options.policy, part, None if keep_alive else folder / LOGS[0])
        try:
            for fault in missing:
                log.add(fault)
            log.raise_errors()
            examples, labels, weights = _run_stages(options, split, files, cache, log, report, keep_alive)
        except UserError as error:
            raise DataError(error.faults, report.with_faults(log), folder, keep_alive) from None
        finally:
            log.flush()
    contents = {name: part.fingerprint for name, part in examples.items()}
    fingerprint = digest([contents, labels, weights])
    report = replace(report.with_faults(log), valid=True, labels=labels, label_weights=weights, fingerprint=fingerprint)
    return Prepared(examples, labels, report, fingerprint, folder, weights)


def _run_stages(
    options: DataOptions,
    split: SplitOptions,
    files: list[DataFile],
    cache: Path,
    log: FaultLog,
    report: DataReport,
    keep_alive: object,
) -> tuple[dict[str, Examples], list[str] | None, dict[str, float] | None]:
    """Run the stages and add their results to the report; return the examples by split, the labels and their weights.

    Unusable rows do not stop the stages: the other rows are checked first, so that all faults are reported together.
    """
    stored, rows, label_counts = _distinct_rows(options, split, files, cache, log, report, keep_alive)
    store = stored.store
    if options.rows in COMPARED:
        rows = drop_opposites(store, rows, log)
    elif label_counts:
        rows = drop_contradictions(store, rows, log)
    alone = int((store.column("completion_key")[rows] == NO_COMPLETION_KEY).sum())
    if alone:
        report.counts["without completion"] = alone
    rows, report.lengths = drop_outliers(store, rows, log, forms=label_counts is None and not alone)
    rows = rows[np.argsort(store.column("id")[rows], kind="stable")]  # the order of the files does not matter
    errors = log.errors
    from_files = not needs_split(options, files)
    assignment = assign_rows(store, rows, split, log, kind=options.rows, from_files=from_files)
    if log.errors > errors:  # a row without its group or time cannot be assigned to a split
        log.raise_errors()
    rows, assignment, clusters = drop_leaked(stored, rows, assignment, options.near_duplicates, log, report)
    if is_cross_validated(split):
        rows, assignment, report.folds = assign_folds(store, rows, assignment, clusters, split, log, kind=options.rows)
    log.raise_errors()
    splits = split_rows(rows, assignment, files, options, split, log, labelled=bool(label_counts))
    log.raise_errors()
    counts = {name: count_completions(store, chosen) for name, chosen in splits.items()} if label_counts else None
    labels = None
    if counts is not None:
        occurring = {label for part in counts.values() for label in part}
        labels = sorted(options.labels if isinstance(options.labels, list) else occurring)
        check_labels(counts, labels, files[0].name, log)
    if options.rows == "judgements":
        check_judgements(store, splits, files[0].name, log)
    log.raise_errors()
    report.label_distribution = counts
    train = training_rows(store, splits["train"], files, options, split.seed, labelled=bool(label_counts))
    if len(splits["train"]) and not len(train):
        message, fix = "the weights of the sources leave no training row", "raise data.sources.NAME.weight"
        log.add(Fault("too-few-rows", message, fix, column="data.sources"))
        log.raise_errors()
    sampled_out, distinct = len(np.setdiff1d(splits["train"], train)), len(np.unique(train))
    resampling = {"train rows sampled out": sampled_out, "train rows repeated": len(train) - distinct}
    report.counts |= {name: count for name, count in resampling.items() if count}
    pool = np.sort(rows)
    examples = {name: Examples(store, chosen, pool) for name, chosen in (splits | {"train": train}).items()}
    if options.rows in COMPARED:
        report.preferences = count_preferences(store, pool, judged=options.rows == "judgements")
    report.counts |= {name: len(part) for name, part in examples.items()}
    return examples, labels, label_weights(counts["train"]) if counts and options.balance == "weights" else None


def _distinct_rows(
    options: DataOptions,
    split: SplitOptions,
    files: list[DataFile],
    cache: Path,
    log: FaultLog,
    report: DataReport,
    keep_alive: object,
) -> tuple[StoredRows, Index, Counts | None]:
    """Return the distinct rows of one schema, their labels in one spelling, and how often each label occurs."""
    stored = stored_rows(files, cache, log, {}, keep_alive)
    report.files = stored.reading.rows
    report.notes = {file: notes for file, notes in stored.reading.notes.items() if notes}
    report.counts = {"rows read": sum(stored.reading.rows.values())}
    report.unused = {name: seen.rows for name, seen in stored.reading.unused.items()}
    report_unused(stored.reading, (split.group, split.stratify, split.time), log)
    if not stored.store.rows:
        log.raise_errors()
    rows, label_counts = _drop_duplicates(stored, options, log, report)
    if len(report.schemas) == 1:
        schemas = next(iter(report.schemas.values()))
        report.form = stored.reading.forms.get(max(schemas, key=schemas.__getitem__), {})
    relabel = {}
    if label_counts and isinstance(options.labels, str):
        relabel = find_spellings(stored.store, rows, label_counts, log)
    if relabel:
        report_respelt(stored.store, rows, relabel, log)
        # Reading again with other labels gives the same rows with the same numbers.
        stored = stored_rows(files, cache, log, relabel, keep_alive, stored.contents)
        usable = len(rows)
        rows = drop_exact(stored.store, rows, log)
        label_counts = count_completions(stored.store, rows)
        report.relabelled = relabel
        report.counts["exact duplicates removed"] += usable - len(rows)
        report.counts["distinct"] = len(rows)
    return stored, rows, label_counts


def _drop_duplicates(
    stored: StoredRows, options: DataOptions, log: FaultLog, report: DataReport
) -> tuple[Index, Counts | None]:
    """Return the rows of one schema without exact duplicates, and how often each label occurs (None: free text)."""
    store = stored.store
    rows, report.schemas = drop_mixed_schemas(stored, log)
    usable = len(rows)
    rows = drop_exact(store, rows, log)
    report.counts |= {"usable": usable, "exact duplicates removed": usable - len(rows), "distinct": len(rows)}
    if options.rows == "completions":
        check_varied(store, rows, log)
    labels = None if options.rows in COMPARED else find_labels(store, rows, options.labels)
    if labels is not None and isinstance(options.labels, list):
        rows = drop_unknown(store, rows, options.labels, labels, log)
        labels = {label: labels.get(label, 0) for label in options.labels}
    if labels is None and options.balance != "none":
        message = f"data.balance={options.balance} needs labels, and these completions are free text"
        fix = "set data.balance=none or name the labels in data.labels"
        log.add(Fault("bad-value", message, fix, column="data.balance"))
    return rows, labels
