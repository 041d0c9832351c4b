"""The examples worth reading: the worst mistakes, and what fine-tuning fixed and broke."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kamerton.score.columns import is_labelled, label_indices, label_probabilities
from kamerton.score.metrics import example_scores

SHOWN = 10
BROWSED = 200
LONGEST_TEXT = 1200

Row = dict[str, Any]


def is_right(table: pa.Table) -> NDArray[np.bool_]:
    """Per row: the predicted label is the label; without labels: the generated text is the reference, or, where
    nothing was generated, every target token is the likeliest one."""
    if is_labelled(table):
        truth, guess = label_indices(table)
        return np.asarray((truth == guess) & (truth >= 0))
    if table["finish_reason"].null_count < table.num_rows:
        return np.asarray(example_scores(table)["exact_match"] == 1)
    return np.asarray(table["correct_tokens"].to_numpy() == table["target_tokens"].to_numpy())


def worst(table: pa.Table, limit: int = SHOWN) -> list[Row]:
    """The wrong rows whose reference answer the model found least likely (highest nll), worst first."""
    nll = np.nan_to_num(table["nll"].to_numpy(), nan=math.inf)  # null becomes NaN: unknown is shown first
    wrong = np.flatnonzero(~is_right(table))
    return _rows(table, wrong[np.argsort(-nll[wrong], kind="stable")][:limit])


def changed(base: pa.Table, tuned: pa.Table, limit: int = SHOWN) -> dict[str, Any]:
    """Examples `fixed` (wrong before, right now) and `broken` (the reverse), greatest change of nll first.

    Also their numbers, `fixed_count` and `broken_count`. Both tables hold the same examples in the same
    order, as `statistics.joined` gives them.
    """
    before, after = is_right(base), is_right(tuned)
    gain = np.nan_to_num(base["nll"].to_numpy() - tuned["nll"].to_numpy())
    fixed, broken = np.flatnonzero(~before & after), np.flatnonzero(before & ~after)
    said = _answers(base)
    found: dict[str, Any] = {"fixed_count": len(fixed), "broken_count": len(broken)}
    for name, rows, order in (("fixed", fixed, -gain), ("broken", broken, gain)):
        shown = rows[np.argsort(order[rows], kind="stable")][:limit]
        found[name] = [row | {"before": said[i]} for row, i in zip(_rows(tuned, shown), shown, strict=True)]
    return found


def moved(base: pa.Table, tuned: pa.Table, limit: int = SHOWN) -> list[Row]:
    """The examples whose reference became much more or much less likely, but for those fixed or broken."""
    before, after = (table["nll"].to_numpy().astype(np.float64) for table in (base, tuned))
    shift = np.nan_to_num(np.abs(after - before))
    shift[is_right(base) != is_right(tuned)] = 0
    chosen = np.argsort(-shift, kind="stable")[:limit]
    chosen = chosen[shift[chosen] > 0]
    shown = zip(_rows(tuned, chosen), _rows(base, chosen), strict=True)
    return [row | {"before": old["answer"], "nll_before": old["nll"]} for row, old in shown]


def browsed(base: pa.Table | None, tuned: pa.Table, limit: int = BROWSED) -> list[Row]:
    """Examples to look through: the wrong ones, worst first, then the right ones the model was least sure of.

    Each row is as in `worst`, with `right`, and with `change` ("fixed", "broken" or "") and the answer `before` where
    `base` holds the same examples in the same order.
    """
    right = is_right(tuned)
    nll = np.nan_to_num(tuned["nll"].to_numpy(), nan=math.inf)
    order = np.lexsort((-nll, right))[:limit]
    rows = [row | {"right": bool(right[i])} for i, row in zip(order, _rows(tuned, order), strict=True)]
    if base is None:
        return [row | {"change": ""} for row in rows]
    before, said = is_right(base), _answers(base)
    words = {(False, True): "fixed", (True, False): "broken"}
    return [
        row | {"change": words.get((bool(before[i]), bool(right[i])), ""), "before": said[i]}
        for i, row in zip(order, rows, strict=True)
    ]


def _rows(table: pa.Table, indices: NDArray[np.int64]) -> list[Row]:
    """Rows as the report shows them: texts, the probability of the answer given and of the reference."""
    answers, (given, reference) = _answers(table), _probabilities(table)
    return [
        {
            "example_id": row["example_id"],
            "prompt": _cut(row["prompt"]),
            "target": _cut(row["label"] if row["label"] is not None else row["target"]),
            "answer": _cut(answers[i]),
            "p_answer": given[i],
            "p_target": reference[i],
            "nll": row["nll"],
        }
        for i, row in zip(indices, table.take(pa.array(indices)).to_pylist(), strict=True)
    ]


def _answers(table: pa.Table) -> list[str | None]:
    """What the model said: its label, else its text."""
    labels, texts = (table[name].to_pylist() for name in ("predicted_label", "prediction"))
    return [label if label is not None else text for label, text in zip(labels, texts, strict=True)]


def _probabilities(table: pa.Table) -> tuple[list[float | None], list[float | None]]:
    """Per row the probability of answer and reference: among the labels, else exp(-nll) of the text."""
    text = [None if value is None else math.exp(-value) for value in table["nll"].to_pylist()]
    if not is_labelled(table):
        return [None] * table.num_rows, text
    probabilities, (truth, guess) = label_probabilities(table), label_indices(table)
    width = probabilities.shape[1]

    def pick(row: int, label: int) -> float | None:
        known = 0 <= label < width and math.isfinite(probabilities[row, label])
        return float(probabilities[row, label]) if known else None

    given = [pick(row, label) for row, label in enumerate(guess)]
    reference = [pick(row, label) for row, label in enumerate(truth)]
    return given, [value if value is not None else text[i] for i, value in enumerate(reference)]


def _cut(text: str | None) -> str | None:
    """Long texts are shortened, and say so."""
    if text is None or len(text) <= LONGEST_TEXT:
        return text
    return f"{text[:LONGEST_TEXT]} … ({len(text) - LONGEST_TEXT:,} more characters in the score table)"
