"""Detectors over validations: what training on the training split does to examples that it never saw."""

from __future__ import annotations

import math

from kamerton.monitor.issue import Issue
from kamerton.monitor.series import Series


def overfitting(series: Series) -> Issue | None:
    """Two validations in a row are worse than the best by a twentieth, while the training loss has gone on falling."""
    found = series.validations
    if len(found) < 3:
        return None
    best = min(found, key=lambda one: one["loss"])
    last = found[-2:]
    if best in last or not all(one["loss"] > 1.05 * best["loss"] + 0.01 for one in last):
        return None
    if not last[-1]["train"] < best["train"]:
        return None
    return Issue(
        "overfitting",
        "warn",
        f"validation loss {last[-1]['loss']:.3g} after {best['loss']:.3g} at step {best['step']:.0f},"
        f" while the training loss fell to {last[-1]['train']:.3g}",
        series.step,
        {"val_loss": last[-1]["loss"], "best": best["loss"], "train_loss": last[-1]["train"]},
        "stop earlier (callbacks.early_stopping), train fewer epochs, or raise adapter.dropout; the best checkpoint is"
        " what is scored",
    )


def leak(series: Series) -> Issue | None:
    """Validation is far easier than training: less than a fifth of its loss, or every token right at once."""
    if not series.validations:
        return None
    last = series.validations[-1]
    train, loss = last["train"], last["loss"]
    if not math.isfinite(train) or train < 0.2 or loss > 0.2 * train:
        return None
    return Issue(
        "suspicious-validation",
        "warn",
        f"the validation loss is {loss:.3g} where the training loss is {train:.3g}",
        series.step,
        {"val_loss": loss, "train_loss": train, "token_accuracy": last.get("token_accuracy", math.nan)},
        "look whether prompts hold their answers, or validation repeats one easy example:"
        " kamerton prepare says what the splits share",
    )


def collapse(series: Series) -> Issue | None:
    """Answers all begin with one token where the references do not, and that is no passing stage of learning.

    A model that has not begun to learn answers alike as well. So this is said where training claims to be further than
    validation is, where answers were different before and better, or when most of the run is over. Entropies of the
    first answer token, in nats.
    """
    if not series.validations:
        return None
    last, share = series.validations[-1], series.share
    predicted, wanted = last.get("answer_entropy"), last.get("reference_entropy")
    if predicted is None or wanted is None or wanted < 0.3 or predicted > 0.1 * wanted or math.isnan(last["loss"]):
        return None
    lost = any(
        one.get("answer_entropy", 0.0) > 0.5 * wanted and one["loss"] < last["loss"] for one in series.validations
    )
    apart = share >= 0.15 and last["loss"] > 1.5 * last["train"] + 0.1
    if not (apart or lost or share >= 0.6):
        return None
    return Issue(
        "prediction-collapse",
        "warn",
        "nearly every answer begins alike, whatever the prompt",
        series.step,
        {"answer_entropy": predicted, "reference_entropy": wanted},
        f"{_FORGOT if lost else _APART if apart else _UNLEARNT}; labels may be right all the same when they are scored"
        " by their probability: the end of the run reports a score.normalization that gets them right",
    )


_FORGOT = "lower optimizer.lr: answers differed before, and were better"
_APART = "check that prompts differ where labels do, and that data.balance suits the labels"
_UNLEARNT = "train longer (trainer.max_epochs) or raise optimizer.lr: the model does not tell prompts apart yet"
