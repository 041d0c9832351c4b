"""Whether a model's answers are sound at all: empty, cut off, going round in circles, no label, all the same, not JSON.

Only what a score table holds is looked at: answers (`prediction`, `predicted_label`), how they ended
(`finish_reason`), and the references. Shares of answers are compared with those of the references by a test, so that a
small set does not cry wolf.
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
from kamerton.decide.compare.otherwise import otherwise
from kamerton.errors import Fault

LEVEL = 0.001  # of the tests: a warning should be rare where nothing is wrong
FAR_LABELS = 0.1  # Cohen's w that is worth a word
FAR_LENGTHS = 0.3  # Kolmogorov-Smirnov distance that is
FEW = 10  # answers
ROUNDS = 4  # repeats in a row that make a loop
LONGEST_ROUND = 30  # words


def validate_results(table: pa.Table, run: Path | None = None) -> ValidationResult:
    """Everything that is wrong with the answers of a score table; `report` has the counts, by code.

    A fault that concerns most answers is an error (the answers are of no use), any other one a warning. A table without
    answers, such as one that holds the likelihood of references alone, has no faults. Labels that are right by another
    way of scoring are a warning; `run`, the run directory that the table is of, is for the command in its advice.
    """
    answers, references = _answers(table), table["target"].to_pylist()
    known = [text for text in answers if text is not None]
    report: dict[str, object] = {"examples": table.num_rows, "answers": len(known)}
    if not known:
        return ValidationResult([], [], report)
    of_labels = list(_otherwise(table, run)) or [*_collapse(table), *_labels(table)]
    faults = [*_shares(table, answers, references), *of_labels, *_lengths(table, references)]
    for fault, count in faults:
        report[fault.code] = count
    found = [fault for fault, _ in faults]
    split = {kind: [fault for fault in found if fault.severity == kind] for kind in ("error", "warning")}
    return ValidationResult(split["error"], split["warning"], report)


Found = Iterator[tuple[Fault, int]]


def _answers(table: pa.Table) -> list[str | None]:
    """The text of each answer; of labels that were scored, the label."""
    texts = table["prediction"].to_pylist()
    labels = table["predicted_label"].to_pylist()
    return [text if text is not None else label for text, label in zip(texts, labels, strict=True)]


def _shares(table: pa.Table, answers: Sequence[str | None], references: Sequence[str]) -> Found:
    """Faults of single answers, one for each kind."""
    generated = any(text is not None for text in table["prediction"].to_pylist())
    missing = [text is None for text in answers] if generated else [False] * len(answers)
    empty = [gone or not (text or "").strip() for gone, text in zip(missing, answers, strict=True)]
    yield from _fault(table, "results.empty", empty, "are empty", "look at the chat template and the stop tokens")
    if "finish_reason" in table.column_names:
        cut = [reason == "length" for reason in table["finish_reason"].to_pylist()]
        yield from _fault(table, "results.truncated", cut, "were cut off at the longest length allowed", _LONGER)
    loops = [is_loop(text or "") for text in answers]
    yield from _fault(table, "results.repeated", loops, "repeat themselves without end", _LOOP)
    if table["label"].null_count < table.num_rows:
        pairs = zip(table["label"].to_pylist(), table["predicted_label"].to_pylist(), strict=True)
        none = [label is not None and guess is None for label, guess in pairs]
        yield from _fault(table, "results.not-a-label", none, "are none of the labels", _CONSTRAIN)
    if references and all(map(is_json, references)):
        broken = [not is_json(text or "") for text in answers]
        yield from _fault(table, "results.format", broken, "are not JSON, as every reference is", _FORMAT)


_LONGER = "allow longer answers, or find out why the model does not stop"
_LOOP = "train longer or with a lower learning rate; see whether the end of turn is trained on"
_CONSTRAIN = "score the labels instead of generating text, or constrain the text to them"
_FORMAT = "train on more examples of the format, or constrain the text"


def _fault(table: pa.Table, code: str, hit: Sequence[bool], what: str, fix: str) -> Found:
    count = sum(hit)
    if not count:
        return
    ids = [name for name, is_hit in zip(table["example_id"].to_pylist(), hit, strict=True) if is_hit]
    few = ", ".join(ids[:3]) + (", …" if count > 3 else "")
    message = f"{count:,} of {len(hit):,} answers {what} ({few})"
    yield Fault(code, message, fix, severity="error" if count * 2 > len(hit) else "warning"), count


def _otherwise(table: pa.Table, run: Path | None) -> Found:
    """Labels that another way of scoring gets right: then the way is at fault, and not data or training."""
    found = otherwise(table)
    if found is not None:
        yield Fault("results.scoring", found.message, found.fix(run), severity="warning"), table.num_rows


def _collapse(table: pa.Table) -> Found:
    """One and the same label for everything."""
    guesses = Counter(label for label in table["predicted_label"].to_pylist() if label is not None)
    labels = Counter(label for label in table["label"].to_pylist() if label is not None)
    if len(guesses) == 1 and len(labels) > 1 and guesses.total() >= FEW:
        (label,) = guesses
        message = f"every answer is {label!r}; the references have {len(labels)} labels"
        yield Fault("results.collapsed", message, "balance the labels, or lower the learning rate"), guesses.total()


def _labels(table: pa.Table) -> Found:
    """Labels that are answered much more or less often than they stand in the references (chi-squared, Cohen's w)."""
    pairs = zip(table["label"].to_pylist(), table["predicted_label"].to_pylist(), strict=True)
    both = [(true, guess) for true, guess in pairs if true is not None and guess is not None]
    told, said = (Counter(column) for column in zip(*both, strict=True)) if both else (Counter[str](), Counter[str]())
    labels = sorted({*told, *said})
    counts = np.array([[column[label] for label in labels] for column in (told, said)])
    if len(labels) < 2 or len(both) < FEW or len(said) < 2:
        return  # too few to tell, or collapsed
    found = stats.chi2_contingency(counts, correction=False)
    size = float(np.sqrt(found.statistic / counts.sum()))
    if found.pvalue < LEVEL and size > FAR_LABELS:
        most = int(np.argmax(np.abs(counts[1] - counts[0])))
        often = (
            f"{labels[most]!r} is answered {counts[1][most]:,} times, the references have it {counts[0][most]:,} times"
        )
        message = f"answers are spread over the labels otherwise than the references: {often} (w = {size:.2f})"
        yield Fault("results.labels", message, "look at the confusion of that label", severity="warning"), len(both)


def _lengths(table: pa.Table, references: Sequence[str]) -> Found:
    """Texts much longer or shorter than the references (two-sample Kolmogorov-Smirnov, characters)."""
    texts = table["prediction"].to_pylist()
    if table["label"].null_count < table.num_rows or len(texts) < FEW:
        return  # labels have the lengths they have
    lengths = [np.array([len(text or "") for text in column]) for column in (texts, references)]
    found = stats.ks_2samp(*lengths)
    if found.pvalue < LEVEL and found.statistic > FAR_LENGTHS:
        middles = [int(np.median(column)) for column in lengths]
        message = f"answers have {middles[0]:,} characters in the middle, the references {middles[1]:,}"
        message += f" (Kolmogorov-Smirnov distance {found.statistic:.2f})"
        yield Fault("results.lengths", message, "look at some answers", severity="warning"), len(texts)


def is_loop(text: str) -> bool:
    """Whether a text ends in the same words (up to 30) or characters (up to 20), four times or more in a row."""
    words = text.split()
    return _turns(words, LONGEST_ROUND, 2) or _turns(list(text[-400:]), 20, 8)


def _turns(items: Sequence[str], longest: int, least: int) -> bool:
    """Whether the end of a sequence is one part again and again: 4 times, and at least 4 x `least` items."""
    for size in range(1, min(longest, len(items) // ROUNDS) + 1):
        same = 0
        while same < len(items) - size and items[-1 - same] == items[-1 - same - size]:
            same += 1
        if same >= max((ROUNDS - 1) * size, ROUNDS * least - size):
            return True
    return False


def is_json(text: str) -> bool:
    """Whether a text is a JSON object or list."""
    loads: Callable[[str], object] = json.loads
    try:
        return text.strip()[:1] in ("{", "[") and isinstance(loads(text), dict | list)
    except (ValueError, RecursionError):
        return False
