"""Evaluate and compare models of jobs and other models, from Python. Existing scores of a run are reused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from hydra_plugins.kamerton._overrides import override
from kamerton.console import plain_console
from kamerton.data.options import DataOptions, SplitOptions
from kamerton.errors import Fault, UserError
from kamerton.jobs.config import composing, data_overrides, model_overrides
from kamerton.jobs.data import DataParts, ProcessedData, Raw, data_options
from kamerton.jobs.locate import find_run
from kamerton.jobs.results import EvaluationResult, RankedModel, Ranking

if TYPE_CHECKING:
    from kamerton.decide.compare.comparison import Comparison

Data = DataParts | ProcessedData | Raw
TABLES = (
    "test",
    "out_of_fold",
)  # the second is of a cross-validation: each example is scored by a model not trained on it


def evaluate(root: Path, model_id: str, data: Data | None) -> EvaluationResult:
    """Evaluate a model on the test part of `data`, or on all of it if it is a file, a folder or rows.

    Without `data`, return the scores of its run on the run's test split. Raises `UserError` for data given to a
    cross-validation, which has a model per fold.
    """
    run = _run(root, model_id)
    if run is not None and data is None and _table(run).exists():
        return _read_result(model_id, run)
    if run is not None and (run / "folds").is_dir():
        fix = f"evaluate one of them, such as {run / 'folds' / '0'}, or wait for its end and give no data"
        raise UserError([Fault("evaluate.folds", "a cross-validation has a model for each fold", fix, file=str(run))])
    overrides = [override("run", str(run))] if run else model_overrides(model_id)
    if data is not None:
        overrides += _test_set_overrides(data, root, of_run=run is not None)
    return _read_result(model_id, _run_evaluation(root, overrides))


def _run(root: Path, model_id: str) -> Path | None:
    """Return the run directory that a model's name refers to; None for a model without a run."""
    try:
        return find_run(root, model_id)
    except UserError as error:
        if error.faults[0].code == "job.several":
            raise
        return None


def _test_set_overrides(data: Data, root: Path, *, of_run: bool) -> list[str]:
    """Return the overrides for a test set. Rows and files without options are read as the data `of_run` are."""
    if isinstance(data, ProcessedData):
        data = data.split()
    if isinstance(data, DataParts):
        return data_overrides(data.data, data.split)
    options = data_options(data, root)
    if not isinstance(data, DataOptions):  # without its own split, all of it is the test set
        if of_run:
            kind = [] if options.rows == "completions" else [override("data.rows", options.rows)]
            return [override("data.test", options.path), *kind]
        options = replace(options, path=None, test=options.path)
    return data_overrides(options, SplitOptions())


def _table(path: Path) -> Path:
    """Return the path of the score table of a run or evaluation, or `path` itself if it is a table."""
    if path.suffix == ".parquet":
        return path
    files = [path / "scores" / f"{name}.parquet" for name in TABLES]
    return next((file for file in files if file.exists()), files[0])


def _read_result(model_id: str, path: Path) -> EvaluationResult:
    from kamerton.score.intervals import intervals
    from kamerton.score.metrics import compute
    from kamerton.score.table import read_scores

    table = read_scores(_table(path))
    metrics = {name: value for name, value in compute(table).items() if value is not None}
    return EvaluationResult(model_id, metrics, intervals(table), path, table)


def _run_evaluation(root: Path, overrides: Sequence[str]) -> Path:
    """Evaluate as `kamerton evaluate` would with these overrides, and return the evaluation's directory."""
    from kamerton.config.check import to_options
    from kamerton.config.compose import compose_values
    from kamerton.config.faults import check_overrides
    from kamerton.score.evaluation import run_evaluation
    from kamerton.score.options import ROOT, EvaluateOptions, check_given

    overrides = [*overrides, override("paths.outputs", str(root))]
    with composing:
        faults = check_overrides(overrides, None, lambda values, _: check_given(values), sweeps=False, root=ROOT)
        if errors := [fault for fault in faults if fault.severity == "error"]:
            raise UserError(errors)
        values, defaults = compose_values(overrides, ROOT.name), compose_values(["model=tiny", "data=jsonl"])
    options = to_options(EvaluateOptions, values)
    return run_evaluation(options, values, values, defaults, plain_console(quiet=True)).path


def compare(root: Path, model_ids: Sequence[str], data: Data | None) -> Ranking:
    """Rank models on one test set: that of `data`, else that of the first run among them.

    The baseline of the tests is the first model without a run, else the first model.
    """
    from kamerton.config.schema import PathOptions
    from kamerton.decide.compare.comparison import write
    from kamerton.decide.compare.options import CompareOptions
    from kamerton.decide.compose import compare as compare_sides
    from kamerton.decide.report.comparison import write_comparison

    runs = {model_id: _run(root, model_id) for model_id in model_ids}
    if len(runs) < 2:
        raise UserError([Fault("compare.few", "there is nothing to compare", "name at least two different models")])
    first = next((run for run in runs.values() if run is not None), None)
    results = {}
    for model_id, run in runs.items():
        if run is None and data is None and first is not None:
            results[model_id] = _evaluate_like(root, model_id, first)
        else:
            results[model_id] = evaluate(root, model_id, data)
    baseline = next((model_id for model_id, run in runs.items() if run is None), model_ids[0])
    others = [str(result.path) for model_id, result in results.items() if model_id != baseline]
    options = CompareOptions(others, str(results[baseline].path), paths=PathOptions(str(root)))
    comparison = compare_sides(options)
    folder = root / "comparisons" / comparison.name
    write(comparison, folder)
    write_comparison(folder)
    return _rank(list(results.values()), comparison)


def _evaluate_like(root: Path, model_id: str, run: Path) -> EvaluationResult:
    """Evaluate a model on the test split of `run` with its score options; reuse the scores of the run's base model."""
    from kamerton.config.check import to_config
    from kamerton.config.compose import compose_values
    from kamerton.run.directory import read_config

    config = to_config(read_config(run))
    base = run / "scores" / "base.parquet"
    with composing:
        model = compose_values([*model_overrides(model_id), "data=jsonl"])["model"]
    is_base = (model["name"], model.get("provider")) == (config.model.name, config.model.provider)
    if is_base and base.exists():
        return _read_result(model_id, base)
    score = [override(f"score.{key}", value) for key, value in asdict(config.score).items()]
    overrides = [*model_overrides(model_id), *data_overrides(config.data, config.split), *score]
    return _read_result(model_id, _run_evaluation(root, overrides))


def _rank(results: Sequence[EvaluationResult], comparison: Comparison) -> Ranking:
    """Sort the models by the first metric of the verdicts that all of them have."""
    from kamerton.decide.compare.words import MAIN_METRICS

    common = [name for name in MAIN_METRICS if all(name in result.metrics for result in results)]
    metric = (common or ["loss"])[0]
    worst = float("inf") if metric == "loss" else float("-inf")
    ordered = sorted(results, key=lambda result: result.metrics.get(metric, worst), reverse=metric != "loss")
    verdicts = {run: comparison.verdicts.get(side.name) for side in comparison.sides for run in side.runs}
    models = [
        RankedModel(rank, result.model_id, result.metrics, verdicts.get(str(result.path)))
        for rank, result in enumerate(ordered, start=1)
    ]
    return Ranking(metric, tuple(models), comparison)
