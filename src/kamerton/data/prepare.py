"""The data gate: read → check → clean → de-duplicate → split → balance; every fault listed before anything trains.

`prepare` reads top to bottom: each stage takes the rows that are left and says which it keeps.
"""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc

from kamerton.data.balance import balanced, label_weights, mixed
from kamerton.data.duplicates import cached_clusters, drop_contradictions, drop_exact, drop_leaks, drop_near
from kamerton.data.faults import FaultLog
from kamerton.data.ingest import Reading, ingest
from kamerton.data.keys import group_keys, times
from kamerton.data.labels import Counts, check_labels, count_completions, drop_unknown, find_labels, find_spellings
from kamerton.data.options import DataOptions, SplitOptions
from kamerton.data.outliers import drop_outliers
from kamerton.data.rows import LOGS, StoredRows, digest, stored_rows
from kamerton.data.sources import SPLITS, DataFile, find_files
from kamerton.data.split import Places, assign, assign_by_time, fold
from kamerton.data.store import Examples, Index, Store, TemporaryFolder, to_example
from kamerton.errors import Fault, UserError

FEW = 20  # rows in a split


@dataclass(frozen=True)
class Prepared:
    """Checked examples by split, with the report of how they came about.

    `labels` are the sorted label names, or None for free text; `label_weights` their weights in the loss if `data.balance` asks
    for them. `fingerprint` identifies which examples are in which split. `folder` holds faults.jsonl and rejects.jsonl.
    """

    splits: dict[str, Examples]
    labels: list[str] | None
    report: dict[str, Any]
    fingerprint: str
    folder: Path
    label_weights: dict[str, float] | None = None


@dataclass(frozen=True)
class ValidationResult:
    """What the gate says of a data set: `is_valid` if it can be used as it is."""

    errors: list[Fault]
    warnings: list[Fault]
    report: dict[str, Any]

    @property
    def is_valid(self) -> bool:
        return not self.errors


def validate(options: DataOptions, split: SplitOptions | None = None, *, cache: Path | None = None) -> ValidationResult:
    """Everything that is wrong with a data set, without an exception."""
    try:
        prepared = prepare(options, split or SplitOptions(), cache=cache)
    except UserError as error:
        errors = [fault for fault in error.faults if fault.severity == "error"]
        return ValidationResult(errors, [fault for fault in error.faults if fault.severity == "warning"], {})
    warnings = [Fault(**fault) for fault in prepared.report["faults"]]
    return ValidationResult([], warnings, prepared.report)


def check_files(options: DataOptions) -> list[Fault]:
    """Every fault of the files and of their rows by themselves; stores nothing."""
    files, faults = find_files(options)
    if faults:
        return faults
    log = FaultLog(options.policy)
    for _ in ingest(files, log, Reading()):
        pass
    return log.grouped()


def read_examples(options: DataOptions) -> Iterator[Any]:
    """The examples of the files one by one as they are read; raises `UserError` at the end if rows had faults."""
    files, faults = find_files(options)
    if faults:
        raise UserError(faults)
    log = FaultLog(options.policy)
    for _, prompt, chat, completion, metadata, *_ in ingest(files, log, Reading()):
        yield to_example(prompt, chat, completion, metadata)
    log.raise_errors()


def prepare(options: DataOptions, split: SplitOptions, *, cache: Path | None) -> Prepared:
    """Reads, checks and splits the data; raises `UserError` with every fault found.

    With `cache`, rows read once are kept there and memory-mapped; without, they live in a temporary directory as long as
    the result does.
    """
    files, faults = find_files(options)
    if faults:
        raise UserError(faults)
    keep_alive = None
    if cache is None:
        keep_alive = TemporaryFolder()
        cache = keep_alive.path
    with _log_folder(cache, options, split, files) as folder:
        log = FaultLog(options.policy, folder.part)
        try:
            result = _Gate(options, split, files, cache, log, keep_alive).run(folder.final)
        finally:
            log.flush()
    return result


class _log_folder:  # noqa: N801
    """A folder for the logs of one preparation, filled beside its place and moved there when it is complete."""

    def __init__(self, cache: Path, options: DataOptions, split: SplitOptions, files: list[DataFile]) -> None:
        key = digest([asdict(options), asdict(split), [str(file.path) for file in files]])
        self.final = cache / "prepared" / key
        self.final.parent.mkdir(parents=True, exist_ok=True)
        self.part = Path(tempfile.mkdtemp(prefix="part-", dir=self.final.parent))

    def __enter__(self) -> _log_folder:
        return self

    def __exit__(self, *_: object) -> None:
        self.final.mkdir(exist_ok=True)
        for name in LOGS:
            (self.part / name).touch()
            (self.part / name).replace(self.final / name)
        shutil.rmtree(self.part, ignore_errors=True)


