"""Examples to read: the worst errors, and what fine-tuning fixed and broke."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kamerton.score.call_metrics import calls_right, has_calls
from kamerton.score.calls import read_calls_text
from kamerton.score.columns import is_labelled, label_indices, label_probabilities
from kamerton.score.judged import has_judgements, judged_counts
from kamerton.score.metrics import example_scores
from kamerton.score.pairs import has_pairs, pair_scores

SHOWN = 10
BROWSED = 200
MAX_CHARACTERS = 1200

Row = dict[str, Any]


def is_right(table: pa.Table) -> NDArray[np.bool_]:
    """Return whether each row is correct, `[rows]`.

    Of pairs: the chosen completion has the higher log-probability per token. Of completions judged one by one: the
    reward of a desired one is positive, that of any other negative. With labels: the predicted label is the label. With
    generated answers: the text equals the reference, unless that is calls alone, and so do the calls. Otherwise: every
    target token is the most likely one.
    """
    if has_pairs(table):
        return np.asarray(pair_scores(table)["ranking_accuracy"] == 1)
    if has_judgements(table):
        desired, undesired = judged_counts(table)[:, 2:4].T
        return np.asarray(desired - undesired > 0)
    if is_labelled(table):
        truth, guess = label_indices(table)
        return np.asarray((truth == guess) & (truth >= 0))
    if table["finish_reason"].null_count < table.num_rows:
        scores = example_scores(table)["exact_match"]
        right = np.asarray(scores == 1)
        return (right | np.isnan(scores)) & calls_right(table) if has_calls(table) else right
    return np.asarray(table["correct_tokens"].to_numpy() == table["target_tokens"].to_numpy())


def worst(table: pa.Table, limit: int = SHOWN) -> list[Row]:
    """Return the wrong rows with the least likely reference answer (highest nll), worst first."""
    nll = np.nan_to_num(table["nll"].to_numpy(), nan=math.inf)  # null becomes NaN: rows without nll come first
    wrong = np.flatnonzero(~is_right(table))
    return _rows(table, wrong[np.argsort(-nll[wrong], kind="stable")][:limit])


def changed(base: pa.Table, tuned: pa.Table, limit: int = SHOWN) -> dict[str, Any]:
    """Return the examples `fixed` (wrong before, correct now) and `broken` (the reverse), largest change of nll first.

    Also returns their numbers, `fixed_count` and `broken_count`. Both tables hold the same examples in the same order,
    as `intervals.joined` returns them.
    """
    before, after = is_right(base), is_right(tuned)
    gain = np.nan_to_num(base["nll"].to_numpy() - tuned["nll"].to_numpy())
    fixed, broken = np.flatnonzero(~before & after), np.flatnonzero(before & ~after)
    answers = _answers(base)
    result: dict[str, Any] = {"fixed_count": len(fixed), "broken_count": len(broken)}
    for name, rows, order in (("fixed", fixed, -gain), ("broken", broken, gain)):
        shown = rows[np.argsort(order[rows], kind="stable")][:limit]
        result[name] = [row | {"before": answers[i]} for row, i in zip(_rows(tuned, shown), shown, strict=True)]
    return result


def moved(base: pa.Table, tuned: pa.Table, limit: int = SHOWN) -> list[Row]:
    """Return the examples with the largest change of the reference's nll, without those fixed or broken."""
    before, after = (table["nll"].to_numpy().astype(np.float64) for table in (base, tuned))
    shift = np.nan_to_num(np.abs(after - before))
    shift[is_right(base) != is_right(tuned)] = 0
    chosen = np.argsort(-shift, kind="stable")[:limit]
    chosen = chosen[shift[chosen] > 0]
    shown = zip(_rows(tuned, chosen), _rows(base, chosen), strict=True)
    return [row | {"before": old["answer"], "nll_before": old["nll"]} for row, old in shown]


