"""Evaluating and comparing the models of jobs and others, from Python. What a run has scored is not scored again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from hydra_plugins.kamerton._overrides import override
from kamerton.console import plain_console
from kamerton.data.options import DataOptions, SplitOptions
from kamerton.errors import Fault, UserError
from kamerton.jobs.config import composing, data_overrides, model_overrides
from kamerton.jobs.data import DataParts, ProcessedData, Raw, data_options
from kamerton.jobs.store import find

if TYPE_CHECKING:
    import pyarrow as pa

    from kamerton.decide.compare.comparison import Comparison

Data = DataParts | ProcessedData | Raw
TABLES = ("test", "out_of_fold")  # the second is a cross-validation's: every example by a model that never saw it


@dataclass(frozen=True, slots=True)
class EvaluationResult:
    """How good a model is on a test set: `metrics` with 95 % `intervals`, and its score table (a row an example).

    Of labelled data `accuracy`, `f1`, `precision`, `recall` (macro), `ece`; of any `loss`, `perplexity`,
    `token_accuracy`; of texts `exact_match`, …; and the custom metrics of the configuration (`metrics.NAME`). `path` is
    the run, evaluation or table that they come from.
    """

    model_id: str
    metrics: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]]
    path: Path
    scores: pa.Table = field(repr=False)

    @property
    def accuracy(self) -> float | None:
        """The share of labels that are right; None for free text."""
        return self.metrics.get("accuracy")

    @property
    def f1(self) -> float | None:
        """The mean of the classes' F1 scores."""
        return self.metrics.get("f1")

    @property
    def f1_score(self) -> float | None:
        """Another name of `f1`."""
        return self.f1

    @property
    def precision(self) -> float | None:
        """The mean of the classes' precisions."""
        return self.metrics.get("precision")

    @property
    def recall(self) -> float | None:
        """The mean of the classes' recalls."""
        return self.metrics.get("recall")

    @property
    def custom_metrics(self) -> dict[str, float]:
        """The metrics that the configuration adds (`metrics.NAME`), by their names."""
        from kamerton.score.metrics import example_metrics, own_of_whole

        names = [*example_metrics(self.scores), *own_of_whole(self.scores)]
        return {name: self.metrics[name] for name in names if name in self.metrics}


EvaluationMetrics = EvaluationResult


@dataclass(frozen=True, slots=True)
class RankedModel:
    """A model's place among others; `verdict` says how sure it is that it differs from the first-named model."""

    rank: int
    model_id: str
    metrics: Mapping[str, float]
    verdict: str | None = None


@dataclass(frozen=True, slots=True)
class Ranking:
    """Models from the best to the worst by `metric`; `comparison` has every difference with its test."""

    metric: str
    models: tuple[RankedModel, ...]
    comparison: Comparison = field(repr=False)

    @property
    def best(self) -> RankedModel:
        """The first."""
        return self.models[0]


def evaluate(root: Path, model_id: str, data: Data | None) -> EvaluationResult:
    """The model's scores on the test part of `data`, or on all of it if it is a file, a folder or rows.

    Without `data`, on the test split that its run was scored on.
    """
    run = _run(root, model_id)
    if run is not None and data is None and _table(run).exists():
        return _of_table(model_id, run)
    if run is not None and (run / "folds").is_dir():
        fix = f"evaluate one of them, such as {run / 'folds' / '0'}, or wait for its end and give no data"
        raise UserError([Fault("evaluate.folds", "a cross-validation has a model for each fold", fix, file=str(run))])
    asked = [override("run", str(run))] if run else model_overrides(model_id)
    return _of_table(model_id, _evaluated(root, [*asked, *([] if data is None else _overrides_of(data, root))]))


def _run(root: Path, model_id: str) -> Path | None:
    """The run directory that a model's name stands for; None for another model."""
    try:
        return find(root, model_id)
    except UserError as error:
        if error.faults[0].code == "job.several":
            raise
        return None


def _overrides_of(data: Data, root: Path) -> list[str]:
    if isinstance(data, ProcessedData):
        data = data.split()
    if isinstance(data, DataParts):
        return data_overrides(data.data, data.split)
    options = data_options(data, root)
    if not isinstance(data, DataOptions):  # no split of its own: all of it is the test set
        options = replace(options, path=None, test=options.path)
    return data_overrides(options, SplitOptions())


