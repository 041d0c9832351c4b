"""Options of a hosted model: contradictions are faults, and unused options are listed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from kamerton.config.objective_options import GENERATING, ObjectiveOptions
from kamerton.config.origin import key_of
from kamerton.config.schema import mapping_at
from kamerton.errors import Fault

HOSTED_KEYS = ("base_url", "key", "learning_rate_multiplier", "suffix", "max_cost", "dry_run", "price")
# What a hosted run reads, or what changes nothing of it.
_USED = (
    *("name", "run_id", "resume", "seed", "base", "baselines", "allow_targets", "debug_note", "paths"),
    *("data", "split", "metrics", "score", "cv.folds", "sweep", "experiment", "debug", "launcher", "hydra"),
    *("trainer.max_epochs", "batch.size", "model", "model.name", "model.provider"),
    *(f"model.{key}" for key in HOSTED_KEYS),
    *("objective", "reward"),
    *("logger=csv", "callbacks.progress_bar=null", "callbacks.model_summary=null"),
)
_UNUSED = (
    *("data.max_length", "data.overlong"),
    *("score.labels", "score.normalization", "score.content_free", "score.quantize"),
)
_OWN = ("max_new_tokens", "updates", "baseline", "standardise", "clip", "clip_high", "kl_weight")  # of grpo


def is_hosted(values: Mapping[str, Any]) -> bool:
    """Whether composed values are those of a hosted model."""
    return mapping_at(values, "model").get("provider") is not None


def check_hosted(values: Mapping[str, Any]) -> Iterator[Fault]:
    """Yield faults of options that contradict a hosted model, or that only a hosted model uses."""
    model = mapping_at(values, "model")
    if not is_hosted(values):
        fix = "choose model=openai, or leave it out"
        for key in (key for key in HOSTED_KEYS if model.get(key) is not None):
            yield _fault(f"model.{key} is set, and the model is not a hosted one", fix, f"model.{key}")
        return
    suffix = model.get("suffix")
    if isinstance(suffix, str) and len(suffix) > 64:
        yield _fault(f"model.suffix has {len(suffix)} characters", "give 64 or fewer", "model.suffix")
    yield from _untrainable(values)
    score = mapping_at(values, "score")
    if score.get("mode", "auto") not in ("auto", "generate"):
        message = f"score.mode={score['mode']} needs probabilities, and a hosted model returns only texts"
        yield _fault(message, "leave it out", "score.mode")
    if score.get("data") is not None:
        fix = "leave it out, and evaluate the finished run on it: kamerton evaluate run=DIR data.test=FILE"
        yield _fault("score.data needs a model that is scored here, and this one is hosted", fix, "score.data")
    if score.get("constrain"):
        message = "score.constrain=true needs the model itself, and a hosted model returns only texts"
        yield _fault(message, "leave it out", "score.constrain")


def _untrainable(values: Mapping[str, Any]) -> Iterator[Fault]:
    """Yield faults of kinds of training that a hosted job does not support."""
    objective = mapping_at(values, "objective")
    if (name := objective.get("name", "sft")) not in ("sft", "dpo", "grpo"):
        message = f"objective.name={name} is trained here only: a hosted job is supervised, DPO or reinforcement"
        fix = f"choose objective={'grpo' if name in GENERATING else 'dpo'}, or a model that is trained here (model=hub)"
        yield _fault(message, fix, "objective.name")
    for key in ("label_smoothing", "sft_weight"):
        if name == "dpo" and objective.get(key):
            message = f"objective.{key} changes the loss, and a hosted DPO job has its own"
            yield _fault(message, f"set objective.{key}=0", f"objective.{key}")
    if name == "grpo":
        yield from _set_by_endpoint(objective)
    if mapping_at(values, "cv").get("folds") is not None:
        fix = "leave cv.folds out; each fold would be a job that is paid for"
        yield _fault("cv.folds needs a model that is trained here, and this one is hosted", fix, "cv.folds")
    if values.get("resume") == "force":
        yield _fault("resume=force cannot change a job that a hosted model has begun", "start a new run", "resume")
    trainer = mapping_at(values, "trainer")
    for key, free in (("max_steps", (-1, None)), ("limit_train_batches", (None,))):
        if trainer.get(key) not in free:
            message = f"trainer.{key} cannot shorten a hosted job, which would be paid for in whole"
            fix = f"set trainer.{key}={'-1' if key == 'max_steps' else 'null'}, and give fewer epochs or examples"
            yield _fault(message, fix, f"trainer.{key}")
    if mapping_at(values, "data").get("balance") == "weights":
        message = "data.balance=weights changes the loss, and a hosted model has its own"
        yield _fault(message, "choose data.balance=over or under", "data.balance")


def _set_by_endpoint(objective: Mapping[str, Any]) -> Iterator[Fault]:
    """Yield faults of options that a reinforcement job has itself."""
    for key in _OWN:
        default = getattr(ObjectiveOptions(), key)
        if objective.get(key, default) != default:
            typed = "null" if default is None else str(default).lower()
            message = f"objective.{key} is set, and a hosted reinforcement job has its own"
            yield _fault(message, f"leave it out (objective.{key}={typed})", f"objective.{key}")


def sweep_fault(values: Mapping[str, Any]) -> list[Fault]:
    """The fault of a sweep over a hosted model: trials need the validation loss of each step."""
    if not is_hosted(values):
        return []
    fix = "try a few values by -m (model.learning_rate_multiplier=0.5,1,2), then kamerton compare; each is paid for"
    return [_fault("a sweep needs a model that is trained here, and this one is hosted", fix, "sweep")]


def unused(overrides: Sequence[str]) -> list[str]:
    """Return the typed overrides that a hosted model cannot use."""
    return [text for text in overrides if not _is_used(text.lstrip("+~"))]


def _is_used(text: str) -> bool:
    if text in _USED:
        return True
    key = key_of(text)
    if key in _UNUSED:
        return False
    sections = ("paths", "data", "split", "objective", "reward", "metrics", "score", "sweep", "hydra", "model.price")
    return key in _USED or any(key.startswith((f"{section}.", f"{section}/")) for section in sections)


def _fault(message: str, fix: str, key: str) -> Fault:
    return Fault("hosted.option", message, fix, column=key)


_HOSTED = re.compile(r"(gpt-|chatgpt-|ft:|o[134](-|$))[^/]*")


_ON_THE_HUB = "openai/gpt-oss"  # open weights, of the hub's user that has the same name


def hosted_name(name: str) -> str | None:
    """Return the model's name at its endpoint; None for a hub name, a folder, or an option of the group `model`."""
    if Path(name).expanduser().exists():
        return None
    if name.startswith("openai/") and not name.startswith(_ON_THE_HUB):
        return name.removeprefix("openai/")
    return name if _HOSTED.fullmatch(name) else None
