"""How near a generated text is to its reference: counts of each example, and metrics as functions of their sums.

A metric of a corpus is a function of sums over examples, so it is computed again for thousands of resamples at once.
The counts are plain Python: torchmetrics counts n-grams in tensors, one element at a time, and keeps no counts of
single examples. The values are those of sacrebleu (BLEU, chrF) and rouge_score, which torchmetrics follows too but for
two points: its BLEU without smoothing is 0 where an n-gram order has no match, and its chrF leaves out the references
of examples without any.

Shapes: any leading axes, then the counts of `COUNTS` in the last one.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.float64]
ORDERS = 4  # of BLEU: word 1-grams to 4-grams
CHARACTERS = 6  # of chrF
EXAMPLE_MEANS = ("exact_match", "normalised_match", "rouge1", "rouge2", "rougeL")  # means of values of examples


def text_counts(predictions: Sequence[str | None], targets: Sequence[str]) -> Counts:
    """Counts of each example, `[examples, counts]`: 1, the five means' values, BLEU's 10, chrF's 18. None is ""."""
    rows = [_counts(text or "", target) for text, target in zip(predictions, targets, strict=True)]
    return np.array(rows, np.float64).reshape(-1, 1 + len(EXAMPLE_MEANS) + 2 + 2 * ORDERS + 3 * CHARACTERS)


def text_metrics(sums: Counts) -> dict[str, NDArray[np.float64]]:
    """The metrics of sums of counts over examples; `bleu` and `chrf` from 0 to 100, the others from 0 to 1.

    `exact_match` (but for the space around), `normalised_match` (SQuAD: case, punctuation, articles and spaces aside),
    and the F-measures `rouge1`, `rouge2`, `rougeL` are means over examples (Lin 2004; no stemming). `bleu` is that of
    the corpus (Papineni et al. 2002; sacrebleu's 13a tokens and exponential smoothing), so is `chrf` (Popović 2015;
    chrF2, sacrebleu).
    """
    at = 1 + len(EXAMPLE_MEANS)
    with np.errstate(divide="ignore", invalid="ignore"):
        means = sums[..., 1:at] / sums[..., :1]
    found = {name: means[..., i] for i, name in enumerate(EXAMPLE_MEANS)}
    end = at + 2 + 2 * ORDERS
    none = sums[..., 0] == 0
    scores = {"bleu": _bleu(sums[..., at:end], ORDERS), "chrf": _chrf(sums[..., end:])}
    return found | {name: np.where(none, np.nan, values) for name, values in scores.items()}


def text_scores(counts: Counts) -> dict[str, NDArray[np.float64]]:
    """Each metric of each example alone; BLEU of a sentence looks at the orders that it has (sacrebleu)."""
    at = 1 + len(EXAMPLE_MEANS)
    bleu = counts[..., at : at + 2 + 2 * ORDERS]
    longest = np.maximum((bleu[..., 2 + ORDERS :] > 0).sum(axis=-1), 1)
    return text_metrics(counts) | {"bleu": _bleu(bleu, longest)}


def normalised(text: str) -> str:
    """Lower case, without punctuation, articles and superfluous spaces (SQuAD 1.1's evaluation script)."""
    bare = "".join(character for character in text.lower() if character not in _PUNCTUATION)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", bare).split())


_PUNCTUATION = set(string.punctuation)


@lru_cache(maxsize=20_000)  # a report asks several times for the same table
def _counts(text: str, target: str) -> tuple[float, ...]:
    words, wanted = (re.findall(r"[a-z0-9]+", part.lower()) for part in (text, target))
    return (
        1.0,
        float(text.strip() == target.strip()),
        float(normalised(text) == normalised(target)),
        _f1(_shared(_grams(words, 1), _grams(wanted, 1)), len(words), len(wanted)),
        _f1(_shared(_grams(words, 2), _grams(wanted, 2)), len(words) - 1, len(wanted) - 1),
        _f1(_common_length(words, wanted), len(words), len(wanted)),
        *_bleu_counts(tokens_13a(text), tokens_13a(target)),
        *_chrf_counts("".join(text.split()), "".join(target.split())),
    )


