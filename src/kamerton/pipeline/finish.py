"""The last step of a run: test scores, baselines, the exported model and the report."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa

from kamerton.config.rewards import build_rewards
from kamerton.config.schema import Config
from kamerton.console import count_bar
from kamerton.data.encode.arrays import Encoded
from kamerton.data.encode.forms import with_fallback
from kamerton.data.encode.single_example import answer_ending
from kamerton.data.prompting import write_form
from kamerton.decide.report.run import write_report
from kamerton.model.export import export
from kamerton.model.load import local_base
from kamerton.model.shard import is_sharded
from kamerton.pipeline.layout import set_layout
from kamerton.pipeline.prepare import Ready, device
from kamerton.pipeline.session import Session
from kamerton.pipeline.wandb import log_result
from kamerton.run.checkpoints import PREVIOUS
from kamerton.run.directory import RunDirectory
from kamerton.run.model import chosen_checkpoint, load_base, load_weights, to_train
from kamerton.score.baselines import write_baselines
from kamerton.score.custom import with_custom_metrics
from kamerton.score.evaluate import by_turn, choose_mode, passes, score_split
from kamerton.score.metrics import compute
from kamerton.score.pairs import preferences_table
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
    """Score the base model on the test split if `base=true`."""
    if ready.config.base and session.run.writes:
        score_test(ready, ready.model, "base", session)


def score_test(ready: Ready, model: Any, name: str, session: Session) -> None:
    """Score the test split into `scores/NAME.parquet` unless that file exists, and record the metrics."""
    config, run, data = ready.config, session.run, ready.inputs.encoded.get("test")
    if data is None:
        return
    if not ready.inputs.prepared.labels:
        data = by_turn(data, ready.inputs.tokenizer)
    path = run.path / "scores" / f"{name}.parquet"
    if not path.exists():
        table = _score(ready, model, name, data, session)
        if ready.preferences:
            table = preferences_table(table, ready.preferences["test"], config.objective)
        write_scores(
            with_custom_metrics(table, config.metrics, config.allow_targets, rewards=build_rewards(config)), path
        )
        _partial(run, name).unlink(missing_ok=True)
    metrics = compute(read_scores(path))
    run.update(metrics={name: {key: value for key, value in metrics.items() if value is not None}})


def _score(ready: Ready, model: Any, name: str, data: Encoded, session: Session) -> pa.Table:
    config, labels, on_device = ready.config, ready.inputs.prepared.labels, device(ready.config)
    total = len(data) * passes(choose_mode(config.score, labels, data.examples))
    with count_bar(session.console, f"scoring {len(data)} test examples ({name})", total) as advance:

        def progress(done: int) -> None:
            advance(done)
            session.stop.check()

        return score_split(
            model.to(on_device),
            ready.inputs.tokenizer,
            data,
            labels=labels,
            options=config.score,
            partial=_partial(session.run, name),
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
