"""The first step of a run: read the data, load the base model, choose the batch layout, count the steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pytorch_lightning as pl
import torch

from kamerton.config.schema import Config
from kamerton.data.inputs import Inputs, load_inputs
from kamerton.pipeline.layout import choose_batch_layout
from kamerton.pipeline.preferences import find_preferences
from kamerton.pipeline.session import Session
from kamerton.pipeline.start import record_faults, record_start
from kamerton.pipeline.task import read_task
from kamerton.pipeline.terminal import print_plan
from kamerton.pipeline.validation import check_scoring, print_scoring
from kamerton.run.model import fuse_as_configured, load_base
from kamerton.score.evaluate import choose_mode, scoring
from kamerton.train.data_module import FineTuneData
from kamerton.train.step_preferences import Rows
from kamerton.train.steps import limit_train_batches, step_data, total_steps, with_warmup


@dataclass(frozen=True, slots=True)
class Ready:
    """What training and scoring need: the complete configuration, the data and the base model.

    `kernels` is the version of the arithmetic that training uses (`model.fuse`). `preferences` are those of each split,
    empty for supervised fine-tuning; `reference_scores` the scores of their completions in the test split by the model
    before training. Only rank 0 has those of the test split. `task` is the test set `score.data`.
    """

    config: Config
    inputs: Inputs
    data: FineTuneData
    steps: int
    model: Any
    kernels: int
    preferences: dict[str, Rows]
    reference_scores: pa.Table | None = None
    task: Inputs | None = None


def read_data(session: Session) -> Inputs:
    """Seed the run, then read, check and encode its data. Raises `UserError` for unusable data."""
    config, shared_cache = session.config, session.shared_cache
    pl.seed_everything(config.seed, verbose=False)
    inputs = shared_cache.inputs(config) if shared_cache else load_inputs(config.data, config.split, config.model)
    choose_mode(scoring(config), inputs.prepared.labels)  # reports unsupported score options before the model is loaded
    check_scoring(config, inputs)
    return inputs


def prepare(inputs: Inputs, session: Session) -> Ready:
    """Load the base model, choose the batch layout, count the steps; record and print the plan."""
    config, run, console, shared_cache = session.config, session.run, session.console, session.shared_cache
    task = read_task(config, inputs)  # before the model is loaded
    model = shared_cache.base(config) if shared_cache else load_base(config)
    fuse_as_configured(model, config)  # before any scoring, so that all scores use the same arithmetic
    if run.writes and model.device.type != device(config).type:
        model.to(device(config))  # the layout is chosen for the device it will run on
    if config.objective.generates:  # completions follow the prompts of whole examples
        inputs.encoded.update({name: data.without_parts() for name, data in inputs.encoded.items()})
    config, batch = choose_batch_layout(config, model, inputs.encoded["train"], run, console, shared_cache)
    inputs.encoded["train"] = limit_train_batches(config, inputs.encoded["train"], run, console)
    compared = {name: data for name, data in inputs.encoded.items() if run.writes or name != "test"}  # rank 0 scores it
    preferences, scores = find_preferences(config, model, compared, inputs.tokenizer, console)
    pairs = (preferences["train"], preferences.get("validation")) if preferences else None
    data = step_data(config, inputs.encoded, inputs.tokenizer, inputs.prepared.label_weights, pairs)
    steps = total_steps(config, data.steps_per_epoch)
    counts = {name: len(examples) for name, examples in inputs.prepared.splits.items()}
    record_start(run, inputs.prepared, counts, config.seed, force=config.resume == "force")
    run.update(progress={"steps": steps, "steps_per_epoch": data.steps_per_epoch})
    record_faults(run, inputs.prepared)
    config = with_warmup(config, run, steps, console)
    print_plan(console, run, inputs.prepared, data, steps, config)
    print_scoring(console, config, inputs, data.steps_per_epoch, steps)
    return Ready(config, inputs, data, steps, model, batch.kernels or 1, preferences, scores, task)


def device(config: Config) -> torch.device:
    """Return the device that the run uses."""
    accelerator = config.trainer.get("accelerator", "auto")
    use_gpu = accelerator in ("gpu", "cuda", "auto") and torch.cuda.is_available()
    return torch.device("cuda" if use_gpu else "cpu")