def _f1(shared: int, one: int, other: int) -> float:
    return 2 * shared / (one + other) if shared else 0.0


def _grams(items: Sequence[str], size: int) -> Counter[Any]:
    return Counter(tuple(items[at : at + size]) for at in range(len(items) - size + 1))


def _shared(one: Counter[Any], other: Counter[Any]) -> int:
    return sum(min(count, other[gram]) for gram, count in one.items() if gram in other)


def _common_length(one: Sequence[str], other: Sequence[str]) -> int:
    """Length of the longest common subsequence, 64 cells and more at a time (Hyyrö 2004, bit-parallel LCS)."""
    places: dict[str, int] = {}
    for at, word in enumerate(one):
        places[word] = places.get(word, 0) | 1 << at
    row = full = (1 << len(one)) - 1
    for word in other:
        met = row & places.get(word, 0)
        row = ((row + met) | (row - met)) & full
    return (full ^ row).bit_count()


def tokens_13a(text: str) -> list[str]:
    """The tokens that WMT's mteval-v13a script counts: punctuation apart, but not within numbers."""
    for written, meant in (("<skipped>", ""), ("-\n", ""), ("\n", " ")):
        text = text.replace(written, meant)
    for written, meant in (("&quot;", '"'), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">")):
        text = text.replace(written, meant)
    text = f" {text} "
    for pattern, apart in _13A:
        text = pattern.sub(apart, text)
    return text.split()


_13A = (
    (re.compile(r"([\{-\~\[-\` -\&\(-\+\:-\@\/])"), r" \1 "),
    (re.compile(r"([^0-9])([\.,])"), r"\1 \2 "),
    (re.compile(r"([\.,])([^0-9])"), r" \1 \2"),
    (re.compile(r"([0-9])(-)"), r"\1 \2 "),
)


def _bleu_counts(tokens: list[str], wanted: list[str]) -> list[int]:
    """Both lengths, then for each order the matches, then for each the n-grams of the text."""
    matches = [_shared(_grams(tokens, size), _grams(wanted, size)) for size in range(1, ORDERS + 1)]
    return [len(tokens), len(wanted), *matches, *(max(0, len(tokens) - size + 1) for size in range(1, ORDERS + 1))]


def _bleu(counts: Counts, orders: Any) -> NDArray[np.float64]:
    """The n-th order without a match counts as half a match, the next one as a quarter, and so on."""
    length, wanted = counts[..., 0], counts[..., 1]
    matches, grams = counts[..., 2 : 2 + ORDERS], counts[..., 2 + ORDERS :]
    missed = np.cumsum((matches == 0) & (grams > 0), axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(np.where(matches > 0, matches, 0.5**missed) / grams)
        used = np.arange(ORDERS) < np.asarray(orders)[..., None]
        mean = np.where(used, np.where(grams > 0, logs, -np.inf), 0.0).sum(axis=-1) / orders
        short = np.where(length < wanted, np.exp(1 - wanted / length), 1.0)
    return np.where(matches.any(axis=-1), 100 * short * np.exp(mean), 0.0)


def _chrf_counts(text: str, target: str) -> list[int]:
    """For each order the character n-grams of the text, of the reference, and those in both; spaces left out.

    As in sacrebleu, a text's n-grams do not count where its reference has none of that order.
    """
    counts = []
    for size in range(1, CHARACTERS + 1):
        one, other = _slices(text, size), _slices(target, size)
        counts += [one.total() if other else 0, other.total(), _shared(one, other)]
    return counts


def _slices(text: str, size: int) -> Counter[str]:
    return Counter(text[at : at + size] for at in range(len(text) - size + 1))


def _chrf(counts: Counts) -> NDArray[np.float64]:
    """F2 of the mean precision and the mean recall over the orders that both sides have."""
    text, target, both = counts[..., 0::3], counts[..., 1::3], counts[..., 2::3]
    known = (text > 0) & (target > 0)
    size = np.maximum(known.sum(axis=-1), 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = np.where(known, both / text, 0.0).sum(axis=-1) / size
        recall = np.where(known, both / target, 0.0).sum(axis=-1) / size
        score = 5 * precision * recall / (4 * precision + recall)
    return np.where(precision + recall > 0, 100 * score, 0.0)
