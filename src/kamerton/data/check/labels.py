"""Labels: detecting them, unifying their spelling, and checking their counts in every split."""

from __future__ import annotations

import unicodedata
from collections import Counter

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from kamerton.data.faults import FaultLog
from kamerton.data.form import label_names_setting
from kamerton.data.store import Examples, Index, Store
from kamerton.data.stored import CALLS, NO_COMPLETION_KEY, hash64
from kamerton.errors import Fault

MAX_LABELS = 200
MIN_ROWS_PER_LABEL = 5  # on average, for completions to be considered labels
RARE = 5  # labels with fewer training rows are rare
IMBALANCE = 20  # ratio of the largest to the smallest row count that is reported

Counts = dict[str, int]


def count_completions(store: Store, rows: Index) -> Counts:
    """Return how often each completion occurs in `rows`, sorted by completion."""
    _, first, sizes = np.unique(store.column("completion_key")[rows], return_index=True, return_counts=True)
    counts = {store.value(row, "completion"): n for row, n in zip(rows[first].tolist(), sizes.tolist(), strict=True)}
    return dict(sorted(counts.items()))


def find_labels(store: Store, rows: Index, labels: str | list[str] | None) -> Counts | None:
    """Return the labels that occur with their counts, or None if completions are free text.

    "auto" considers completions labels if there are 2 to 200 different ones, with 5 rows each on average, and no row is
    plain text, a prompt alone, or calls a function.
    """
    if labels is None or not len(rows):
        return None
    if labels == "auto":
        keys = np.unique(store.column("completion_key")[rows])
        if not 2 <= len(keys) <= min(MAX_LABELS, len(rows) / MIN_ROWS_PER_LABEL) or NO_COMPLETION_KEY in keys:
            return None
        has_plain_text = any(batch.column(0).null_count for batch in store.scan("prompt"))
        calls = (pc.match_substring(batch.column(0), CALLS) for batch in store.scan("extras"))
        if has_plain_text or any(pc.any(matches).as_py() for matches in calls):
            return None
    return count_completions(store, rows)


def check_varied(store: Store, rows: Index, log: FaultLog) -> None:
    """Warn of rows that all have the same completion."""
    if len(rows) < MIN_ROWS_PER_LABEL or len(np.unique(store.column("completion_key")[rows])) > 1:
        return
    completion = store.value(int(rows[0]), "completion")
    fix = "name the column of the answers: data.columns.completion=NAME; or add rows with other completions"
    if len(completion) == 1:
        fix = "if it is the letter of a choice, shuffle the choices of each row; else " + fix
    message = f"all {len(rows):,} rows have the completion {completion[:40]!r}"
    log.add(Fault("one-completion", message, fix, store.location(int(rows[0]))[0], column="completion"))


def find_spellings(store: Store, rows: Index, counts: Counts, log: FaultLog) -> dict[str, str]:
    """Report labels with several spellings (`_spelling`); return each rarer spelling → the most frequent one.

    The result is empty unless the policy is to fix them.
    """
    best: dict[str, str] = {}
    for label in sorted(counts, key=lambda name: (-counts[name], name)):
        best.setdefault(_spelling(label), label)
    relabel = {label: best[_spelling(label)] for label in counts if best[_spelling(label)] != label}
    keys = store.column("completion_key")[rows] if relabel else np.empty(0, np.uint64)
    for label, other in relabel.items():
        file, row = store.location(int(rows[np.argmax(keys == np.uint64(hash64(label.encode())))]))
        message = f"the label {label!r} ({counts[label]} rows) is also spelt {other!r} ({counts[other]} rows)"
        fix = f"spell it one way: data.policy.label-spelling=fix writes {other!r}; if they are two labels: "
        log.add(Fault("label-spelling", message, f"{fix}data.policy.label-spelling=warn", file, row, "label"))
    return relabel if log.action("label-spelling") == "fix" else {}


def report_respelt(store: Store, rows: Index, relabel: dict[str, str], log: FaultLog) -> None:
    """List each row whose label is replaced by another spelling."""
    texts = Examples(store, rows).completions
    changed = np.asarray(pc.is_in(texts, value_set=pa.array(list(relabel), pa.string())))
    for row in rows[changed].tolist():
        label = store.value(row, "completion")
        log.fix(*store.location(row), "label-spelling", label=label, now=relabel[label])


def _spelling(label: str) -> str:
    """Normalise a label: labels that differ only in case, spaces or Unicode form have the same result.

    Composed and decomposed characters are equal, as are full and half widths. Compatibility forms in general are not
    (`m²` is not `m2`), nor are labels that only full case folding makes equal (`Maße`, `Masse`).
    """
    narrow = "".join(
        unicodedata.normalize("NFKC", character) if unicodedata.east_asian_width(character) in "FH" else character
        for character in label
    )
    return unicodedata.normalize("NFC", "".join(narrow.lower().translate(_INVISIBLE).split()))


_INVISIBLE = dict.fromkeys((0x200B, 0x2060, 0xFEFF))  # spaces of no width


def drop_unknown(store: Store, rows: Index, labels: list[str], counts: Counts, log: FaultLog) -> Index:
    """Report and drop rows whose completion is not among the configured labels; return the other rows."""
    unknown = sorted(set(counts) - set(labels))
    if not unknown:
        return rows
    texts = Examples(store, rows).completions
    is_unknown: npt.NDArray[np.bool_] = np.asarray(pc.is_in(texts, value_set=pa.array(unknown, pa.string())))
    fix = (
        "correct it, add it to data.labels, or set data.policy.unknown-label=drop (leaves such rows out) or"
        " data.labels=null (takes all answers for free text)"
    )
    for row in rows[is_unknown].tolist():
        file, number = store.location(row)
        message = f"{store.value(row, 'completion')!r} is not among data.labels"
        log.add(Fault("unknown-label", message, fix, file, number, "label"))
        log.reject(file, number, "unknown-label")
    kept: Index = rows[~is_unknown]
    return kept


def check_labels(splits: dict[str, Counts], labels: list[str], file: str, log: FaultLog) -> None:
    """Warn of labels that are rare, missing from a split, or far more frequent than others; `file` is for messages."""
    train = Counter(splits["train"])
    for first in (0, 1):
        numbers = range(first, first + len(labels))
        if len(labels) > 1 and sorted(labels) == sorted(map(str, numbers)):
            message = f"the labels are the numbers {first} to {numbers[-1]}, which the model learns as numbers"
            fix = f"name them: {label_names_setting(numbers)}"
            log.add(Fault("numeric-labels", message, fix, file, column="label"))
    for name, counts in splits.items():
        missing = [label for label in labels if label not in counts]
        if missing:
            shown = ", ".join(map(repr, missing[:10])) + (" ..." if len(missing) > 10 else "")
            message = f"the {name} split has no row with {len(missing)} of {len(labels)} labels: {shown}"
            fix = "set split.stratify=label or another split.seed, or add rows"
            log.add(Fault("label-missing", message, fix, file, column="label"))
    for label in labels:
        if 0 < train[label] < RARE:
            message = f"the label {label!r} has {train[label]} training rows"
            log.add(Fault("rare-label", message, "add rows, or merge it with another label", file, column="label"))
    present = [(count, label) for label, count in train.items() if count]
    if present and max(present)[0] > IMBALANCE * min(present)[0]:
        message = f"{max(present)[1]!r} has {max(present)[0]} training rows and {min(present)[1]!r} {min(present)[0]}"
        fix = "data.balance=weights (or over, or under), or add rows"
        log.add(Fault("label-imbalance", message, fix, file, column="label"))
