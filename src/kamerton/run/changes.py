"""What may differ between the configuration that a run was started with and the one that it goes on with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kamerton.config.schema import mapping_at
from kamerton.errors import Fault

Change = tuple[str, Any, Any]  # key, before, after

# What may differ when a run is resumed: where things go and how a step is laid out, never what is computed.
_FREE = (
    "run_id", "resume", "paths", "logger", "allow_targets", "callbacks", "debug_note", "batch.max_tokens", "batch.cut",
    "model.export", "save", "trainer.accelerator", "trainer.devices", "trainer.strategy", "trainer.log_every_n_steps",
    "trainer.num_nodes", "trainer.enable_progress_bar", "trainer.enable_model_summary", "trainer.profiler",
    "base", "baselines", "sweep", "model.key", "model.max_cost", "model.price", "model.dry_run",
)  # fmt: skip
_FIXED = ("callbacks.early_stopping", "callbacks.checkpoint_best")  # all the same: they decide which weights remain
# Not even by force: the checkpoint holds the weights and the optimizer state that these asked for.
_LASTING = ("model.name", "model.revision", "model.dtype", "adapter", "optimizer._target_")


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Change]:
    """The keys that change what is computed, or which weights remain."""
    old, new = flatten(before), flatten(after)
    keys = [key for key in {**old, **new} if old.get(key) != new.get(key)]
    return [(key, old.get(key), new.get(key)) for key in keys if not is_free(key)]


def as_begun(before: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration that a run goes on with, with the defaults of when it began.

    `before` is its configuration then. An older run has one epoch also beside `trainer.max_steps`, and no
    `data.control_tokens` (see `read_config`).
    """
    result = dict(values)
    trainer, data = mapping_at(values, "trainer"), mapping_at(values, "data")
    if (mapping_at(before, "trainer").get("max_epochs"), trainer.get("max_epochs")) == (1, -1):
        result["trainer"] = {**trainer, "max_epochs": 1}
    if "control_tokens" in data and "control_tokens" not in mapping_at(before, "data"):
        result["data"] = {key: value for key, value in data.items() if key != "control_tokens"}
    return result


def changed_faults(path: Path, changes: Sequence[Change]) -> list[Fault]:
    """Why the run at `path` does not go on without `resume=force`."""
    return [_changed(path, *change) for change in changes]


def lasting_faults(path: Path, changes: Sequence[Change]) -> list[Fault]:
    """Why the run at `path` cannot go on at all."""
    return [_lasting(path, *change) for change in changes if _is_below(change[0], _LASTING)]


def describe(changes: Sequence[Change]) -> list[str]:
    """The changes in words."""
    return [f"{key}: {_show(before)} → {_show(after)}" for key, before, after in changes]


def _changed(path: Path, key: str, before: Any, after: Any) -> Fault:
    return Fault(
        "run.changed",
        f"run {path.name} was started with {key}={_show(before)}, now it is {_show(after)}",
        f"give {key}={_show(before)} to go on with it, another run_id for a new run, or resume=force to change it",
        file=str(path / "config.yaml"),
        column=key,
    )


def _lasting(path: Path, key: str, before: Any, after: Any) -> Fault:
    message = (
        f"run {path.name} was started with {key}={_show(before)}, and its checkpoint cannot go on with {_show(after)}"
    )
    fix = f"give {key}={_show(before)}, or another run_id for a new run"
    return Fault("run.changed", message, fix, file=str(path / "config.yaml"), column=key)


def is_free(key: str) -> bool:
    """Whether the key may differ: it changes nothing that is computed."""
    return _is_below(key, _FREE) and not _is_below(key, _FIXED)


def _is_below(key: str, parents: tuple[str, ...]) -> bool:
    return any(key == parent or key.startswith(f"{parent}.") for parent in parents)


def flatten(values: Any, prefix: str = "") -> dict[str, Any]:
    """Nested sections as one mapping by dotted key."""
    if not isinstance(values, Mapping):
        return {prefix: values}
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= flatten(value, f"{prefix}.{key}" if prefix else str(key))
    return flat


def _show(value: Any) -> str:
    return "null" if value is None else str(value)
