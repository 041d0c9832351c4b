"""k-fold cross-validation: `kamerton train cv.folds=5` trains k runs, each scored on its held-out fold.

The directory is `outputs/<name>/<run_id>/` with an ordinary run directory for each fold in `folds/<k>/`. After the last
fold, `scores/out_of_fold.parquet` holds every example once, scored by the model that was trained without it, and
`cross_validation.json` the metrics of every fold, their mean and their spread. The same command resumes at the first
unfinished fold. All folds share the cached data.
"""

from __future__ import annotations

import dataclasses
import json
import os
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from kamerton.config.derived import fold_of
from kamerton.config.rewards import build_rewards
from kamerton.config.schema import Config, CvOptions
from kamerton.data.gate import Prepared
from kamerton.data.options import SplitOptions
from kamerton.data.parts import ALTERNATIVE, part_id
from kamerton.data.store import Examples
from kamerton.decide.report.cross_validation import FILE, OUT_OF_FOLD, write_cross_report
from kamerton.decide.report.folds import LEVEL, METHOD, Spread, spreads
from kamerton.errors import Fault, Interrupted, RunFailed, UserError
from kamerton.files import write_text
from kamerton.pipeline.run import run_all
from kamerton.pipeline.session import Invocation, RunResult, Session, open_session, result_of
from kamerton.pipeline.shared_cache import SharedCache
from kamerton.pipeline.start import record_start
from kamerton.pipeline.terminal import print_cross_validation, print_fold, print_folds
from kamerton.pipeline.wandb import log_result, wandb_run
from kamerton.run.changes import grader_faults
from kamerton.run.directory import RunDirectory, record_at
from kamerton.run.distributed import RUN_DIR, leave_group, rank_info
from kamerton.run.graders import current_graders
from kamerton.run.record import Record
from kamerton.score.baselines import previous, table_path
from kamerton.score.custom import with_custom_metrics
from kamerton.score.metrics import compute
from kamerton.score.pairs import pair_ids
from kamerton.score.table import read_scores, write_scores


def cross_validate(config: Config, invocation: Invocation | None = None) -> RunResult:
    """Train and score every unfinished fold, then combine them.

    Folds share one cache. If a fold fails, the others are still trained. Raises `RunFailed` with the numbers of the
    failed folds, `UserError` and `Interrupted` as `train` does.
    """
    invocation = invocation or Invocation()
    if rank_info().rank > 0 and rank_info().launcher is None:  # Lightning started this process for one fold's training
        return _train_fold(config, Path(os.environ[RUN_DIR]), dataclasses.replace(invocation, shared_cache=None))
    cache = invocation.shared_cache or SharedCache()
    invocation = dataclasses.replace(invocation, shared_cache=cache)
    config = dataclasses.replace(config, resume="auto")
    with open_session(config, invocation, report=write_cross_report) as session:
        run = session.run
        prepared = cache.inputs(fold_config(config, 0)).prepared
        sizes = prepared.facts.folds
        record_start(run, prepared, {f"fold {number}": size for number, size in enumerate(sizes)}, config.seed)
        split = fold_split(config, 0)
        run.update(cv={"folds": config.cv.folds, "group": split.group, "stratify": split.stratify})
        run.set_state("running")
        print_folds(session.console, run, sizes)
        failed = _train_folds(config, invocation, session)
        if failed:
            raise RunFailed(_folds_fault(run, failed))
        if run.writes:
            with wandb_run(config):
                spread = _combine_folds(config, run, prepared)
                log_result(config, run)
            write_cross_report(run.path, state="succeeded")
            run.set_state("succeeded")
            print_cross_validation(session.console, run, spread)
    return RunResult(run.run_id, run.path, str(run.record.state), run.values.get("metrics", {}))


def fold_config(config: Config, number: int) -> Config:
    """Return the configuration of the run that holds out fold `number`."""
    split = fold_split(config, number)
    return dataclasses.replace(config, cv=CvOptions(), split=split, run_id=str(number), resume=None)


