"""What a job trains with, in the words that most people use, as overrides of `kamerton train`."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from kamerton.config.compose import config_loader
from kamerton.config.faults import TRAIN, check_command
from kamerton.config.hosted import hosted_name
from kamerton.config.origin import key_of
from kamerton.config.secrets import redacted
from kamerton.data.options import DataOptions, SplitOptions
from kamerton.errors import Fault, FaultCollector, UserError
from kamerton.mask import mask_text

OCCASIONS = 10  # validations or checkpoints of a run, where a strategy is "steps" without a number of them
LONGEST = 50  # steps between them
composing = threading.Lock()  # Hydra composes for one thread at a time


@dataclass(frozen=True, slots=True)
class FineTuningConfig:
    """A fine-tune. What is None is as the configuration in `conf/` has it.

    `model` is an option of the group (`smollm2`, `tiny`), a hosted one (`gpt-3.5-turbo`, `openai/NAME`), a name of the
    hub, or a folder. `batch_size` is in examples
    per optimizer step, whatever the hardware; `learning_rate` its peak, reached after `warmup_steps` optimizer steps.
    `evaluation_strategy` and `saving_strategy` say whether to validate and save after every epoch, or after so many
    optimizer steps (`evaluation_steps`, `saving_steps`; None: ten times a run, at most 50 steps apart).
    `overrides` are any further `key=value` of `kamerton train`; `name` is the folder of the run directories.
    `config_dir` is a folder with your own experiments and groups, as after `--config-dir`.
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
    overrides: Sequence[str] = ()
    config_dir: str | Path | None = None

    @property
    def folder(self) -> str | None:
        """`config_dir` as text."""
        return None if self.config_dir is None else str(self.config_dir)


def to_overrides(config: FineTuningConfig, training_rows: int | None = None) -> list[str]:
    """The configuration as overrides; `training_rows` (None: unknown) tell how many steps a run has."""
    given = {
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
    return [*model_overrides(config.model, config.folder), *_written(given), *config.overrides]


def model_overrides(name: str, config_dir: str | None = None) -> list[str]:
    """A model by an option of its group, a hosted one by its name, else by its name on the hub or its folder."""
    if name in config_loader(config_dir).get_group_options("model"):
        return [f"model={name}"]
    if (hosted := hosted_name(name)) is not None:
        return ["model=openai", *_written({"model.name": hosted})]
    return ["model=hub", *_written({"model.name": name})]


def _every(config: FineTuningConfig, strategy: str | None, steps: int | None, rows: int | None) -> int | None:
    if strategy != "steps" or steps is not None:
        return steps
    if rows is None or config.batch_size is None:
        return LONGEST
    total = (config.epochs or 1) * -(-rows // config.batch_size)
    return max(1, min(LONGEST, total // OCCASIONS))


def data_overrides(data: DataOptions, split: SplitOptions) -> list[str]:
    """Data and how they are split."""
    usual: dict[str, Any] = {"data": DataOptions(), "split": SplitOptions()}
    given: dict[str, Any] = {"data.format": data.format, "data.name": data.name}
    chosen: dict[str, Any] = {"data": data, "split": split}
    for section, options in chosen.items():
        known = _flat(asdict(usual[section]))
        given |= {f"{section}.{key}": value for key, value in _flat(asdict(options)).items() if value != known[key]}
    return ["data=jsonl", *_written(given, keep_none=True)]


def _flat(options: dict[str, Any]) -> dict[str, Any]:
    """The columns' keys beside the others."""
    columns = options.pop("columns", {})
    return options | {f"columns.{key}": value for key, value in columns.items()}


def _written(given: dict[str, Any], *, keep_none: bool = False) -> list[str]:
    from hydra_plugins.kamerton._overrides import override

    return [override(key, value) for key, value in given.items() if keep_none or value is not None]


def checked(overrides: Sequence[str], config_dir: str | None = None, *, deep: bool = True) -> dict[str, Any]:
    """The configuration behind overrides, as a run directory holds it; `config_dir` is the user's own folder.

    Raises `UserError` with everything that `kamerton train` would say (without `deep` nothing that only a look at the
    data and the model can tell), for sweeps, and for overrides that hold a secret: those of a job are kept in files.
    """
    from kamerton.hosted.check import preflight_faults

    faults = [_secret(text) for text in overrides if mask_text(text) != text]
    faults += [_dry_run() for text in overrides if key_of(text) == "model.dry_run" and not text.endswith("=false")]
    faults += [_sweep(text) for text in overrides if text.startswith("sweep=") and text != "sweep=null"]
    if faults:
        raise UserError(faults)
    collected = FaultCollector()
    preflight = preflight_faults if deep else None
    checked = check_command(overrides, config_dir, preflight, sweeps=False, root=TRAIN, faults=collected)
    if errors := [fault for fault in collected.faults if fault.severity == "error"]:
        raise UserError(errors)
    assert checked is not None
    assert checked.options is not None
    return redacted(asdict(checked.options), checked.unresolved)


def _sweep(text: str) -> Fault:
    fix = "start sweeps with kamerton train; several jobs at once wait for each other anyway"
    return Fault("job.sweep", f"{text} makes many runs, and a job is one", fix, column="sweep")


def _dry_run() -> Fault:
    message = "model.dry_run=true sends nothing, so there is no job"
    return Fault("job.dry-run", message, "use kamerton train for it, or leave it out", column="model.dry_run")


def _secret(text: str) -> Fault:
    key = text.partition("=")[0]
    fix = f"give it through the environment: {key}=${{oc.env:NAME}}"
    return Fault("job.secret", f"{key} holds a secret, and a job's overrides are kept in files", fix, column=key)
