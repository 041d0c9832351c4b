"""The last step of a run: test scores, baselines, the exported model and the report."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kamerton.config.rewards import build_rewards
from kamerton.config.schema import Config
from kamerton.console import count_bar
from kamerton.data.encode.forms import with_fallback
from kamerton.data.encode.single_example import answer_ending
from kamerton.data.inputs import Inputs
from kamerton.data.prompting import write_form
from kamerton.decide.report.run import write_report
from kamerton.model.export import export
from kamerton.model.load import local_base
from kamerton.model.shard import is_sharded
from kamerton.objective.judgements import JudgedRows
from kamerton.pipeline.layout import set_layout
from kamerton.pipeline.prepare import Ready, device
from kamerton.pipeline.session import Session
from kamerton.pipeline.task import TASK, TASK_BASE
from kamerton.pipeline.wandb import log_result
from kamerton.run.checkpoints import PREVIOUS
from kamerton.run.directory import RunDirectory
from kamerton.run.model import chosen_checkpoint, load_base, load_weights, to_train
from kamerton.score.baselines import write_baselines
from kamerton.score.custom import with_custom_metrics
from kamerton.score.evaluate import by_turn, choose_mode, passes, score_mismatched, score_split, scoring
from kamerton.score.metrics import compute
from kamerton.score.preferences import preferences_table
from kamerton.score.table import read_scores, write_scores


def finish(ready: Ready, tuned: Any, session: Session) -> None:
    """Score the best weights and the baselines, export the model and write the report; only rank 0 does this."""
    config, run, prepared = ready.config, session.run, ready.inputs.prepared
    if not run.writes:
        return
    if is_sharded(tuned):
        model = load_base(config)
        set_layout(config, model, run.record.batch)
        tuned = to_train(config, model)
    load_weights(tuned, chosen_checkpoint(run.path))
    score_test(ready, tuned, "test", session)
    score_task(ready, tuned, TASK, session)
    if config.baselines and (run.path / "scores" / "test.parquet").exists():
        run.update(baselines=write_baselines(run.path, prepared.splits["train"], prepared.labels))
    log_result(config, run)
    if config.model.export is not None:
        has_fallback = any(part.report["fallback"] for part in ready.inputs.encoded.values())
        tokenizer = ready.inputs.tokenizer
        _export(config, tuned, with_fallback(tokenizer) if has_fallback else tokenizer, ready, run)
    write_report(run.path, state="succeeded")  # before the state changes, so that a finished run has its report
    run.set_state("succeeded")
    (run.checkpoints / PREVIOUS).unlink(missing_ok=True)


def score_base(ready: Ready, session: Session) -> None:
    """Score the base model on the test split, and on `score.data`, if `base=true`."""
    if ready.config.base and session.run.writes:
        score_test(ready, ready.model, "base", session, ready.reference_scores)
        score_task(ready, ready.model, TASK_BASE, session)


def score_test(ready: Ready, model: Any, name: str, session: Session, scores: pa.Table | None = None) -> None:
    """Score the test split into `scores/NAME.parquet` unless that file exists, and record the metrics.

    `scores` are those of the model, if they are known.
    """
    config, run, inputs = ready.config, session.run, ready.inputs
    if "test" not in inputs.encoded:
        return
    path = run.path / "scores" / f"{name}.parquet"
    if not path.exists():
        table = _score(ready, model, name, inputs, session) if scores is None else scores
        if ready.preferences:
            others = _score_others(ready, model, session, is_reference=scores is not None)
            table = preferences_table(table, ready.preferences["test"], config.objective, others)
        table = with_custom_metrics(
            table, config.metrics, config.allow_targets, rewards=build_rewards(config, run.path)
        )
        _write(run, name, table)
    _record(run, name)


def score_task(ready: Ready, model: Any, name: str, session: Session) -> None:
    """Score the test set `score.data`, if there is one, into `scores/NAME.parquet` likewise."""
    config, run = ready.config, session.run
    if ready.task is None:
        return
    if not (run.path / "scores" / f"{name}.parquet").exists():
        table = _score(ready, model, name, ready.task, session)
        rewards = build_rewards(config, run.path)
        _write(run, name, with_custom_metrics(table, config.metrics, config.allow_targets, rewards=rewards))
    _record(run, name)


def _write(run: RunDirectory, name: str, table: pa.Table) -> None:
    write_scores(table, run.path / "scores" / f"{name}.parquet")
    _partial(run, name).unlink(missing_ok=True)


def _record(run: RunDirectory, name: str) -> None:
    metrics = compute(read_scores(run.path / "scores" / f"{name}.parquet"))
    run.update(metrics={name: {key: value for key, value in metrics.items() if value is not None}})


def _score(ready: Ready, model: Any, name: str, inputs: Inputs, session: Session) -> pa.Table:
    """Return the score table of the test split of `inputs`; of preferences a row for each completion."""
    config, labels, data, on_device = ready.config, inputs.prepared.labels, inputs.encoded["test"], device(ready.config)
    of_preferences = bool(ready.preferences) and inputs is ready.inputs
    if not labels and not of_preferences:
        data = by_turn(data, inputs.tokenizer)
    options = scoring(config) if of_preferences else config.score
    total = len(data) * passes(choose_mode(options, labels, data.examples))
    what = "completions" if of_preferences else "test examples"
    with count_bar(session.console, f"scoring {len(data)} {what} ({name})", total) as advance:

        def progress(done: int) -> None:
            advance(done)
            session.stop.check()

        return score_split(
            model.to(on_device),
            inputs.tokenizer,
            data,
            labels=labels,
            options=options,
            partial=_partial(session.run, name),
            max_tokens=int(config.batch.max_tokens),
            packing=config.batch.cut,
            device=on_device,
            progress=progress,
        )


def _score_others(ready: Ready, model: Any, session: Session, *, is_reference: bool) -> NDArray[np.float64] | None:
    """Return the log-probabilities of the test prompts with the completions of other examples; None for pairs."""
    config, rows, data = ready.config, ready.preferences["test"], ready.inputs.encoded["test"]
    if not isinstance(rows, JudgedRows):
        return None
    if is_reference:
        return rows.other_reference
    with count_bar(session.console, f"scoring {len(data)} completions of other prompts", len(data)) as advance:

        def progress(done: int) -> None:
            advance(done)
            session.stop.check()

        on_device = device(config)
        return score_mismatched(
            model.to(on_device),
            ready.inputs.tokenizer,
            data,
            max_tokens=int(config.batch.max_tokens),
            packing=config.batch.cut,
            device=on_device,
            progress=progress,
        )


def _partial(run: RunDirectory, name: str) -> Path:
    return run.path / "scores" / f".{name}.partial"


def _export(config: Config, model: Any, tokenizer: Any, ready: Ready, run: RunDirectory) -> None:
    """Export the model; its folder is renamed into place when it is complete."""
    folder, partial = run.path / "model", run.path / ".model"
    for left_over in (partial, folder):
        shutil.rmtree(left_over, ignore_errors=True)
    base = local_base(config.model.name, config.seed) if hasattr(model, "peft_config") else None
    ending = answer_ending(tokenizer)
    # An adapter beside a merged one would name a base model without it.
    merge = config.model.export == "merged" or config.model.adapter is not None
    export(model, tokenizer, partial, ending=ending, merge=merge, base=base)
    write_form(partial, ready.inputs.prepared.facts.form)
    partial.rename(folder)