def fold_split(config: Config, number: int) -> SplitOptions:
    """Return the split options with fold `number` held out."""
    return fold_of(config.split, config.cv, number)


def _train_fold(
    config: Config, folder: Path, invocation: Invocation, facts: Mapping[str, Any] | None = None
) -> RunResult:
    """Train and score the fold that `folder` is named after."""
    with open_session(fold_config(config, int(folder.name)), invocation, folder.parent, facts) as session:
        run_all(session)
    return result_of(session.run)


def _train_folds(config: Config, invocation: Invocation, session: Session) -> dict[int, Fault]:
    """Train every unfinished fold; return those that failed, with the reason."""
    run, console = session.run, session.console
    failed: dict[int, Fault] = {}
    count = int(config.cv.folds or 0)
    for number in range(count):
        if run.writes:  # the other ranks stop together, inside a fold
            session.stop.check()
        folder = run.path / "folds" / str(number)
        done = record_at(folder).state == "succeeded"
        try:
            if not done:
                _check_graders(config, run)
                _train_fold(config, folder, invocation, {"parent": run.run_id, "fold": number})
        except Interrupted:
            raise
        except UserError as error:
            raise UserError(
                dataclasses.replace(fault, message=f"fold {number}: {fault.message}") for fault in error.faults
            ) from error
        except RunFailed as error:
            failed[number] = error.fault
        except Exception as error:
            traceback.print_exc()
            failed[number] = Fault(type(error).__name__, str(error), "see the traceback", file=str(folder))
        leave_group()
        if number in failed:
            console.print(f"[bold red]fold {number} failed[/bold red]  ", end="")
            console.print(failed[number].message, highlight=False, markup=False)
        elif run.writes:
            print_fold(console, folder, number, reused=done)
        run.update(progress={"folds": count, "done": number + 1 - len(failed)})
    return failed


def _check_graders(config: Config, run: RunDirectory) -> None:
    """Raise `UserError` if the grader files are not those that the folds before were trained with."""
    if faults := grader_faults(run.path, run.record.graders, current_graders(dataclasses.asdict(config)), ()):
        raise UserError(faults)


def _folds_fault(run: RunDirectory, failed: Mapping[int, Fault]) -> Fault:
    reasons = "; ".join(f"fold {number}: {fault.message}" for number, fault in failed.items())
    fixes = " ".join(dict.fromkeys(f"{fault.fix};" for fault in failed.values()))
    fix = f"{fixes} then the same command (or run_id={run.run_id}) trains the unfinished folds"
    message = f"{len(failed)} fold{'s' if len(failed) > 1 else ''} failed: {reasons}"
    return Fault("cv.fold-failed", message, fix, file=str(run.path / "folds"))


def _combine_folds(config: Config, run: RunDirectory, prepared: Prepared) -> dict[str, Spread]:
    """Write the combined score table of all folds and its metrics; return the spread of every metric."""
    folders = [run.path / "folds" / str(number) for number in range(int(config.cv.folds or 0))]
    tables = _combined(folders, "test")
    assert tables is not None  # every fold has finished
    _check_coverage(config, tables, prepared)
    rewards = build_rewards(config, run.path)
    tables = with_custom_metrics(tables, config.metrics, config.allow_targets, rewards=rewards)
    write_scores(tables, run.path / "scores" / f"{OUT_OF_FOLD}.parquet")
    metrics = {OUT_OF_FOLD: compute(tables)}
    if (base := _combined(folders, "base")) is not None:
        base = with_custom_metrics(base, config.metrics, config.allow_targets, rewards=rewards)
        write_scores(base, run.path / "scores" / "base.parquet")
        metrics["base"] = compute(base)
    if config.baselines:
        run.update(baselines=_baselines(run, folders, tables))
    records = [record_at(folder) for folder in folders]
    summary = _summary(records)
    write_text(run.path / FILE, json.dumps(summary, indent=2) + "\n")
    for part in ("mean", "deviation"):
        metrics[part] = {name: spread[part] for name, spread in summary["spread"].items()}
    best = [record.metrics["best"] for record in records if "best" in record.metrics]
    for name in ("loss", "reward"):
        if best and all(name in part for part in best):
            metrics.setdefault("best", {})[name] = sum(part[name] for part in best) / len(best)
    run.update(metrics={name: {k: v for k, v in part.items() if v is not None} for name, part in metrics.items()})
    spread: dict[str, Spread] = summary["spread"]
    return spread