def _table(path: Path) -> Path:
    """The score table of a run or an evaluation; a table stands for itself."""
    if path.suffix == ".parquet":
        return path
    files = [path / "scores" / f"{name}.parquet" for name in TABLES]
    return next((file for file in files if file.exists()), files[0])


def _of_table(model_id: str, path: Path) -> EvaluationResult:
    from kamerton.score.intervals import intervals
    from kamerton.score.metrics import compute
    from kamerton.score.table import read_scores

    table = read_scores(_table(path))
    known = {name: value for name, value in compute(table).items() if value is not None}
    return EvaluationResult(model_id, known, intervals(table), path, table)


def _evaluated(root: Path, overrides: Sequence[str]) -> Path:
    """The directory of the evaluation that `kamerton evaluate` would make."""

    from kamerton.config.check import to_options
    from kamerton.config.compose import compose_values
    from kamerton.config.faults import check_overrides
    from kamerton.score.evaluation import run_evaluation
    from kamerton.score.options import ROOT, EvaluateOptions, check_given

    typed = [*overrides, override("paths.outputs", str(root))]
    with composing:
        faults = check_overrides(typed, None, lambda values, _: check_given(values), sweeps=False, root=ROOT)
        if errors := [fault for fault in faults if fault.severity == "error"]:
            raise UserError(errors)
        values, defaults = compose_values(typed, ROOT.name), compose_values(["model=tiny", "data=jsonl"])
    options = to_options(EvaluateOptions, values)
    return run_evaluation(options, values, values, defaults, plain_console(quiet=True)).path


def compare(root: Path, model_ids: Sequence[str], data: Data | None) -> Ranking:
    """Rank models on one test set: that of `data`, else that of the first run among them.

    The first model that no run trained, else the first one, is what the others are tested against.
    """
    from kamerton.config.schema import PathOptions
    from kamerton.decide.compare.comparison import write
    from kamerton.decide.compare.options import CompareOptions
    from kamerton.decide.compose import compare as compare_sides
    from kamerton.decide.report.comparison import write_comparison

    runs = {one: _run(root, one) for one in model_ids}
    if len(runs) < 2:
        raise UserError([Fault("compare.few", "there is nothing to compare", "name at least two different models")])
    first = next((run for run in runs.values() if run is not None), None)
    results = {
        one: evaluate(root, one, data) if run or data is not None or first is None else _beside(root, one, first)
        for one, run in runs.items()
    }
    baseline = next((one for one, run in runs.items() if run is None), model_ids[0])
    others = [str(result.path) for one, result in results.items() if one != baseline]
    options = CompareOptions(others, str(results[baseline].path), paths=PathOptions(str(root)))
    found = compare_sides(options)
    folder = root / "comparisons" / found.name
    write(found, folder)
    write_comparison(folder)
    return _ranked(list(results.values()), found)


def _beside(root: Path, model_id: str, run: Path) -> EvaluationResult:
    """Another model on the test split of a run, scored as that was; the run's own base model was scored with it."""
    from kamerton.config.check import to_config
    from kamerton.config.compose import compose_values
    from kamerton.run.directory import read_config

    config = to_config(read_config(run))
    base = run / "scores" / "base.parquet"
    with composing:
        named = compose_values([*model_overrides(model_id), "data=jsonl"])["model"]
    same = (named["name"], named.get("provider")) == (config.model.name, config.model.provider)
    if same and base.exists():
        return _of_table(model_id, base)
    scored = [override(f"score.{key}", value) for key, value in asdict(config.score).items()]
    return _of_table(
        model_id, _evaluated(root, [*model_overrides(model_id), *data_overrides(config.data, config.split), *scored])
    )


def _ranked(results: Sequence[EvaluationResult], comparison: Comparison) -> Ranking:
    """The models by the metric that verdicts speak of."""
    from kamerton.decide.compare.words import MAIN_METRICS

    common = [name for name in MAIN_METRICS if all(name in one.metrics for one in results)]
    metric = (common or ["loss"])[0]
    worst = float("inf") if metric == "loss" else float("-inf")
    ordered = sorted(results, key=lambda one: one.metrics.get(metric, worst), reverse=metric != "loss")
    verdicts = {run: comparison.verdicts.get(side.name) for side in comparison.sides for run in side.runs}
    models = [
        RankedModel(place, one.model_id, one.metrics, verdicts.get(str(one.path)))
        for place, one in enumerate(ordered, start=1)
    ]
    return Ranking(metric, tuple(models), comparison)
