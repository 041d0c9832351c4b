"""Outliers in length, script, or form of the completion; reported, and dropped only if the policy requires it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from kamerton.data.faults import FaultLog
from kamerton.data.store import Index, Store
from kamerton.errors import Fault

MIN_ROWS = 100  # without which nothing is reported
MAX_DEVIATION = 8.0  # robust standard deviations of the logarithm of the length
MIN_SPREAD = 0.25  # lower bound of the robust standard deviation
NEARLY_ALL = 0.98  # share of rows with the same script or form from which the others are outliers
SCRIPTS = ("Latin", "Cyrillic", "Greek", "Han", "Arabic", "Hebrew", "Devanagari", "Hangul", "Hiragana", "Thai")
FORMS = {"number": r"^\s*[-+]?[\d.,]+\s*%?\s*$", "JSON": r"(?s)^\s*(\{.*\}|\[.*\])\s*$"}
SCRIPT_NAMES = ("no known script", *(f"{script} script" for script in SCRIPTS))
FORM_NAMES = ("free text", *FORMS)

Codes = npt.NDArray[np.int8]


def drop_outliers(store: Store, rows: Index, log: FaultLog, *, forms: bool) -> tuple[Index, dict[str, object]]:
    """Report outliers (with `forms`, also of completions); return the rows to keep and a summary of the lengths."""
    lengths = np.empty(len(rows), np.int32)
    scripts, form = np.empty(len(rows), np.int8), np.empty(len(rows), np.int8)
    order = np.argsort(rows, kind="stable")
    ordered = rows[order]
    start = 0
    for batch in store.scan("prompt", "completion"):
        low, high = np.searchsorted(ordered, [start, start + batch.num_rows])
        position = order[low:high]
        batch_rows = batch.take(pa.array(ordered[low:high] - start))
        texts = pc.binary_join_element_wise(pc.fill_null(batch_rows.column(0), ""), batch_rows.column(1), "\n")
        lengths[position] = pc.utf8_length(texts).to_numpy()
        scripts[position] = _script_codes(texts)
        form[position] = _form_codes(batch_rows.column(1))
        start += batch.num_rows
    summary: dict[str, object] = length_summary(lengths)
    if len(rows) < MIN_ROWS:
        return rows, summary
    median = int(np.median(lengths))
    logs = np.log1p(lengths.astype(np.float32))
    deviations = np.abs(logs - np.median(logs))
    spread = max(1.4826 * float(np.median(deviations)), MIN_SPREAD)  # a robust standard deviation
    dropped = _report(
        store,
        rows,
        deviations > MAX_DEVIATION * spread,
        "outlying-length",
        lambda i: f"the row has {lengths[i]:,} characters; half of all rows have at most {median:,}",
        log,
    )
    dropped |= _report(store, rows, _differ(scripts), "outlying-language", _message(scripts, SCRIPT_NAMES), log)
    if forms:
        dropped |= _report(store, rows, _differ(form), "outlying-format", _message(form, FORM_NAMES), log)
    return rows[~dropped], summary


def length_summary(lengths: npt.NDArray[np.int32]) -> dict[str, object]:
    """Return quantiles and a histogram of lengths; empty without lengths."""
    if not len(lengths):
        return {}
    shares = {"min": 0, "p5": 5, "median": 50, "p95": 95, "p99": 99, "max": 100}
    counts, edges = np.histogram(lengths, bins=30)
    quantiles = {name: float(np.percentile(lengths, share)) for name, share in shares.items()}
    return quantiles | {"histogram": {"counts": counts.tolist(), "edges": edges.tolist()}}


def _message(codes: Codes, names: tuple[str, ...]) -> Callable[[int], str]:
    usual = names[int(np.argmax(np.bincount(codes)))]
    return lambda i: f"{names[codes[i]]}, but nearly all other rows are {usual}"


def _script_codes(texts: pa.Array) -> Codes:
    """Return the script of most letters of each text: 1 + its index in SCRIPTS, 0 for none of them."""
    is_ascii = pc.string_is_ascii(texts).to_numpy(zero_copy_only=False)
    result = np.where(is_ascii, 1, 0).astype(np.int8)
    other = np.flatnonzero(~is_ascii)
    if len(other):
        other_texts = texts.take(pa.array(other))
        counts = [pc.count_substring_regex(other_texts, rf"\p{{{script}}}").to_numpy() for script in SCRIPTS]
        most = np.argmax(counts, axis=0)
        result[other] = np.where(np.max(counts, axis=0) > 0, most + 1, 0)
    return result


def _form_codes(completions: pa.Array) -> Codes:
    """Return the form of each completion: 1 + its index in FORMS, 0 for free text."""
    result = np.zeros(len(completions), np.int8)
    for i, pattern in enumerate(FORMS.values()):
        matches = pc.match_substring_regex(completions, pattern).to_numpy(zero_copy_only=False)
        result[matches & (result == 0)] = i + 1
    return result


def _differ(codes: Codes) -> npt.NDArray[np.bool_]:
    """Return the mask of rows that differ from the most frequent code, if nearly all rows have it."""
    counts = np.bincount(codes)
    usual = int(np.argmax(counts))
    if counts[usual] < NEARLY_ALL * len(codes):
        return np.zeros(len(codes), bool)
    mask: npt.NDArray[np.bool_] = codes != usual
    return mask


def _report(
    store: Store,
    rows: Index,
    outlying: npt.NDArray[np.bool_],
    code: str,
    message: Callable[[int], str],
    log: FaultLog,
) -> npt.NDArray[np.bool_]:
    """Log a fault for each outlying row; return the mask of the rows to drop."""
    drop = log.action(code) in ("drop", "error")
    for i in np.flatnonzero(outlying).tolist():
        file, number = store.location(int(rows[i]))
        log.add(Fault(code, message(i), f"look at the row, or set data.policy.{code}=drop", file, number))
        if drop:
            log.reject(file, number, code)
    return outlying if drop else np.zeros(len(rows), bool)