def _baselines(run: RunDirectory, folders: Sequence[Path], table: pa.Table) -> dict[str, dict[str, float | None]]:
    """Write each baseline's combined table and the best earlier cross-validation's; return their metrics."""
    candidates = {name: _combined(folders, f"baselines/{name}") for name in ("majority", "tfidf")}
    candidates["previous"] = previous(run.path, table, name=OUT_OF_FOLD)
    tables = {name: table for name, table in candidates.items() if table is not None}
    for name, scores in tables.items():
        write_scores(scores, table_path(run.path, name))
    return {name: compute(scores) for name, scores in tables.items()}


def _combined(folders: Sequence[Path], name: str) -> pa.Table | None:
    """Return the folds' score tables `name` as one, sorted by example id; None if a fold has none."""
    paths = [folder / "scores" / f"{name}.parquet" for folder in folders]
    if not all(path.exists() for path in paths):
        return None
    return pa.concat_tables((read_scores(path) for path in paths), promote_options="default").sort_by("example_id")


def _check_coverage(config: Config, table: pa.Table, prepared: Prepared) -> None:
    """Raise `RunFailed` unless the table contains every example of the folds once.

    Examples too long for the model may be missing if they are dropped.
    """
    test = prepared.splits["test"]
    examples = test.select(test.pool)
    expected = examples.ids.to_pylist()
    scored = table["example_id"].to_pylist()
    rows = dict(zip(expected, expected, strict=True))
    if not set(scored) <= set(expected):
        rows |= _row_ids(examples)
    missing = set(expected) - {rows.get(name) for name in scored}
    fits = len(scored) == len(set(scored)) and set(scored) <= set(rows)
    if fits and (not missing or config.data.overlong == "drop"):
        return
    repeated, foreign = len(scored) - len(set(scored)), len(set(scored) - set(rows))
    counts = f"{len(missing)} examples missing, {repeated} repeated, {foreign} foreign"
    fix = "give another run_id: files or metadata have changed since the first folds were trained"
    raise RunFailed(Fault("cv.cover", f"the folds do not cover the data: {counts}", fix))


def _row_ids(examples: Examples) -> dict[str, str]:
    """Return the ids that rows of score tables may have, each with that of its example.

    These are turns of conversations, completions of a prompt, and pairs of them.
    """
    ids: dict[str, str] = {}
    for number, example in zip(examples.id_numbers.tolist(), examples, strict=True):
        name = f"{number:016x}"
        turns = range(0) if isinstance(example.prompt, str) else range(1, len(example.prompt))
        others = range(ALTERNATIVE, ALTERNATIVE + len(example.alternatives))
        scores = [example.score or 0.0, *(other.score for other in example.alternatives)]
        pairs = [(i, j) for i, score in enumerate(scores) for j, worse in enumerate(scores) if score > worse]
        ids |= {f"{part_id(number, part):016x}": name for part in (*turns, *others)}
        ids |= dict.fromkeys(pair_ids(name, pairs), name)
    return ids


def _summary(records: Sequence[Record]) -> dict[str, Any]:
    """Return the contents of `cross_validation.json`: each fold's metrics and their spread."""
    counts = [record.data.counts for record in records]
    train, test = (sum(count[name] for count in counts) / len(counts) for name in ("train", "test"))
    folds = [
        {"fold": number, "examples": count, "metrics": record.metrics["test"], "base": record.metrics.get("base")}
        for number, (record, count) in enumerate(zip(records, counts, strict=True))
    ]
    spread = spreads([record.metrics["test"] for record in records], train, test)
    return {"folds": folds, "spread": spread, "level": LEVEL, "method": METHOD}
