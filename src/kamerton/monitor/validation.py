"""Detectors over validations."""

from __future__ import annotations

import math

from kamerton.monitor.issue import Issue
from kamerton.monitor.series import Series


def overfitting(series: Series) -> Issue | None:
    """Detect two validations in a row that are worse than the best by a twentieth, while the training loss falls."""
    validations = series.validations
    if len(validations) < 3:
        return None
    best = min(validations, key=lambda validation: validation["loss"])
    last = validations[-2:]
    if best in last or not all(validation["loss"] > 1.05 * best["loss"] + 0.01 for validation in last):
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
        " scored",
    )


def suspicious_validation(series: Series) -> Issue | None:
    """Detect a validation loss below a fifth of the training loss, also of the latest steps if that is falling fast."""
    if not series.validations:
        return None
    last = series.validations[-1]
    train, loss = min(last["train"], last["latest_train"]), last["loss"]
    if not math.isfinite(train) or train < 0.2 or loss > 0.2 * train:
        return None
    return Issue(
        "suspicious-validation",
        "warn",
        f"the validation loss is {loss:.3g}, but the training loss {train:.3g}",
        series.step,
        {"val_loss": loss, "train_loss": train, "token_accuracy": last.get("token_accuracy", math.nan)},
        "check whether prompts contain their answers, or validation repeats one easy example:"
        " kamerton prepare reports what the splits share",
    )


def prediction_collapse(series: Series) -> Issue | None:
    """Detect that all answers begin with one token, although the references do not.

    A model at the beginning of training also gives equal answers. So this is only reported if the training loss is much
    lower than the validation loss, if answers were different and better before, or after 60 % of the run. Entropies are
    of the first answer token, in nats. Preferences need not train that token: for them answers must have been different
    before.
    """
    if not series.validations:
        return None
    last, share = series.validations[-1], series.share
    entropy, reference = last.get("answer_entropy"), last.get("reference_entropy")
    if entropy is None or reference is None or reference < 0.3 or math.isnan(last["loss"]):
        return None
    if entropy > 0.1 * reference:
        return None
    was_better = any(
        validation.get("answer_entropy", 0.0) > 0.5 * reference and validation["loss"] < last["loss"]
        for validation in series.validations
    )
    generalises_badly = not series.learns_preferences and share >= 0.15 and last["loss"] > 1.5 * last["train"] + 0.1
    if not (generalises_badly or was_better or (share >= 0.6 and not series.learns_preferences)):
        return None
    if was_better:
        advice = "lower optimizer.lr: answers differed before, and were better"
    elif generalises_badly:
        advice = "check that prompts differ where labels do, and that data.balance suits the labels"
    else:
        advice = "train longer (trainer.max_epochs) or raise optimizer.lr: the model does not distinguish prompts yet"
    return Issue(
        "prediction-collapse",
        "warn",
        "nearly every answer begins with the same token for all prompts",
        series.step,
        {"answer_entropy": entropy, "reference_entropy": reference},
        f"{advice}; labels may still be correct when scored by probability, with another score.normalization",
    )
