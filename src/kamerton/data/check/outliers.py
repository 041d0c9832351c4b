"""Rows unlike the others: in length, in script, in the form of their completion. Reported; dropped only if asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from kamerton.data.faults import FaultLog
from kamerton.data.store import Index, Store
from kamerton.errors import Fault

ENOUGH = 100  # rows, before anything can be called unusual
FAR = 8.0  # robust standard deviations of the logarithm of the length
LEAST_SPREAD = 0.25  # a smaller robust standard deviation counts as this one
NEARLY_ALL = 0.98  # of the rows share a script or form, for the rest to be reported
SCRIPTS = ("Latin", "Cyrillic", "Greek", "Han", "Arabic", "Hebrew", "Devanagari", "Hangul", "Hiragana", "Thai")
FORMS = {"number": r"^\s*[-+]?[\d.,]+\s*%?\s*$", "JSON": r"(?s)^\s*(\{.*\}|\[.*\])\s*$"}
SCRIPT_NAMES = ("no known script", *(f"{script} script" for script in SCRIPTS))
FORM_NAMES = ("free text", *FORMS)

Codes = npt.NDArray[np.int8]


def drop_outliers(store: Store, rows: Index, log: FaultLog, *, forms: bool) -> tuple[Index, dict[str, object]]:
    """Reports unusual rows (`forms`: and completions); the rows that stay, and a summary of the lengths."""
    lengths = np.empty(len(rows), np.int32)
    scripts, form = np.empty(len(rows), np.int8), np.empty(len(rows), np.int8)
    order = np.argsort(rows, kind="stable")
    at = 0
    for batch in _chunks(store, rows[order]):
        place = order[at : at + batch.num_rows]
        texts = pc.binary_join_element_wise(pc.fill_null(batch.column(0), ""), batch.column(1), "\n")
        lengths[place] = pc.utf8_length(texts).to_numpy()
        scripts[place] = _scripts(texts)
        form[place] = _forms(batch.column(1))
        at += batch.num_rows
    summary: dict[str, object] = length_summary(lengths)
    if len(rows) < ENOUGH:
        return rows, summary
    middle = int(np.median(lengths))
    bad = _report(
        store,
        rows,
        _far(lengths),
        "outlying-length",
        lambda i: f"the row has {lengths[i]:,} characters; half of all rows have at most {middle:,}",
        log,
    )
    bad |= _report(store, rows, _odd(scripts), "outlying-language", _named(scripts, SCRIPT_NAMES), log)
    if forms:
        bad |= _report(store, rows, _odd(form), "outlying-format", _named(form, FORM_NAMES), log)
    return rows[~bad], summary


def length_summary(lengths: npt.NDArray[np.int32]) -> dict[str, object]:
    """Quantiles and a histogram of lengths."""
    if not len(lengths):
        return {}
    shares = {"min": 0, "p5": 5, "median": 50, "p95": 95, "p99": 99, "max": 100}
    counts, edges = np.histogram(lengths, bins=30)
    quantiles = {name: float(np.percentile(lengths, share)) for name, share in shares.items()}
    return quantiles | {"histogram": {"counts": counts.tolist(), "edges": edges.tolist()}}


def _named(codes: Codes, names: tuple[str, ...]) -> Callable[[int], str]:
    usual = names[int(np.argmax(np.bincount(codes)))]
    return lambda i: f"{names[codes[i]]}, where nearly all other rows are {usual}"


def _chunks(store: Store, rows: Index) -> Iterator[pa.RecordBatch]:
    start = 0
    for batch in store.scan("prompt", "completion"):
        low, high = np.searchsorted(rows, [start, start + batch.num_rows])
        yield batch.take(pa.array(rows[low:high] - start))
        start += batch.num_rows


def _scripts(texts: pa.Array) -> Codes:
    """The script most letters of each text are in: 1 + its place in SCRIPTS, 0 for none of them."""
    plain = pc.string_is_ascii(texts).to_numpy(zero_copy_only=False)
    result = np.where(plain, 1, 0).astype(np.int8)
    other = np.flatnonzero(~plain)
    if len(other):
        chosen = texts.take(pa.array(other))
        counts = [pc.count_substring_regex(chosen, rf"\p{{{script}}}").to_numpy() for script in SCRIPTS]
        most = np.argmax(counts, axis=0)
        result[other] = np.where(np.max(counts, axis=0) > 0, most + 1, 0)
    return result


def _forms(completions: pa.Array) -> Codes:
    """1 + the place in FORMS of the form of each completion, 0 for free text."""
    result = np.zeros(len(completions), np.int8)
    for i, pattern in enumerate(FORMS.values()):
        hit = pc.match_substring_regex(completions, pattern).to_numpy(zero_copy_only=False)
        result[hit & (result == 0)] = i + 1
    return result


def _far(lengths: npt.NDArray[np.int32]) -> npt.NDArray[np.bool_]:
    logs = np.log1p(lengths.astype(np.float32))
    middle = np.median(logs)
    spread = max(1.4826 * float(np.median(np.abs(logs - middle))), LEAST_SPREAD)
    far: npt.NDArray[np.bool_] = np.abs(logs - middle) > FAR * spread
    return far


def _odd(codes: Codes) -> npt.NDArray[np.bool_]:
    """Rows that differ from nearly all others, if nearly all others are alike."""
    counts = np.bincount(codes)
    usual = int(np.argmax(counts))
    if counts[usual] < NEARLY_ALL * len(codes):
        return np.zeros(len(codes), bool)
    odd: npt.NDArray[np.bool_] = codes != usual
    return odd


def _report(
    store: Store,
    rows: Index,
    odd: npt.NDArray[np.bool_],
    code: str,
    message: Callable[[int], str],
    log: FaultLog,
) -> npt.NDArray[np.bool_]:
    """One fault for each odd row; the mask of those that are dropped."""
    drop = log.action(code) in ("drop", "error")
    for i in np.flatnonzero(odd).tolist():
        file, number = store.place(int(rows[i]))
        log.add(Fault(code, message(i), f"look at the row, or set data.policy.{code}=drop", file, number))
        if drop:
            log.reject(file, number, code)
    return odd if drop else np.zeros(len(rows), bool)
