"""Whether higher or lower values of a metric are better, for callbacks, sweeps, comparisons and the gate.

A custom metric has an attribute of its own (`higher_is_better`, docs/how-to/evaluation.md) and is not listed here.
"""

from __future__ import annotations

LABEL_METRICS = ("accuracy", "f1", "precision", "recall", "f1_micro", "f1_weighted", "ece")
TEXT_METRICS = ("exact_match", "normalised_match", "rouge1", "rouge2", "rougeL", "bleu", "chrf")
CALL_METRICS = ("call_exact", "call_function", "call_arguments", "call_valid_json", "call_count")
CALL_ERRORS = ("call_spurious", "call_missing")
PAIR_METRICS = ("preference_accuracy", "ranking_accuracy", "margin")
REWARD = "reward"  # of generated answers
PAIR_DETAILS = frozenset(  # described, but without a verdict: preferences are decided by their difference
    {
        *("reward_chosen", "reward_rejected", "logprob_chosen", "logprob_rejected", "length_chosen", "length_rejected"),
        *("reward_desired", "reward_undesired"),
    }
)
# What training on preferences logs beside the metrics of the loss: on pairs, and on judged completions (KTO).
COMPARED = (
    *("preference_accuracy", "margin", "reward_chosen", "reward_rejected", "logprob_chosen", "logprob_rejected"),
    *("length_chosen", "length_rejected"),
)
JUDGED = (
    *("preference_accuracy", "margin", "reward_desired", "reward_undesired", "kl"),
    *("length_desired", "length_undesired"),
)
DRIFT = "drift"  # of objectives with a reference
_RAISED = ("reward_chosen", "logprob_chosen", "reward_desired")
_LOWERED = ("reward_rejected", "logprob_rejected", "reward_undesired", "kl", DRIFT)
LOWER_IS_BETTER = frozenset({"loss", "perplexity", "ece", "seconds", "parameters", *CALL_ERRORS, *_LOWERED})
HIGHER_IS_BETTER = (
    frozenset({"token_accuracy", *LABEL_METRICS, *TEXT_METRICS, *CALL_METRICS, *PAIR_METRICS, *_RAISED, REWARD})
    - LOWER_IS_BETTER
)


def higher_is_better(metric: str) -> bool | None:
    """Whether more of `metric` is better, None for an unknown one; `val/loss` and `train/loss` are `loss`."""
    split, _, name = metric.rpartition("/")
    if split not in ("", "train", "val"):
        return None
    return True if name in HIGHER_IS_BETTER else False if name in LOWER_IS_BETTER else None


def mode_of(metric: str) -> str | None:
    """`max` or `min`, as Lightning's callbacks name the direction; None for an unknown metric."""
    higher = higher_is_better(metric)
    return None if higher is None else "max" if higher else "min"
