"""The held-out test set of single completions (`score.data`) that a run is scored on beside its own test split.

A better margin is not a better model, so a run of preferences is also scored on the task that it is for.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from kamerton.assets import cache_dir
from kamerton.config.schema import Config
from kamerton.data.gate import prepare
from kamerton.data.inputs import Inputs, encode_splits
from kamerton.data.options import COMPARED, DataOptions, SplitOptions
from kamerton.data.prompting import with_saved_form
from kamerton.data.read.sources import local_data
from kamerton.errors import Fault, UserError
from kamerton.run.adapters import find_adapter
from kamerton.run.directory import record_at
from kamerton.score.evaluate import choose_mode
from kamerton.score.reward_checks import reward_faults

TASK, TASK_BASE = "task", "task_base"  # score tables and metrics of the tuned and of the base model


def read_task(config: Config, inputs: Inputs) -> Inputs | None:
    """Read, check and encode the test set; its only split is `test`. None if there is none.

    Its rows are read as those of the run that `model.adapter` names, if they can be, with the labels of that run.

    Raises `UserError` with all faults of the file, or if options of `score` do not suit it.
    """
    if config.score.data is None:
        if config.data.rows in COMPARED and config.score.mode not in ("auto", "reference"):
            message = f"preferences are scored by log-probability, not by score.mode={config.score.mode}"
            fix = "leave it out, or name a test set of single completions to score so: score.data=FILE"
            raise UserError([Fault("config.value", message, fix, column="score.mode")])
        return None
    given = config.data
    labels: list[str] | None = None
    if config.model.adapter is not None:
        labels = _labels_of(Path(config.model.adapter))
    data = DataOptions(
        name=TASK,
        train=config.score.data,
        labels=labels or "auto",
        near_duplicates=None,
        policy=given.policy,
        max_length=given.max_length,
        overlong=given.overlong,
        control_tokens=given.control_tokens,
        train_on=given.train_on,
        train_on_reasoning=given.train_on_reasoning,
        earlier_reasoning=given.earlier_reasoning,
    )
    if config.model.adapter is not None:
        data = with_saved_form(data, find_adapter(config.model.adapter).parent)
    cache = cache_dir() / "data"
    prepared = prepare(local_data(data), SplitOptions(seed=config.split.seed), cache=cache)
    if config.score.mode == "generate" and (faults := reward_faults(dataclasses.asdict(config), prepared.splits)):
        raise UserError(faults)  # before training: the answers are graded after it
    prepared, encoded = encode_splits(prepared, inputs.tokenizer, data, config.model, cache)
    choose_mode(config.score, prepared.labels, encoded["train"].examples)
    return Inputs(prepared, inputs.tokenizer, {"test": encoded["train"]})


def _labels_of(adapter: Path) -> list[str] | None:
    """Return the labels of the run that an adapter is from; None if it is no run, or of free text."""
    return record_at(adapter).data.report.labels if (adapter / "run.json").is_file() else None