def browsed(base: pa.Table | None, tuned: pa.Table, limit: int = BROWSED) -> list[Row]:
    """Return examples to look through: the wrong ones, worst first, then the correct ones with the highest nll.

    Each row is as in `worst`, with `right` and `change` ("fixed", "broken" or ""). If `base` is given, it holds the
    same examples in the same order, and rows also have its answer (`before`).
    """
    right = is_right(tuned)
    nll = np.nan_to_num(tuned["nll"].to_numpy(), nan=math.inf)
    order = np.lexsort((-nll, right))[:limit]
    rows = [row | {"right": bool(right[i])} for i, row in zip(order, _rows(tuned, order), strict=True)]
    if base is None:
        return [row | {"change": ""} for row in rows]
    before, answers = is_right(base), _answers(base)
    changes = {(False, True): "fixed", (True, False): "broken"}
    return [
        row | {"change": changes.get((bool(before[i]), bool(right[i])), ""), "before": answers[i]}
        for i, row in zip(order, rows, strict=True)
    ]


def _rows(table: pa.Table, indices: NDArray[np.int64]) -> list[Row]:
    """Return rows as the report shows them: texts, and the probabilities of the answer and of the reference."""
    answers, references, (predicted, reference) = _answers(table), targets(table), _probabilities(table)
    return [
        {
            "example_id": row["example_id"],
            "prompt": shortened(row["prompt"]),
            "target": shortened(references[i]),
            "answer": shortened(answers[i]),
            "p_answer": predicted[i],
            "p_target": reference[i],
            "nll": row["nll"],
        }
        for i, row in zip(indices, table.take(pa.array(indices)).to_pylist(), strict=True)
    ]


def _answers(table: pa.Table) -> list[str | None]:
    """Return the model's answers: the label or text with its calls; of a pair the completion that it prefers."""
    if has_pairs(table):
        sides = zip(is_right(table), targets(table), rejections(table), strict=True)
        return [chosen if right else rejected for right, chosen, rejected in sides]
    labels, texts = (table[name].to_pylist() for name in ("predicted_label", "prediction"))
    texts = _with_calls(table, texts, "predicted_calls")
    return [label if label is not None else text for label, text in zip(labels, texts, strict=True)]


def targets(table: pa.Table) -> list[str]:
    """Return the references: the label, otherwise the text with its calls."""
    labels, texts = (table[name].to_pylist() for name in ("label", "target"))
    texts = _with_calls(table, texts, "target_calls")
    return [label if label is not None else text for label, text in zip(labels, texts, strict=True)]


def rejections(table: pa.Table) -> list[str]:
    """Return the rejected completions of pairs, with their calls."""
    return _with_calls(table, table["rejected"].to_pylist(), "rejected_calls")


def _with_calls(table: pa.Table, texts: list[Any], column: str) -> list[Any]:
    """Return the texts, each with a line for each of its calls as in a program: `name({"city": "Oslo"})`."""
    if column not in table.column_names:
        return texts
    cells = zip(texts, table[column].to_pylist(), strict=True)
    return [shown if (shown := shown_calls(calls, text)) or text is not None else None for text, calls in cells]


def shown_calls(calls: str | None, text: str | None = None) -> str:
    """Return a text and the calls of a cell of a scores table, one a line, as people read them."""
    lines = [
        f"{call.invalid or call.name} (not a valid call)"
        if call.arguments is None
        else f"{call.name}({json.dumps(call.arguments, ensure_ascii=False)})"
        for call in read_calls_text(calls)
    ]
    return "\n".join([*([text] if text else []), *lines])


def _probabilities(table: pa.Table) -> tuple[list[float | None], list[float | None]]:
    """Return the probabilities of answer and reference by row: among the labels, otherwise exp(-nll) of the text."""
    text = [None if value is None else math.exp(-value) for value in table["nll"].to_pylist()]
    if not is_labelled(table):
        return [None] * table.num_rows, text
    probabilities, (truth, guess) = label_probabilities(table), label_indices(table)
    width = probabilities.shape[1]

    def pick(row: int, label: int) -> float | None:
        is_defined = 0 <= label < width and math.isfinite(probabilities[row, label])
        return float(probabilities[row, label]) if is_defined else None

    predicted = [pick(row, label) for row, label in enumerate(guess)]
    reference = [pick(row, label) for row, label in enumerate(truth)]
    return predicted, [value if value is not None else text[i] for i, value in enumerate(reference)]


def shortened(text: str | None) -> str | None:
    """Truncate a long text and append the number of characters left out."""
    if text is None or len(text) <= MAX_CHARACTERS:
        return text
    return f"{text[:MAX_CHARACTERS]} … ({len(text) - MAX_CHARACTERS:,} more characters in the score table)"
