"""The data gate: read → check → de-duplicate → split, each stage reported, every fault listed before anything trains."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc

from kamerton.data.faults import FaultLog
from kamerton.data.ingest import ingest
from kamerton.data.options import DataOptions, SplitOptions
from kamerton.data.sources import SPLITS, Source, find_sources
from kamerton.data.split import assign
from kamerton.data.store import Examples, Index, Store, StoreWriter, TemporaryFolder, hash64
from kamerton.errors import Fault

VERSION = (
    "1"  # of what this package writes into the cache; change it when the same input gives another result
)
MAX_LABELS = 200
MIN_ROWS_PER_LABEL = 5


@dataclass(frozen=True)
class Prepared:
    """Checked examples by split, with the report of how they came about.

    `labels` are the sorted label names, or None for free text. `fingerprint` identifies which examples are in which split.
    """

    splits: dict[str, Examples]
    labels: list[str] | None
    report: dict[str, Any]
    fingerprint: str


def check_files(options: DataOptions) -> list[Fault]:
    """Every fault of the files and their rows; stores nothing."""
    sources, faults = find_sources(options)
    if faults:
        return faults
    log = FaultLog()
    for _ in ingest(sources, options, log, Counter()):
        pass
    return log.grouped()


def prepare(options: DataOptions, split: SplitOptions, *, cache: Path | None) -> Prepared:
    """Reads, checks and splits the data; raises `UserError` with every fault found.

    With `cache`, rows read once are kept there and memory-mapped; without, they live in a temporary directory as long as
    the result does.
    """
    log = FaultLog()
    sources, faults = find_sources(options)
    log.extend(faults)
    log.raise_errors()
    keep_alive = None
    if cache is None:
        keep_alive = TemporaryFolder()
        cache = keep_alive.path
    folder, counts = _stored(sources, options, cache, log)
    log.raise_errors()
    store = Store(folder / "rows.arrow", keep_alive)
    distinct = _distinct(store)
    counts["rows read"] = store.rows
    counts["exact duplicates removed"] = store.rows - len(distinct)
    counts["distinct"] = len(distinct)
    splits = {
        name: Examples(store, index, distinct)
        for name, index in _split(store, distinct, sources, options, split, log).items()
    }
    log.raise_errors()
    labels = _labels(Examples(store, distinct), options, log)
    log.raise_errors()
    fingerprint = _digest({"splits": {n: e.fingerprint for n, e in splits.items()}, "labels": labels})
    report = _report(options, split, counts, splits, labels, log) | {"fingerprint": fingerprint}
    return Prepared(splits, labels, report, fingerprint)


def _stored(
    sources: list[Source], options: DataOptions, cache: Path, log: FaultLog
) -> tuple[Path, dict[str, int]]:
    """The cached folder with these files' rows, read now unless it is there already."""
    folder = (
        cache / "rows" / _digest({"files": [_file_key(s) for s in sources], "options": _row_options(options)})
    )
    if (folder / "manifest.json").exists():
        manifest = json.loads((folder / "manifest.json").read_text())
        log.extend(Fault(**fault) for fault in manifest["faults"])
        return folder, dict(manifest["counts"])
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix="part-", dir=folder.parent))
    try:
        counts = _write(sources, options, part, log)
        if log.has_errors:
            return folder, counts
        manifest = {"counts": counts, "faults": [fault.as_dict() for fault in log.kept]}
        (part / "manifest.json").write_text(json.dumps(manifest))
        try:
            os.replace(part, folder)
        except OSError:
            if not (folder / "manifest.json").exists():
                raise  # not another process that wrote the same rows first
        return folder, counts
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _write(sources: list[Source], options: DataOptions, folder: Path, log: FaultLog) -> dict[str, int]:
    counts: Counter[str] = Counter()
    writer = StoreWriter(folder / "rows.arrow", [str(source.path) for source in sources])
    try:
        for values in ingest(sources, options, log, counts):
            writer.add(values)
    finally:
        writer.close()
    if not writer.rows and not log.has_errors:
        log.add(
            Fault("empty-file", "there is not one row", "point to a file with rows", str(sources[0].path))
        )
    return dict(counts)


