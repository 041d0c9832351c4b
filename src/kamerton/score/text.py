"""Text metrics: counts by example, and metrics as functions of their sums.

A corpus metric is a function of sums over examples, so it can be computed for thousands of resamples at once. The
counts are plain Python: torchmetrics counts n-grams in tensors, one element at a time, and keeps no counts by example.
The values are those of sacrebleu (BLEU, chrF) and rouge_score. torchmetrics follows them except for two cases: its BLEU
without smoothing is 0 if an n-gram order has no match, and its chrF ignores the references of examples without n-grams.

Shapes: any leading axes, then the counts of `text_counts` in the last one.
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

from kamerton.objective.similarity import lcs_length, ngram_counts

Counts = NDArray[np.float64]
ORDERS = 4  # of BLEU: word 1-grams to 4-grams
CHARACTERS = 6  # of chrF
EXAMPLE_MEANS = ("exact_match", "normalised_match", "rouge1", "rouge2", "rougeL")  # means over examples


def text_counts(predictions: Sequence[str | None], targets: Sequence[str]) -> Counts:
    """Return counts by example, `[examples, counts]`: 1, the values of the five means, 10 of BLEU, 18 of chrF.

    A prediction of None counts as "".
    """
    rows = [_counts(text or "", target) for text, target in zip(predictions, targets, strict=True)]
    return np.array(rows, np.float64).reshape(-1, 1 + len(EXAMPLE_MEANS) + 2 + 2 * ORDERS + 3 * CHARACTERS)


def text_metrics(sums: Counts) -> dict[str, NDArray[np.float64]]:
    """Return the metrics from sums of counts over examples; `bleu` and `chrf` from 0 to 100, the others from 0 to 1.

    - Means over examples: `exact_match` (ignoring surrounding space), `normalised_match` (SQuAD: ignoring case,
      punctuation, articles and spaces), the F-measures `rouge1`, `rouge2`, `rougeL` (Lin 2004; no stemming).
    - Corpus metrics: `bleu` (Papineni et al. 2002; sacrebleu's 13a tokens and exponential smoothing) and `chrf`
      (Popović 2015; chrF2 as in sacrebleu).
    """
    start = 1 + len(EXAMPLE_MEANS)
    end = start + 2 + 2 * ORDERS
    with np.errstate(divide="ignore", invalid="ignore"):
        means = sums[..., 1:start] / sums[..., :1]
    metrics = {name: means[..., i] for i, name in enumerate(EXAMPLE_MEANS)}
    no_examples = sums[..., 0] == 0
    scores = {"bleu": _bleu(sums[..., start:end], ORDERS), "chrf": _chrf(sums[..., end:])}
    return metrics | {name: np.where(no_examples, np.nan, values) for name, values in scores.items()}


def text_scores(counts: Counts) -> dict[str, NDArray[np.float64]]:
    """Return the metrics by example; sentence BLEU only uses the n-gram orders that the text has (sacrebleu)."""
    start = 1 + len(EXAMPLE_MEANS)
    bleu = counts[..., start : start + 2 + 2 * ORDERS]
    longest = np.maximum((bleu[..., 2 + ORDERS :] > 0).sum(axis=-1), 1)
    return text_metrics(counts) | {"bleu": _bleu(bleu, longest)}


def normalised(text: str) -> str:
    """Return the text in lower case without punctuation, articles and extra spaces (SQuAD 1.1 evaluation script)."""
    text = "".join(character for character in text.lower() if character not in _PUNCTUATION)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


_PUNCTUATION = set(string.punctuation)


@lru_cache(maxsize=20_000)  # a report computes the metrics of the same table several times
def _counts(text: str, target: str) -> tuple[float, ...]:
    words, target_words = (re.findall(r"[a-z0-9]+", part.lower()) for part in (text, target))
    return (
        1.0,
        float(text.strip() == target.strip()),
        float(normalised(text) == normalised(target)),
        _f1(_overlap(ngram_counts(words, 1), ngram_counts(target_words, 1)), len(words), len(target_words)),
        _f1(_overlap(ngram_counts(words, 2), ngram_counts(target_words, 2)), len(words) - 1, len(target_words) - 1),
        _f1(lcs_length(words, target_words), len(words), len(target_words)),
        *_bleu_counts(tokens_13a(text), tokens_13a(target)),
        *_chrf_counts("".join(text.split()), "".join(target.split())),
    )


def _f1(overlap: int, size: int, target_size: int) -> float:
    return 2 * overlap / (size + target_size) if overlap else 0.0


def _overlap(first: Counter[Any], second: Counter[Any]) -> int:
    return sum(min(count, second[gram]) for gram, count in first.items() if gram in second)


def tokens_13a(text: str) -> list[str]:
    """Return the tokens of WMT's mteval-v13a script: punctuation is separated, except within numbers.

    As in sacrebleu, the text ends before its last spaces, so that a hyphen there joins no lines.
    """
    text = text.rstrip()
    for old, new in (("<skipped>", ""), ("-\n", ""), ("\n", " ")):
        text = text.replace(old, new)
    for old, new in (("&quot;", '"'), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">")):
        text = text.replace(old, new)
    text = f" {text} "
    for pattern, separated in _13A:
        text = pattern.sub(separated, text)
    return text.split()


_13A = (
    (re.compile(r"([\{-\~\[-\` -\&\(-\+\:-\@\/])"), r" \1 "),
    (re.compile(r"([^0-9])([\.,])"), r"\1 \2 "),
    (re.compile(r"([\.,])([^0-9])"), r" \1 \2"),
    (re.compile(r"([0-9])(-)"), r"\1 \2 "),
)


def _bleu_counts(tokens: list[str], target: list[str]) -> list[int]:
    """Return both lengths, then the matches of each order, then the text's n-grams of each order."""
    matches = [_overlap(ngram_counts(tokens, size), ngram_counts(target, size)) for size in range(1, ORDERS + 1)]
    return [len(tokens), len(target), *matches, *(max(0, len(tokens) - size + 1) for size in range(1, ORDERS + 1))]


def _bleu(counts: Counts, orders: Any) -> NDArray[np.float64]:
    """Return BLEU; the first order without a match counts as half a match, the next one as a quarter, and so on."""
    length, target_length = counts[..., 0], counts[..., 1]
    matches, ngrams = counts[..., 2 : 2 + ORDERS], counts[..., 2 + ORDERS :]
    missed = np.cumsum((matches == 0) & (ngrams > 0), axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(np.where(matches > 0, matches, 0.5**missed) / ngrams)
        used = np.arange(ORDERS) < np.asarray(orders)[..., None]
        mean = np.where(used, np.where(ngrams > 0, logs, -np.inf), 0.0).sum(axis=-1) / orders
        brevity = np.where(length < target_length, np.exp(1 - target_length / length), 1.0)
    return np.where(matches.any(axis=-1), 100 * brevity * np.exp(mean), 0.0)


def _chrf_counts(text: str, target: str) -> list[int]:
    """Return for each order the character n-grams of the text, of the reference, and in both; without spaces.

    As in sacrebleu, a text's n-grams are not counted if its reference has none of that order.
    """
    counts = []
    for size in range(1, CHARACTERS + 1):
        ngrams, target_ngrams = (
            Counter(part[start : start + size] for start in range(len(part) - size + 1)) for part in (text, target)
        )
        total = ngrams.total() if target_ngrams else 0
        counts += [total, target_ngrams.total(), _overlap(ngrams, target_ngrams)]
    return counts


def _chrf(counts: Counts) -> NDArray[np.float64]:
    """Return F2 of the mean precision and mean recall over the orders that both text and reference have."""
    text, target, both = counts[..., 0::3], counts[..., 1::3], counts[..., 2::3]
    has_order = (text > 0) & (target > 0)
    orders = np.maximum(has_order.sum(axis=-1), 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = np.where(has_order, both / text, 0.0).sum(axis=-1) / orders
        recall = np.where(has_order, both / target, 0.0).sum(axis=-1) / orders
        score = 5 * precision * recall / (4 * precision + recall)
    return np.where(precision + recall > 0, 100 * score, 0.0)
