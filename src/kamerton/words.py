"""Words for people."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def did_you_mean(word: str, valid: Iterable[str]) -> str:
    """Return a fix that names the nearest valid word, or all of them."""
    options = sorted(valid)
    near = difflib.get_close_matches(word, options, n=1, cutoff=0.6)
    return f"did you mean {near[0]!r}?" if near else f"valid here: {', '.join(options) or 'nothing'}"


def listed(names: Sequence[str], most: int = 5) -> str:
    """Return the first `most` names, and the number of the others: a, b and 3 more."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def duration(seconds: float) -> str:
    """Return a time in its two largest units: 1 h 5 min, 5 min 3 s, 3 s."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def ending(ended: Mapping[str, Any]) -> str:
    """Describe the end of a training from `ended` of `run.json`: ended early at step 6 of 56, early stopping: …"""
    step, of = ended["step"], ended["of"]
    return f"training ended {'early ' if step < of else ''}at step {step:,} of {of:,}, {ended['detail']}"


def early_ending(ended: Any) -> str | None:
    """Return the same if it was before the last step; None otherwise, and for a malformed `ended`."""
    try:
        return ending(ended) if ended["step"] < ended["of"] else None
    except (KeyError, TypeError, ValueError):
        return None


TITLES = {
    "accuracy": "Accuracy",
    "f1": "F1 (macro)",
    "precision": "Precision (macro)",
    "recall": "Recall (macro)",
    "f1_micro": "F1 (micro)",
    "f1_weighted": "F1 (weighted)",
    "reward": "Reward",
    "exact_match": "Exact match",
    "normalised_match": "Normalised match",
    "rouge1": "ROUGE-1",
    "rouge2": "ROUGE-2",
    "rougeL": "ROUGE-L",
    "bleu": "BLEU",
    "chrf": "chrF",
    "call_exact": "Calls right",
    "call_function": "Functions right",
    "call_arguments": "Arguments (F1)",
    "call_valid_json": "Calls in valid JSON",
    "call_count": "Number of calls right",
    "call_spurious": "Calls where none is due",
    "call_missing": "Turns without a due call",
    "preference_accuracy": "Preference accuracy",
    "ranking_accuracy": "Ranking accuracy",
    "margin": "Margin of rewards",
    "reward_chosen": "Reward of chosen",
    "reward_rejected": "Reward of rejected",
    "reward_desired": "Reward of desired",
    "reward_undesired": "Reward of undesired",
    "logprob_chosen": "Log-probability of chosen",
    "logprob_rejected": "Log-probability of rejected",
    "length_chosen": "Tokens of chosen",
    "length_rejected": "Tokens of rejected",
    "loss": "Loss",
    "perplexity": "Perplexity",
    "token_accuracy": "Token accuracy",
    "ece": "Calibration error",
}


def title(metric: str) -> str:
    """A metric in words for a person."""
    words = metric.replace("_", " ")
    return TITLES.get(metric, words[:1].upper() + words[1:])


def number(value: float | None) -> str:
    """Three decimals below ten, else four significant digits with thousands separators; – for None."""
    if value is None or not math.isfinite(value):
        return "–"
    decimals = 3 if abs(value) < 10 else max(0, 3 - math.floor(math.log10(abs(value))))
    rounded = round(value, decimals) + 0.0  # -0.0 is 0
    return f"{rounded:,.{decimals}f}".replace("-", "−")


def probability(value: float) -> str:
    """A probability; never rounded to certainty."""
    if 0 < value < 0.001:
        return "<0.001"
    return ">0.999" if 0.999 < value < 1 else number(value)


def signed(value: float) -> str:
    """A difference with its sign; without one if it rounds to zero."""
    text = number(value)
    return f"+{text}" if value > 0 and text != number(0.0) else text


def bounds_text(bounds: Any) -> str:
    """` [low, high]`, empty for None."""
    if bounds is None:
        return ""
    low, high = (bounds["low"], bounds["high"]) if isinstance(bounds, dict) else bounds
    return f" [{_bound(low)}, {_bound(high)}]"


def _bound(value: float | None) -> str:
    """Return a bound of an interval; with more decimals where it would be rounded to zero."""
    text = number(value)
    if value is None or not math.isfinite(value) or float(text.replace("−", "-").replace(",", "")) or abs(value) < 1e-6:
        return text
    return f"{value:.{-math.floor(math.log10(abs(value)))}f}".replace("-", "−")