class _Gate:
    """One preparation: what all its stages share."""

    def __init__(
        self,
        options: DataOptions,
        split: SplitOptions,
        files: list[DataFile],
        cache: Path,
        log: FaultLog,
        keep_alive: object,
    ) -> None:
        self.options, self.split, self.files = options, split, files
        self.cache, self.log, self.keep_alive = cache, log, keep_alive
        self.counts: Counter[str] = Counter()
        self.report: dict[str, Any] = {}

    def run(self, folder: Path) -> Prepared:
        stored = stored_rows(self.files, self.cache, self.log, {}, self.keep_alive)
        rows, labels = self._labelled(stored)
        if labels is None and isinstance(self.options.labels, str):
            self.report["labels_found"] = False
        stored, rows, labels = self._relabelled(stored, rows, labels)
        store = stored.store
        if labels is not None:
            rows = drop_contradictions(store, rows, self.log)
        rows, self.report["lengths"] = drop_outliers(store, rows, self.log, forms=labels is None)
        self.log.raise_errors()
        rows = rows[np.argsort(store.column("id")[rows], kind="stable")]  # the order of files does not matter
        places = self._places(store, rows)
        self.log.raise_errors()
        rows, places = self._without_leaks(stored, rows, places)
        splits = self._splits(store, rows, places)
        counts = {name: count_completions(store, index) for name, index in splits.items()} if labels else None
        names = None if counts is None else self._label_names(counts)
        self.log.raise_errors()
        examples = {name: Examples(store, index, rows) for name, index in self._sampled(store, splits, names).items()}
        return self._result(stored, examples, names, counts, folder)

    def _labelled(self, stored: StoredRows) -> tuple[Index, Counts | None]:
        """Rows of one schema without exact duplicates, and how often each label stands among them."""
        store, given = stored.store, self.options.labels
        rows = self._one_schema(stored)
        self.counts["usable"] = len(rows)
        rows = drop_exact(store, rows, self.log)
        self.counts["exact duplicates removed"] = self.counts["usable"] - len(rows)
        self.counts["distinct"] = len(rows)
        labels = find_labels(store, rows, given)
        if labels is not None and isinstance(given, list):
            rows = drop_unknown(store, rows, given, labels, self.log)
            labels = {label: labels.get(label, 0) for label in given}
        return rows, labels

    def _one_schema(self, stored: StoredRows) -> Index:
        """All rows but those whose schema differs from most rows of their source."""
        number = stored.store.column("schema")
        counts = np.bincount(number, minlength=len(stored.reading.schemas))
        most: dict[str, int] = {}
        for i, (source, _) in enumerate(stored.reading.schemas):
            if source not in most or counts[i] > counts[most[source]]:
                most[source] = i
        self.report["schemas"] = {
            source: {schema: int(counts[i]) for i, (s, schema) in enumerate(stored.reading.schemas) if s == source}
            for source in most
        }
        odd = np.flatnonzero(~np.isin(number, list(most.values())))
        keep = np.ones(len(number), bool)
        for row in odd.tolist():
            source, schema = stored.reading.schemas[number[row]]
            file, at = stored.store.place(row)
            message = f"the row is {schema}; most of the data is {stored.reading.schemas[most[source]][1]}"
            fix = "write all rows in one schema, name the columns (data.columns), or make it a source of its own"
            if self.log.add(Fault("mixed-schemas", message, fix, file, at)) != "warn":
                self.log.reject(file, at, "mixed-schemas")
                keep[row] = False
        return np.flatnonzero(keep)

    def _relabelled(
        self, stored: StoredRows, rows: Index, labels: Counts | None
    ) -> tuple[StoredRows, Index, Counts | None]:
        """The same with one spelling for each label, if the policy is to fix spellings."""
        if labels is None or not isinstance(self.options.labels, str):
            return stored, rows, labels
        relabel = find_spellings(labels, self.log)
        self.log.raise_errors()
        if not relabel:
            return stored, rows, labels
        self.log.fixed["label-spelling"] = sum(labels[label] for label in relabel)
        self.report["relabelled"] = relabel
        stored = stored_rows(self.files, self.cache, self.log, relabel, self.keep_alive)
        quiet = _Gate(self.options, self.split, self.files, self.cache, FaultLog(self.options.policy), None)
        rows, labels = quiet._labelled(stored)
        self.counts.update(quiet.counts)
        return stored, rows, labels

    def _places(self, store: Store, rows: Index) -> Places:
        """The split of each row: the file's own, or by the split options."""
        options = self.split
        places = store.column("split")[rows].astype(np.int8)
        groups = group_keys(store, rows, options.group, self.log)
        strata = group_keys(store, rows, options.stratify, self.log) if options.stratify else None
        if self.options.path or self.options.sources:
            if options.time:
                places = assign_by_time(times(store, rows, options.time, self.log), options.ratios)
            else:
                places = assign(groups, options.ratios, options.seed, strata)
        if options.folds:
            places = fold(groups, places, options.folds, options.fold, options.seed, strata)
        return places

    def _without_leaks(self, stored: StoredRows, rows: Index, places: Places) -> tuple[Index, Places]:
        store = stored.store
        keys = store.column("prompt_key")[rows]
        stays, leaks = drop_leaks(store, rows, keys, places, self.log, "leakage")
        rows, places = rows[stays], places[stays]
        near: dict[str, int] = {}
        if self.options.near_duplicates is not None:
            clusters = cached_clusters(store, rows, self.options.near_duplicates, stored.folder)
            self.report["near_duplicates"] = _cluster_summary(store, rows, clusters)
            stays, near = drop_leaks(store, rows, clusters, places, self.log, "near-leakage")
            rows, places, clusters = rows[stays], places[stays], clusters[stays]
            stays = drop_near(store, rows, clusters, places, self.log)
            rows, places = rows[stays], places[stays]
        self.report["leakage"] = {"exact": leaks, "near": near}
        return rows, places

    def _splits(self, store: Store, rows: Index, places: Places) -> dict[str, Index]:
        """The rows of each split that there is to be; a fault for each that comes out empty."""
        ratios = self.split.ratios if self.options.path or self.options.sources else None
        given = [bool(ratio) for ratio in ratios] if ratios else [bool(getattr(self.options, n)) for n in SPLITS]
        if self.split.folds:
            given[1] = True
        result = {name: rows[places == i] for i, name in enumerate(SPLITS) if given[i]}
        for name, index in result.items():
            if not len(index):
                message = f"no row is left for the {name} split ({len(rows)} distinct rows in all)"
                fix = "add rows, or change the shares in split.ratios (0: no such split)"
                self.log.add(Fault("too-few-rows", message, fix, str(self.files[0].path), column="split.ratios"))
            elif len(index) < FEW:
                message = f"the {name} split has {len(index)} rows: numbers measured on it mean little"
                self.log.add(Fault("few-rows", message, "add rows", str(self.files[0].path), column="split.ratios"))
        return result

    def _label_names(self, counts: dict[str, Counts]) -> list[str]:
        given = self.options.labels
        names = sorted(given) if isinstance(given, list) else sorted({n for count in counts.values() for n in count})
        check_labels(counts, names, self.log)
        return names

    def _sampled(self, store: Store, splits: dict[str, Index], labels: list[str] | None) -> dict[str, Index]:
        """The splits with the training rows mixed by source and balanced by label."""
        train, seed = splits["train"], self.split.seed
        if self.options.sources:
            weight = [self.options.sources[file.source].weight for file in self.files]
            weights = np.array(weight)[store.column("file")[train]]
            train = mixed(train, weights, store.column("id")[train], seed)
        if labels is not None and self.options.balance in ("over", "under"):
            keys, ids = store.column("completion_key")[train], store.column("id")[train]
            train = balanced(train, keys, ids, self.options.balance, seed)
        elif labels is None and self.options.balance != "none":
            fix = "set data.balance=none, or name the labels in data.labels"
            message = f"data.balance={self.options.balance} needs labels, and these completions are free text"
            self.log.add(Fault("bad-value", message, fix, column="data.balance"))
            self.log.raise_errors()
        return splits | {"train": train}

    def _result(
        self,
        stored: StoredRows,
        splits: dict[str, Examples],
        labels: list[str] | None,
        counts: dict[str, Counts] | None,
        folder: Path,
    ) -> Prepared:
        weights = label_weights(counts["train"]) if counts and self.options.balance == "weights" else None
        contents = {name: examples.fingerprint for name, examples in splits.items()}
        fingerprint = digest([contents, labels, weights])
        sizes = {name: len(examples) for name, examples in splits.items()}
        total = sum(stored.reading.rows.values())
        report = {
            "name": self.options.name,
            "fingerprint": fingerprint,
            "files": stored.reading.rows,
            "counts": {"rows read": total, **self.counts, **sizes},
            "rejected": dict(self.log.rejected),
            "fixed": dict(self.log.fixed),
            "seed": self.split.seed,
            "split": asdict(self.split),
            "balance": self.options.balance,
            "labels": labels,
            "label_distribution": counts,
            "fault_counts": self.log.state()["counts"],
            "warnings": self.log.summary(),
            "faults": [fault.as_dict() for fault in self.log.grouped(5)],
            **self.report,
        }
        return Prepared(splits, labels, report, fingerprint, folder, weights)


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