def _row_options(options: DataOptions) -> dict[str, Any]:
    """The options that shape the stored rows."""
    return {
        "version": VERSION,
        "format": options.format,
        "columns": asdict(options.columns),
        "encoding": options.encoding,
    }


def _file_key(source: Source) -> list[str | None]:
    with open(source.path, "rb") as file:
        return [str(source.path), source.split, hashlib.file_digest(file, "blake2b").hexdigest()]


def _digest(value: Any) -> str:
    return f"{hash64(json.dumps(value, sort_keys=True, default=str).encode()):016x}"


def _distinct(store: Store) -> Index:
    """The first row with each id in each given split, in order of id: the order of the files does not matter."""
    ids, source = store.column("id"), store.column("source")
    split = source >> 16
    order = np.lexsort((np.arange(len(ids)), split, ids))
    first = np.ones(len(ids), bool)
    first[1:] = (ids[order][1:] != ids[order][:-1]) | (split[order][1:] != split[order][:-1])
    return order[first].astype(np.int64)


def _split(
    store: Store,
    distinct: Index,
    sources: list[Source],
    options: DataOptions,
    split: SplitOptions,
    log: FaultLog,
) -> dict[str, Index]:
    if options.path:
        keys = store.column("prompt_key" if split.group == "prompt" else "id")[distinct]
        strata = store.column("completion_key")[distinct] if split.stratify == "label" else None
        place = assign(keys, split.ratios, split.seed, strata)
        wanted = [name for name, ratio in zip(SPLITS, split.ratios, strict=True) if ratio > 0]
    else:
        place = (store.column("source")[distinct] >> 16).astype(np.int8)
        wanted = [name for name in SPLITS if getattr(options, name)]
    result = {name: distinct[place == SPLITS.index(name)] for name in wanted}
    for name in wanted:
        if not len(result[name]):
            message = f"no example falls into the {name} split ({len(distinct)} distinct rows in all)"
            fix = "add rows, or give that split a larger share in split.ratios (0: no such split)"
            log.add(Fault("too-few-rows", message, fix, str(sources[0].path), column="split.ratios"))
    _leakage(store, result, log)
    return result


def _leakage(store: Store, splits: dict[str, Index], log: FaultLog) -> None:
    """Warns of prompts (but for case and spacing) that stand in two splits."""
    keys = store.column("prompt_key")
    names = list(splits)
    for i, low in enumerate(names):
        for high in names[i + 1 :]:
            index = splits[low]
            for row in index[np.isin(keys[index], keys[splits[high]])].tolist():
                file, number = store.place(row)
                message = f"the prompt of this {low} example is in the {high} split as well"
                fix = f"remove it from {low}"
                log.add(Fault("leakage", message, fix, file, number, severity="warning"))


def _labels(examples: Examples, options: DataOptions, log: FaultLog) -> list[str] | None:
    """The label names: given, or the completions if they are few and repeat."""
    if options.labels is None:
        return None
    if options.labels == "auto":
        distinct = len(np.unique(examples.store.column("completion_key")[examples.index]))
        if distinct > min(MAX_LABELS, len(examples) / MIN_ROWS_PER_LABEL) or distinct < 2:
            return None
        return sorted(pc.unique(examples.completions).to_pylist())
    labels = sorted(options.labels)
    present = pc.unique(examples.completions).to_pylist()
    for name in sorted(set(present) - set(labels)):
        message = f"{name!r} is a completion in the data but not among data.labels"
        log.add(
            Fault(
                "unknown-label", message, "add it to data.labels, or correct the rows", column="data.labels"
            )
        )
    return labels


def _report(
    options: DataOptions,
    split: SplitOptions,
    counts: dict[str, int],
    splits: dict[str, Examples],
    labels: list[str] | None,
    log: FaultLog,
) -> dict[str, Any]:
    report: dict[str, Any] = {
        "name": options.name,
        "counts": counts | {name: len(examples) for name, examples in splits.items()},
        "seed": split.seed,
        "labels": labels,
        "faults": log.report(),
    }
    if labels is not None:
        report["label_distribution"] = {
            name: {v["values"]: v["counts"] for v in pc.value_counts(examples.completions).to_pylist()}
            for name, examples in splits.items()
        }
    return report
