"""Similarity of a text to a reference, from 0 to 1, by the metrics of OpenAI's grader `text_similarity`."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

ORDERS = 4  # n-grams of BLEU and GLEU
METRICS = ("fuzzy_match", "bleu", "gleu", "rouge_1", "rouge_2", "rouge_3", "rouge_4", "rouge_5", "rouge_l")


def similarity(metric: str, text: str, reference: str) -> float:
    """Return the similarity by one of `METRICS`.

    - `fuzzy_match`: normalised Indel similarity of the characters, `rapidfuzz.fuzz.ratio` / 100.
    - `bleu`: Papineni et al. 2002, with sacrebleu's exponential smoothing and effective order, of words and
      punctuation marks.
    - `gleu`: the lower of precision and recall of all 1-grams to 4-grams (Wu et al. 2016, arXiv 1609.08144, section 5),
      of words and punctuation marks.
    - `rouge_n`, `rouge_l`: F-measures (Lin 2004) of words in lower case, as rouge_score without stemming.
    """
    if metric == "fuzzy_match":
        return _f1(lcs_length(text, reference), len(text), len(reference)) if text or reference else 1.0
    if metric in ("bleu", "gleu"):
        tokens, others = (re.findall(r"\w+|[^\w\s]", part) for part in (text, reference))
        return _bleu(tokens, others) if metric == "bleu" else _gleu(tokens, others)
    words, others = (re.findall(r"[a-z0-9]+", part.lower()) for part in (text, reference))
    if metric == "rouge_l":
        return _f1(lcs_length(words, others), len(words), len(others))
    size = int(metric.removeprefix("rouge_"))
    grams, wanted = ngram_counts(words, size), ngram_counts(others, size)
    return _f1((grams & wanted).total(), grams.total(), wanted.total())


def _bleu(tokens: Sequence[str], reference: Sequence[str]) -> float:
    if not tokens or not reference:
        return 0.0
    logs, smoothing = [], 1.0
    for size in range(1, min(ORDERS, len(tokens)) + 1):
        grams = ngram_counts(tokens, size)
        matched: float = (grams & ngram_counts(reference, size)).total()
        if size == 1 and not matched:
            return 0.0
        if not matched:
            smoothing *= 2
            matched = 1 / smoothing
        logs.append(math.log(matched / grams.total()))
    brevity = min(0.0, 1 - len(reference) / len(tokens))
    return math.exp(brevity + sum(logs) / len(logs))


def _gleu(tokens: Sequence[str], reference: Sequence[str]) -> float:
    sizes = range(1, ORDERS + 1)
    grams, wanted = (sum((ngram_counts(each, size) for size in sizes), Counter()) for each in (tokens, reference))
    return (grams & wanted).total() / max(grams.total(), wanted.total(), 1)


def _f1(overlap: int, size: int, reference_size: int) -> float:
    return 2 * overlap / (size + reference_size) if overlap else 0.0


def ngram_counts(items: Sequence[str], size: int) -> Counter[Any]:
    """Return the number of each run of `size` items."""
    return Counter(tuple(items[start : start + size]) for start in range(len(items) - size + 1))


def lcs_length(first: Sequence[str], second: Sequence[str]) -> int:
    """Return the length of the longest common subsequence (Hyyrö 2004, bit-parallel LCS)."""
    positions: dict[str, int] = {}  # bit mask by item
    for position, item in enumerate(first):
        positions[item] = positions.get(item, 0) | 1 << position
    row = full = (1 << len(first)) - 1
    for item in second:
        matched = row & positions.get(item, 0)
        row = ((row + matched) | (row - matched)) & full
    return (full ^ row).bit_count()
