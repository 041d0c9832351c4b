"""What to know about a test set before its numbers: which rows were left out, and labels that were not detected."""

from __future__ import annotations

from collections import Counter

from kamerton.data.check.labels import MIN_ROWS_PER_LABEL
from kamerton.data.options import DataOptions
from kamerton.data.store import Examples
from kamerton.shell import setting

_MAX_NAMED = 20
_MAX_LENGTH = 40  # characters; longer completions are rather free text


def few_for_labels(examples: Examples, options: DataOptions) -> str | None:
    """Return the setting to add if completions look like labels, but there are too few rows to detect that.

    They do if they are short, at most 20 are different, and one at least is repeated. None with preferences, and if
    `data.labels` decides.
    """
    if options.labels != "auto" or options.rows != "completions":
        return None
    counts = Counter(examples.completions.to_pylist())
    is_label_like = all(text and len(text) <= _MAX_LENGTH and "\n" not in text for text in counts)
    if not is_label_like or not 2 <= len(counts) <= min(_MAX_NAMED, len(examples) - 1):
        return None
    if len(examples) >= MIN_ROWS_PER_LABEL * len(counts):  # something else made them free text, such as plain text
        return None
    named = setting("data.labels", sorted(counts))
    return (
        f"{len(examples):,} rows are too few to take their {len(counts)} different completions for labels, so there is "
        f"no accuracy: add {named} (all labels that the model may answer)"
    )
