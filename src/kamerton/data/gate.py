"""The data gate: read → check → clean → de-duplicate → split → balance; every fault listed before anything trains."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kamerton.data.balance import label_weights
from kamerton.data.duplicates import drop_contradictions, drop_exact
from kamerton.data.faults import FaultLog
from kamerton.data.labels import Counts, check_labels, count_completions, drop_unknown, find_labels, find_spellings
from kamerton.data.options import DataOptions, SplitOptions
from kamerton.data.outliers import drop_outliers
from kamerton.data.rows import LOGS, StoredRows, digest, stored_rows
from kamerton.data.sources import DataFile, find_files
from kamerton.data.stages import one_schema, places_of, split_rows, training_rows, without_leaks
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


def prepare(options: DataOptions, split: SplitOptions | None = None, *, cache: Path | None = None) -> Prepared:
    """Reads, checks and splits the data; raises `UserError` with every fault found.

    With `cache`, rows read once are kept there and memory-mapped; without, they live in a temporary directory as long
    as the result does.
    """
    split = split or SplitOptions()
    files, faults = find_files(options)
    if faults:
        raise UserError(faults)
    keep_alive = None
    if cache is None:
        keep_alive = TemporaryFolder()
        cache = keep_alive.path
    folder = cache / "prepared" / digest([asdict(options), asdict(split), [str(file.path) for file in files]])
    with _logs(folder) as part:
        log = FaultLog(options.policy, part, None if keep_alive else folder / "faults.jsonl")
        try:
            examples, names, weights, report = _stages(options, split, files, cache, log, keep_alive)
        finally:
            log.flush()
    contents = {name: part.fingerprint for name, part in examples.items()}
    report |= {"labels": names, "label_weights": weights, "fingerprint": digest([contents, names, weights])}
    return Prepared(examples, names, report, report["fingerprint"], folder, weights)


@contextmanager
def _logs(final: Path) -> Iterator[Path]:
    """A folder for the logs of one preparation; they are moved to their place when complete, failed or not."""
    final.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix="part-", dir=final.parent))
    try:
        yield part
    finally:
        for name in LOGS:
            (part / name).touch()
            (part / name).replace(final / name)
        shutil.rmtree(part, ignore_errors=True)


def _stages(
    options: DataOptions, split: SplitOptions, files: list[DataFile], cache: Path, log: FaultLog, keep_alive: object
) -> tuple[dict[str, Examples], list[str] | None, dict[str, float] | None, dict[str, Any]]:
    """One after the other; the examples by split, the labels and their weights, and the report."""
    stored = stored_rows(files, cache, log, {}, keep_alive)
    rows, labels, report = _distinct(stored, options, log)
    relabel = find_spellings(labels, log) if labels and isinstance(options.labels, str) else {}
    log.raise_errors()
    if labels and relabel:
        log.fixed["label-spelling"] = sum(labels[label] for label in relabel)
        stored = stored_rows(files, cache, log, relabel, keep_alive)
        rows, labels, report = _distinct(stored, options, FaultLog(options.policy))
        report["relabelled"] = relabel
    store = stored.store
    if labels:
        rows = drop_contradictions(store, rows, log)
    rows, report["lengths"] = drop_outliers(store, rows, log, forms=labels is None)
    rows = rows[np.argsort(store.column("id")[rows], kind="stable")]  # the order of the files does not matter
    places = places_of(store, rows, options, split, log)
    log.raise_errors()
    rows, places, found = without_leaks(stored, rows, places, options.near_duplicates, log)
    splits = split_rows(rows, places, files, options, split, log)
    log.raise_errors()
    counts = {name: count_completions(store, chosen) for name, chosen in splits.items()} if labels else None
    names = _label_names(options, counts, log)
    log.raise_errors()
    train = training_rows(store, splits["train"], files, options, split.seed, labelled=bool(labels))
    pool = np.sort(rows)
    examples = {name: Examples(store, chosen, pool) for name, chosen in (splits | {"train": train}).items()}
    weights = label_weights(counts["train"]) if counts and options.balance == "weights" else None
    sizes = {name: len(part) for name, part in examples.items()}
    report["counts"] = {"rows read": sum(stored.reading.rows.values()), **report["counts"], **sizes}
    report |= found | _report(options, split, stored, counts, log)
    return examples, names, weights, report


def _distinct(stored: StoredRows, options: DataOptions, log: FaultLog) -> tuple[Index, Counts | None, dict[str, Any]]:
    """Rows of one schema without exact duplicates, how often each label stands among them, and the counts."""
    store = stored.store
    rows, schemas = one_schema(stored, log)
    usable = len(rows)
    rows = drop_exact(store, rows, log)
    counts = {"usable": usable, "exact duplicates removed": usable - len(rows), "distinct": len(rows)}
    labels = find_labels(store, rows, options.labels)
    if labels is not None and isinstance(options.labels, list):
        rows = drop_unknown(store, rows, options.labels, labels, log)
        labels = {label: labels.get(label, 0) for label in options.labels}
    if labels is None and options.balance != "none":
        message = f"data.balance={options.balance} needs labels, and these completions are free text"
        fix = "set data.balance=none, or name the labels in data.labels"
        log.add(Fault("bad-value", message, fix, column="data.balance"))
    return rows, labels, {"schemas": schemas, "counts": counts}


def _label_names(options: DataOptions, counts: dict[str, Counts] | None, log: FaultLog) -> list[str] | None:
    if counts is None:
        return None
    found = {name for count in counts.values() for name in count}
    names = sorted(options.labels if isinstance(options.labels, list) else found)
    check_labels(counts, names, log)
    return names


def _report(
    options: DataOptions,
    split: SplitOptions,
    stored: StoredRows,
    counts: dict[str, Counts] | None,
    log: FaultLog,
) -> dict[str, Any]:
    """What happened to the rows, as plain values; `warnings` has one entry for each code, `faults` up to six."""
    return {
        "name": options.name,
        "files": stored.reading.rows,
        "rejected": dict(log.rejected),
        "fixed": dict(log.fixed),
        "seed": split.seed,
        "split": asdict(split),
        "balance": options.balance,
        "label_distribution": counts,
        "fault_counts": log.state()["counts"],
        "warnings": log.summary(),
        "faults": [fault.as_dict() for fault in log.grouped(5)],
    }
