"""Which configuration changes are allowed when a run is resumed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kamerton.config.objective import typed_objective
from kamerton.config.objective_options import ObjectiveOptions
from kamerton.config.rewards import typed_rewards
from kamerton.config.schema import mapping_at
from kamerton.data.options import DataOptions
from kamerton.errors import Fault

Change = tuple[str, Any, Any]  # key, before, after
SUPERVISED = dataclasses.asdict(ObjectiveOptions())

# Keys that may differ when a run is resumed: output and batch layout, never what is computed.
_FREE = (
    "run_id", "resume", "paths", "logger", "allow_targets", "callbacks", "debug_note", "batch.max_tokens", "batch.cut",
    "model.export", "save", "trainer.accelerator", "trainer.devices", "trainer.strategy", "trainer.log_every_n_steps",
    "trainer.num_nodes", "trainer.enable_progress_bar", "trainer.enable_model_summary", "trainer.profiler",
    "base", "baselines", "sweep", "model.key", "model.max_cost", "model.price", "model.dry_run",
)  # fmt: skip
_FIXED = (
    "callbacks.early_stopping",
    "callbacks.checkpoint_best",
)  # exceptions below _FREE: they decide which weights are kept
# What a choice of objective sets.
_OF_OBJECTIVE = (
    "objective", "data.rows", "eval.score", "score.mode", "score.max_new_tokens",
    *(f"callbacks.{name}.{key}" for name in ("early_stopping", "checkpoint_best") for key in ("monitor", "mode")),
)  # fmt: skip
# Fixed even with resume=force: the weights and optimizer state in the checkpoint depend on them.
_LASTING = ("model.name", "model.revision", "model.dtype", "model.adapter", "adapter", "optimizer._target_")


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Change]:
    """Return the changed keys that affect what is computed or which weights are kept."""
    old, new = flatten(before), flatten(after)
    keys = [key for key in {**old, **new} if old.get(key) != new.get(key)]
    return [(key, old.get(key), new.get(key)) for key in keys if not is_free(key)]


_FIRST_KEYS = frozenset(  # of data, in runs of every version
    """
    name format path train validation test sources columns labels encoding policy near_duplicates balance max_length
    overlong
    """.split()  # noqa: SIM905
)


_LATER: dict[str, Any] = {  # keys that older runs do not have, with the values that change nothing
    "eval.score": None,
    "eval.sample": None,
    "model.adapter": None,
    "model.matmul": "float32",
    "score.data": None,
    "score.quantize": None,
    "data.columns.chosen": None,
    "data.columns.rejected": None,
    "objective": SUPERVISED,
    "reward": {},
} | {
    f"data.{field.name}": field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
    for field in dataclasses.fields(DataOptions)
    if field.name not in _FIRST_KEYS
}


def without_later(values: Mapping[str, Any], before: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return a configuration without the keys that older versions do not have, unless their values change something.

    Keys of `before`, the configuration of a run, are kept.
    """
    result = dict(values)
    for key, unset in _LATER.items():
        result = _without(result, key.split("."), unset, before or {})
    return result


