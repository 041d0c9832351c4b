"""Detect defective answers: empty, truncated, repetitive, not a label, all the same, not JSON.

Uses only a score table: answers (`prediction`, `predicted_label`), their `finish_reason`, and the references. The
distributions of answers and references are compared with significance tests, so that small sets raise no false alarms.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from scipy import stats  # type: ignore[import-untyped]

from kamerton.data.validation import ValidationResult
from kamerton.decide.compare.other_scoring import better_scoring
from kamerton.errors import Fault
from kamerton.score.calls import read_calls_text
from kamerton.words import listed

LEVEL = 0.001  # of the tests, so that false alarms are rare
MIN_COHEN_W = 0.1
MIN_KS_DISTANCE = 0.3  # Kolmogorov-Smirnov
MIN_ANSWERS = 10
MIN_REPEATS = 4  # in a row
MAX_REPEATED_WORDS = 30

FaultCounts = Iterator[tuple[Fault, int]]


def validate_results(table: pa.Table, run: Path | None = None) -> ValidationResult:
    """Check the answers of a score table for defects: empty, cut off, repetitive, all the same, not a label.

    A table without answers, such as one that holds the likelihood of references alone, has no faults.

    Args:
        table: a score table.
        run: the run directory it belongs to, for the command in the advice.

    Returns:
        A `ValidationResult`. A fault that concerns most answers is an error, any other one a warning; `report` has the
        counts by code. Labels that another way of scoring gets right are a warning.

    Example:
        >>> from kamerton import validate_results
        >>> from kamerton.score.table import scores_table
        >>> row = {"example_id": "1", "prompt": "Hi", "target": "Hello", "target_tokens": 2, "metadata": "{}"}
        >>> answers = scores_table([row | {"prediction": ""}], None)
        >>> [fault.code for fault in validate_results(answers).errors]
        ['results.empty']
    """
    texts, labels = table["prediction"].to_pylist(), table["predicted_label"].to_pylist()
    answers = [text if text is not None else label for text, label in zip(texts, labels, strict=True)]
    count = sum(answer is not None for answer in answers)
    report: dict[str, object] = {"examples": table.num_rows, "answers": count}
    if not count:
        return ValidationResult([], [], report)
    faults = list(_defective_answers(table, answers))
    better = better_scoring(table)
    if better is not None:  # then the scoring method is at fault, not the data or the training
        fault = Fault("results.scoring", better.message, better.fix(run), severity="warning")
        faults.append((fault, table.num_rows))
    else:
        faults += _label_distribution(table)
    faults += _lengths(table)
    report |= {fault.code: affected for fault, affected in faults}
    errors = [fault for fault, _ in faults if fault.severity == "error"]
    warnings = [fault for fault, _ in faults if fault.severity == "warning"]
    return ValidationResult(errors, warnings, report)


def _defective_answers(table: pa.Table, answers: Sequence[str | None]) -> FaultCounts:
    """Yield the faults of individual answers, one for each kind of defect."""
    texts = [answer or "" for answer in answers]
    called = [cell not in (None, "[]") for cell in _cells(table, "predicted_calls")]
    empty = [not is_visible(text) and not has_calls for text, has_calls in zip(texts, called, strict=True)]
    cut = [reason == "length" for reason in _cells(table, "finish_reason")]
    both = list(zip(empty, cut, strict=True))
    fix = "look at the chat template and the stop tokens"
    stopped = [is_empty and not is_cut for is_empty, is_cut in both]
    yield from _fault(table, "results.empty", stopped, "are empty", fix)
    invisible = [is_empty and is_cut for is_empty, is_cut in both]
    defect = "are white space or special tokens alone, up to the maximum length"
    yield from _fault(table, "results.invisible", invisible, defect, fix)
    truncated = [is_cut and not is_empty for is_empty, is_cut in both]
    fix = "allow longer answers (score.max_new_tokens), or find out why the model does not stop"
    yield from _fault(table, "results.truncated", truncated, "were cut off at the maximum length", fix)
    fix = "train longer or with a lower learning rate; check that the end of turn is trained on"
    yield from _fault(table, "results.repeated", list(map(is_loop, texts)), "repeat themselves without end", fix)
    if table["label"].null_count < table.num_rows:
        pairs = zip(table["label"].to_pylist(), table["predicted_label"].to_pylist(), strict=True)
        unlabelled = [label is not None and guess is None for label, guess in pairs]
        fix = "score the labels instead of generating text, or constrain the text to them"
        yield from _fault(table, "results.not-a-label", unlabelled, "are none of the labels", fix)
    malformed = [
        any(call.arguments is None for call in read_calls_text(cell)) for cell in _cells(table, "predicted_calls")
    ]
    fix = "train on more examples of calls, or allow longer answers (score.max_new_tokens)"
    yield from _fault(table, "results.calls", malformed, "have calls that are not valid JSON", fix)
    references = table["target"].to_pylist()
    if references and all(map(is_json, references)):
        malformed = [not is_json(text) for text in texts]
        fix = "train on more examples of the format, or constrain the text"
        yield from _fault(table, "results.format", malformed, "are not JSON, as every reference is", fix)


def _fault(table: pa.Table, code: str, affected: Sequence[bool], defect: str, fix: str) -> FaultCounts:
    count = sum(affected)
    if not count:
        return
    ids = [name for name, is_affected in zip(table["example_id"].to_pylist(), affected, strict=True) if is_affected]
    message = f"{count:,} of {len(affected):,} answers {defect} ({listed(ids, 3)})"
    yield Fault(code, message, fix, severity="error" if count * 2 > len(affected) else "warning"), count


def _cells(table: pa.Table, column: str) -> list[str | None]:
    """Return the cells of a column that the table may lack."""
    return table[column].to_pylist() if column in table.column_names else [None] * table.num_rows


def _label_distribution(table: pa.Table) -> FaultCounts:
    """Yield a fault if all answers are one label, or labels are predicted much more or less often than they occur.

    The distributions are compared by a chi-squared test with Cohen's w as effect size.
    """
    references, guesses = table["label"].to_pylist(), table["predicted_label"].to_pylist()
    predicted = Counter(label for label in guesses if label is not None)
    expected = Counter(label for label in references if label is not None)
    if len(predicted) == 1 and len(expected) > 1 and predicted.total() >= MIN_ANSWERS:
        (label,) = predicted
        message = f"every answer is {label!r}; the references have {len(expected)} labels"
        yield Fault("results.collapsed", message, "balance the labels, or lower the learning rate"), predicted.total()
    pairs = [pair for pair in zip(references, guesses, strict=True) if None not in pair]
    expected, predicted = Counter(label for label, _ in pairs), Counter(label for _, label in pairs)
    labels = sorted({*expected, *predicted})
    if len(labels) < 2 or len(pairs) < MIN_ANSWERS or len(predicted) < 2:
        return  # too few answers, or collapsed
    counts = np.array([[column[label] for label in labels] for column in (expected, predicted)])
    test = stats.chi2_contingency(counts, correction=False)
    effect = float(np.sqrt(test.statistic / counts.sum()))
    if test.pvalue < LEVEL and effect > MIN_COHEN_W:
        worst = int(np.argmax(np.abs(counts[1] - counts[0])))
        times = f"{labels[worst]!r} is answered {counts[1][worst]:,} times, but expected {counts[0][worst]:,} times"
        message = f"the predicted label distribution differs from the references: {times} (w = {effect:.2f})"
        yield Fault("results.labels", message, "look at the confusion of that label", severity="warning"), len(pairs)


def _lengths(table: pa.Table) -> FaultCounts:
    """Yield a fault if texts are much longer or shorter than the references (two-sample Kolmogorov-Smirnov test)."""
    texts, references = table["prediction"].to_pylist(), table["target"].to_pylist()
    pairs = [  # without references that are calls alone
        (text or "", reference)
        for text, reference, calls in zip(texts, references, _cells(table, "target_calls"), strict=True)
        if reference or calls in (None, "[]")
    ]
    if table["label"].null_count < table.num_rows or len(pairs) < MIN_ANSWERS:
        return  # the lengths of labels mean nothing
    lengths = [np.array([len(text) for text in column]) for column in zip(*pairs, strict=True)]
    test = stats.ks_2samp(*lengths)
    if test.pvalue < LEVEL and test.statistic > MIN_KS_DISTANCE:
        medians = [int(np.median(column)) for column in lengths]
        message = f"answers have a median of {medians[0]:,} characters, the references {medians[1]:,}"
        message += f" (Kolmogorov-Smirnov distance {test.statistic:.2f})"
        yield Fault("results.lengths", message, "look at some answers", severity="warning"), len(pairs)


def is_visible(text: str) -> bool:
    """Return whether a text has a character that is seen: neither white space nor a control or format character."""
    return any(character.isprintable() and not character.isspace() for character in text)


def is_loop(text: str) -> bool:
    """Return whether a text ends in the same words (up to 30) or characters (up to 20) at least four times in a row."""
    return _repeats(text.split(), MAX_REPEATED_WORDS, 2) or _repeats(list(text[-400:]), 20, 8)


def _repeats(items: Sequence[str], longest: int, least: int) -> bool:
    """Return whether a sequence ends in a part repeated at least 4 times, and in total over 4 x `least` items."""
    for size in range(1, min(longest, len(items) // MIN_REPEATS) + 1):
        same = 0
        while same < len(items) - size and items[-1 - same] == items[-1 - same - size]:
            same += 1
        if same >= max((MIN_REPEATS - 1) * size, MIN_REPEATS * least - size):
            return True
    return False


def is_json(text: str) -> bool:
    """Return whether a text is a JSON object or list."""
    loads: Callable[[str], object] = json.loads
    try:
        return text.strip()[:1] in ("{", "[") and isinstance(loads(text), dict | list)
    except (ValueError, RecursionError):
        return False
