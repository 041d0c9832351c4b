"""`FineTuningConfig`: the common settings of a job, translated to overrides of `kamerton train`."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from kamerton.config.compose import config_loader
from kamerton.config.faults import TRAIN, check_command
from kamerton.config.hosted import hosted_name
from kamerton.config.objective_options import GENERATING
from kamerton.config.origin import key_of
from kamerton.config.secrets import redacted
from kamerton.data.options import DataOptions, SplitOptions
from kamerton.errors import Fault, FaultCollector, UserError
from kamerton.mask import mask_text

TIMES_PER_RUN = 10  # validations or checkpoints per run, if a strategy is "steps" without a number of steps
MAX_STEPS_BETWEEN = 50
composing = threading.Lock()  # Hydra composes for one thread at a time


@dataclass(frozen=True, slots=True)
class FineTuningConfig:
    """The settings of a fine-tune. None means the default of `kamerton train`.

    Args:
        model: an option of the group (`smollm2`, `tiny`), a hosted model (`gpt-3.5-turbo`, `openai/NAME`), a name on
            the hub, or a folder.
        epochs: passes over the training split.
        batch_size: examples per optimizer step, over all devices.
        learning_rate: the peak, reached after the warm-up.
        warmup_steps: optimizer steps of the warm-up.
        weight_decay: weight decay of the optimizer.
        evaluation_strategy: `steps` or `epoch`: when to validate.
        saving_strategy: `steps` or `epoch`: when to save a checkpoint.
        evaluation_steps: optimizer steps between validations; None: ten validations per run, at most 50 steps apart.
        saving_steps: the same for checkpoints.
        seed: seed of the run.
        name: folder of the run directories below the root.
        method: `supervised`, an objective of preference data (`dpo`, `ipo`, `simpo`, `orpo`, `kto` or `apo`), or one of
            rewards (`grpo` or `rloo`).
        beta: strength of the pull to the reference model, or of the preference (simpo, orpo); for preferences only.
        reward: an option of the group (`exact_match`, `json_schema`, ...), or several; their keys are `overrides`.
        max_new_tokens: limit of a generated completion, in tokens; for rewards only.
        overrides: further `key=value` of `kamerton train`.
        config_dir: a folder with your own experiments and groups, as after `--config-dir`.

    Example:
        >>> from kamerton import FineTuningConfig
        >>> config = FineTuningConfig(model="tiny", epochs=3, learning_rate=1e-3, overrides=["adapter.r=8"])
        >>> config.epochs, config.batch_size
        (3, None)
        >>> preferences = FineTuningConfig(model="tiny", method="dpo", beta=0.2)
        >>> rewards = FineTuningConfig(model="tiny", method="grpo", reward="exact_match", max_new_tokens=64)
    """

    model: str = "smollm2"
    epochs: int | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    warmup_steps: int | None = None
    weight_decay: float | None = None
    evaluation_strategy: Literal["steps", "epoch"] | None = None
    saving_strategy: Literal["steps", "epoch"] | None = None
    evaluation_steps: int | None = None
    saving_steps: int | None = None
    seed: int | None = None
    name: str | None = None
    method: str | None = None
    beta: float | None = None
    reward: str | Sequence[str] | None = None
    max_new_tokens: int | None = None
    overrides: Sequence[str] = ()
    config_dir: str | Path | None = None

    @property
    def folder(self) -> str | None:
        """`config_dir` as text."""
        return None if self.config_dir is None else str(self.config_dir)


def to_overrides(config: FineTuningConfig, training_rows: int | None = None) -> list[str]:
    """Return the configuration as overrides; `training_rows` (None: unknown) determines the number of steps.

    Raises `UserError` for a `beta` or `max_new_tokens` that nothing would use, and a `reward` that is no name.
    """
    if config.beta is not None and config.method in (None, "supervised", *GENERATING):
        message = f"beta is {config.beta}, and {config.method or 'supervised'} fine-tuning has none"
        raise UserError([Fault("config.value", message, 'leave it out, or give method="dpo"', column="beta")])
    names = [config.reward] if isinstance(config.reward, str | None) else config.reward
    if not isinstance(names, Sequence) or not all(isinstance(name, str | None) for name in names):
        message = f"reward is {config.reward!r}, not the name of a reward or several"
        fix = 'give reward="exact_match", with its options in overrides; a function of your own is named there alone'
        raise UserError([Fault("config.value", message, fix, column="reward")])
    if config.max_new_tokens is not None and config.method not in GENERATING:
        message = f"max_new_tokens is {config.max_new_tokens}, and only training on rewards generates completions"
        fix = 'leave it out, or give method="grpo"; answers in scoring are limited by the override score.max_new_tokens'
        raise UserError([Fault("config.value", message, fix, column="max_new_tokens")])
    values = {
        "objective": {"supervised": "sft"}.get(str(config.method), config.method),
        "objective.beta": config.beta,
        "objective.max_new_tokens": config.max_new_tokens,
        "reward": config.reward if isinstance(config.reward, str | None) else list(config.reward),
        "trainer.max_epochs": config.epochs,
        "batch.size": config.batch_size,
        "optimizer.lr": config.learning_rate,
        "scheduler.warmup_steps": config.warmup_steps,
        "optimizer.weight_decay": config.weight_decay,
        "eval.strategy": config.evaluation_strategy,
        "eval.every": _every(config, config.evaluation_strategy, config.evaluation_steps, training_rows),
        "save.strategy": config.saving_strategy,
        "save.every": _every(config, config.saving_strategy, config.saving_steps, training_rows),
        "seed": config.seed,
        "name": config.name,
    }
    return [*model_overrides(config.model, config.folder), *_as_overrides(values), *config.overrides]


def model_overrides(name: str, config_dir: str | None = None) -> list[str]:
    """Return the overrides for a model: an option of its group, a hosted model, or a name on the hub or folder."""
    if name in config_loader(config_dir).get_group_options("model"):
        return [f"model={name}"]
    if (hosted := hosted_name(name)) is not None:
        return ["model=openai", *_as_overrides({"model.name": hosted})]
    return ["model=hub", *_as_overrides({"model.name": name})]


def _every(config: FineTuningConfig, strategy: str | None, steps: int | None, rows: int | None) -> int | None:
    if strategy != "steps" or steps is not None:
        return steps
    if rows is None or config.batch_size is None:
        return MAX_STEPS_BETWEEN
    total = (config.epochs or 1) * -(-rows // config.batch_size)
    return max(1, min(MAX_STEPS_BETWEEN, total // TIMES_PER_RUN))


def data_overrides(data: DataOptions, split: SplitOptions) -> list[str]:
    """Return the overrides for data and split that differ from the defaults."""
    values: dict[str, Any] = {"data.format": data.format, "data.name": data.name}
    sections: dict[str, tuple[Any, Any]] = {"data": (data, DataOptions()), "split": (split, SplitOptions())}
    for section, (options, defaults) in sections.items():
        default = _flat(asdict(defaults))
        values |= {f"{section}.{key}": value for key, value in _flat(asdict(options)).items() if value != default[key]}
    return ["data=jsonl", *_as_overrides(values, keep_none=True)]


def _flat(options: dict[str, Any]) -> dict[str, Any]:
    """Move the keys below `columns` up, as `columns.KEY`."""
    columns = options.pop("columns", {})
    return options | {f"columns.{key}": value for key, value in columns.items()}


def _as_overrides(values: dict[str, Any], *, keep_none: bool = False) -> list[str]:
    from hydra_plugins.kamerton._overrides import override

    return [override(key, value) for key, value in values.items() if keep_none or value is not None]


def compose_job(overrides: Sequence[str], config_dir: str | None = None, *, deep: bool = True) -> dict[str, Any]:
    """Check overrides and return their configuration as a run directory stores it; `config_dir` is the user's folder.

    Raises `UserError` with every fault that `kamerton train` would report (without `deep`, none that requires reading
    the data or the model), for sweeps, and for overrides with a secret, because a job's overrides are stored in files.
    """
    from kamerton.hosted.check import preflight_faults

    if faults := [fault for text in overrides if (fault := _job_fault(text)) is not None]:
        raise UserError(faults)
    collected = FaultCollector()
    preflight = preflight_faults if deep else None
    checked = check_command(overrides, config_dir, preflight, sweeps=False, root=TRAIN, faults=collected)
    if errors := [fault for fault in collected.faults if fault.severity == "error"]:
        raise UserError(errors)
    assert checked is not None
    assert checked.options is not None
    return redacted(asdict(checked.options), checked.unresolved)


def _job_fault(text: str) -> Fault | None:
    """Return why a job cannot have an override that `kamerton train` accepts, else None."""
    key = text.partition("=")[0]
    if mask_text(text) != text:
        message = f"{key} contains a secret, and a job's overrides are stored in files"
        return Fault("job.secret", message, f"give it through the environment: {key}=${{oc.env:NAME}}", column=key)
    if key_of(text) == "model.dry_run" and not text.endswith("=false"):
        message, fix = (
            "model.dry_run=true sends nothing, so there is no job",
            "use kamerton train for it, or leave it out",
        )
        return Fault("job.dry-run", message, fix, column="model.dry_run")
    if text.startswith("sweep=") and text != "sweep=null":
        fix = "start sweeps with kamerton train; jobs wait for each other anyway"
        return Fault("job.sweep", f"{text} makes many runs, and a job is a single run", fix, column="sweep")
    return None