def _without(values: Mapping[str, Any], path: list[str], unset: Any, before: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values without the key at `path` if it is missing in `before` and its value equals `unset`."""
    name, *inner = path
    if inner and isinstance(values.get(name), Mapping):
        return {**values, name: _without(values[name], inner, unset, mapping_at(before, name))}
    if inner or name in before or name not in values:
        return dict(values)
    value = {**unset, **(values[name] or {})} if isinstance(unset, dict) else values[name]
    return {key: item for key, item in values.items() if key != name or value != unset}


def as_begun(before: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration of a resumed run, with the defaults of the version that started it.

    `before` is its original configuration. Older versions set one epoch even with `trainer.max_steps`, and had no
    `data.control_tokens` (see `read_config`).
    """
    result = without_later(values, before)
    trainer, data, written = mapping_at(result, "trainer"), mapping_at(result, "data"), mapping_at(before, "data")
    if (mapping_at(before, "trainer").get("max_epochs"), trainer.get("max_epochs")) == (1, -1):
        result["trainer"] = {**trainer, "max_epochs": 1}
    if "control_tokens" in data and "control_tokens" not in written:
        data = {key: value for key, value in data.items() if key != "control_tokens"}
    if data.get("rows") == "prompts" and written.get("rows", "completions") == "completions":
        # The run began when rewards needed completions: its rows are read as the same examples.
        data = {key: value for key, value in data.items() if key != "rows"}
        data |= {"rows": "completions"} if "rows" in written else {}
    if (written.get("encoding"), data.get("encoding")) == ("utf-8", "auto"):  # the default of older runs
        data = {**data, "encoding": "utf-8"}
    return {**result, "data": data} if "data" in result else result


def changed_faults(path: Path, before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Fault]:
    """Return the faults of resuming the run at `path` with another configuration, without `resume=force`.

    Another objective is one fault with all that its choice sets, and so are other rewards.
    """
    changes = differences(before, after)
    faults = []
    renamed = any(key == "objective.name" for key, *_ in changes)
    chosen = [key for key, *_ in changes if renamed and _is_below(key, _OF_OBJECTIVE)]
    if chosen:
        name, other = (str(mapping_at(values, "objective").get("name", "sft")) for values in (before, after))
        also = ", ".join(key for key in chosen if key != "objective.name")
        given = f"objective={typed_objective(name)}"
        message = f"objective={name}, now it is {other}{f', which also changes {also}' if also else ''}"
        faults.append(_changed(path, "objective.name", message, given))
    rewards = [mapping_at(values, "reward") for values in (before, after)]
    replaced = [key for key, *_ in changes if _is_below(key, ("reward",)) and not _is_shared(key, rewards)]
    if replaced:
        names = [typed_rewards(section) for section in rewards]
        faults.append(_changed(path, "reward", f"{names[0]}, now it is {names[1]}", names[0]))
    grouped = {*chosen, *replaced}
    return faults + [
        _changed(path, key, f"{key}={_show(old)}, now it is {_show(new)}", f"{key}={_show(old)}")
        for key, old, new in changes
        if key not in grouped
    ]


def _changed(path: Path, key: str, message: str, given: str) -> Fault:
    fix = f"give {given} to resume it, another run_id for a new run, or resume=force to change it"
    file = str(path / "config.yaml")
    return Fault("run.changed", f"run {path.name} was started with {message}", fix, file=file, column=key)


def _is_shared(key: str, sections: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether the reward, or the option of the only one, to which a key belongs is in all sections."""
    return all(key.partition(".")[2].partition(".")[0] in section for section in sections)


def grader_faults(path: Path, before: str | None, now: str | None, changes: Sequence[Change]) -> list[Fault]:
    """Return the fault of resuming the run at `path` with other contents of its grader files, by their fingerprints.

    There is none if `changes` of the configuration already report other rewards, or `before` was not recorded.
    """
    if before in (None, now) or any(_is_below(key, ("reward",)) for key, *_ in changes):
        return []
    message = f"run {path.name} was started with another grader: the content of its file has changed since"
    fix = "restore the file to resume it, give another run_id for a new run, or resume=force to use the new grader"
    return [Fault("run.grader-changed", message, fix, file=str(path / "run.json"), column="reward")]


def lasting_faults(path: Path, changes: Sequence[Change]) -> list[Fault]:
    """Return the faults of changes that even `resume=force` does not allow."""
    return [
        Fault(
            "run.changed",
            f"run {path.name} was started with {key}={_show(before)}; its checkpoint needs that, not {_show(after)}",
            f"give {key}={_show(before)}, or another run_id for a new run",
            file=str(path / "config.yaml"),
            column=key,
        )
        for key, before, after in changes
        if _is_below(key, _LASTING)
    ]


def describe(changes: Sequence[Change]) -> list[str]:
    """Return the changes as text, such as `seed: 1 → 2`."""
    return [f"{key}: {_show(before)} → {_show(after)}" for key, before, after in changes]


def is_free(key: str) -> bool:
    """Return whether the key may differ because it does not affect what is computed."""
    return _is_below(key, _FREE) and not _is_below(key, _FIXED)


def _is_below(key: str, parents: tuple[str, ...]) -> bool:
    return any(key == parent or key.startswith(f"{parent}.") for parent in parents)


def flatten(values: Any, prefix: str = "") -> dict[str, Any]:
    """Return nested sections as one mapping by dotted key."""
    if not isinstance(values, Mapping):
        return {prefix: values}
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= flatten(value, f"{prefix}.{key}" if prefix else str(key))
    return flat


def _show(value: Any) -> str:
    return "null" if value is None else str(value)
