"""Run one evaluation: target → test set → scores table → metrics with intervals → evaluation directory.

`<paths.outputs>/evaluations/<name>/` holds `evaluation.json` (state, request, facts, metrics, intervals),
`scores/test.parquet` and the `config.yaml` of the run, so that evaluations of several seeds compare like their runs.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from kamerton.config.rewards import build_rewards
from kamerton.config.secrets import redacted
from kamerton.config.target_checks import check_targets
from kamerton.cores import set_threads
from kamerton.data.options import COMPARED
from kamerton.endpoint import endpoint_faults
from kamerton.errors import Fault, Interrupted, UserError
from kamerton.files import write_text
from kamerton.mask import mask_text, masked
from kamerton.run.directory import now
from kamerton.run.environment import environment
from kamerton.run.graders import graders_fingerprint, keep_graders, read_graders
from kamerton.score.columns import is_labelled
from kamerton.score.custom import with_custom_metrics
from kamerton.score.evaluate import choose_mode, scoring
from kamerton.score.generate.hosted import engine_endpoint
from kamerton.score.generate.vllm import check_vllm
from kamerton.score.intervals import intervals
from kamerton.score.label_metrics import per_class
from kamerton.score.metrics import compute
from kamerton.score.options import EvaluateOptions, engine_for
from kamerton.score.reward_checks import reward_faults, unused_reward
from kamerton.score.table import write_scores
from kamerton.score.target import Target, find_target, slug
from kamerton.score.test_scores import preference_faults, score_tests
from kamerton.score.test_set import SPLIT, describe_test, load_test_set

RECORD = "evaluation.json"


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The directory of an evaluation and its results: metrics with intervals, number of rows, tasks of the harness.

    `title` names the data and the model; `is_other_data` if a run was scored on other data than its own.
    """

    path: Path
    title: str = ""
    is_other_data: bool = False
    metrics: dict[str, float | None] = field(default_factory=dict)
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)
    rows: int = 0
    tasks: dict[str, dict[str, Any]] = field(default_factory=dict)


def run_evaluation(
    options: EvaluateOptions,
    values: Mapping[str, Any],
    unresolved: Mapping[str, Any],
    defaults: Mapping[str, Any],
    console: Console,
) -> Evaluation:
    """Run the evaluation that the options describe.

    `values` are the options as typed, `unresolved` the same with `${oc.env:NAME}` unresolved (as written to files), and
    `defaults` the values of `kamerton train`, for a model without a run.

    Raises `UserError` for faults of the user's input, and `Interrupted` if stopped: generated answers are kept, and the
    same command resumes.
    """
    target = find_target(options, values, unresolved, defaults)
    options = dataclasses.replace(options, engine=engine_for(target.config.model, options.engine))
    faults: list[Fault] = []
    if options.engine.kind == "hosted":
        faults = endpoint_faults(engine_endpoint(options.engine))
    elif options.engine.kind == "vllm":
        faults = check_vllm()
    faults += preference_faults(options, target)
    if faults:
        raise UserError(faults)
    set_threads(options.threads)
    graders = read_graders(dataclasses.asdict(target.config))
    request, identity = _request(options, target, graders_fingerprint(graders))
    folder = _open(options, target, request, identity)
    keep_graders(folder, graders)
    record: dict[str, Any] = {"state": "running", "evaluation": folder.name, "asked": request, "identity": identity}
    record |= redacted(target.facts, target.unresolved)
    record |= {"times": {"started": now()}, **environment()}
    _write(folder, record)
    try:
        result = _evaluate(options, target, folder, record, console)
    except KeyboardInterrupt as stopped:
        _write(folder, record | {"state": "paused"})
        raise Interrupted("interrupted; repeat the command to continue") from stopped
    except BaseException as error:
        failure = {"code": type(error).__name__, "message": mask_text(str(error)), "param": None}
        if isinstance(error, UserError):
            fault = error.faults[0]
            failure = {"code": fault.code, "message": mask_text(fault.message), "param": fault.column}
        with suppress(OSError):
            _write(folder, record | {"state": "failed", "error": failure})
        raise
    record["times"]["finished"] = now()
    _write(folder, record | {"state": "succeeded"})
    return result


def _evaluate(
    options: EvaluateOptions, target: Target, folder: Path, record: dict[str, Any], console: Console
) -> Evaluation:
    """Score the test set and the tasks of the harness, and add the results to the record."""
    data = target.config.data
    has_data = bool(data.path or data.train or data.test or data.sources or data.prompt_file)
    tasks = options.lm_eval.tasks
    tests = None
    if has_data or not tasks:
        tests = load_test_set(target, options.limit, tokenised=options.engine.kind != "hosted")
        mode = choose_mode(scoring(target.config), tests.labels, tests.examples)  # before a model loads
        generates = mode == "generate" or options.engine.kind != "local"
        faults = [] if generates else unused_reward(options.reward, [mode])  # a run's own are not asked for
        if generates:
            faults += check_targets({"reward": target.config.reward}, target.config.allow_targets)
            faults += reward_faults(dataclasses.asdict(target.config), {SPLIT: tests.examples})
        if faults:
            raise UserError(faults)
        for note in tests.notes:
            console.print(f"note    {note}", style="yellow", highlight=False, markup=False, soft_wrap=True)
        record["data"] = {"fingerprint": tests.fingerprint, "name": data.name, "split": SPLIT, "labels": tests.labels}
        record["data"] |= {"examples": len(tests.examples), "limit": options.limit}
    loaded = target.load(options.accelerator) if options.engine.kind == "local" else None
    metrics: dict[str, float | None] = {}
    bounds: dict[str, tuple[float, float]] = {}
    rows = 0
    if tests is not None:
        partial = folder / "scores" / f".{SPLIT}.partial"
        table = score_tests(options, target, tests, loaded, partial, console)
        config = target.config
        rewards = build_rewards(config, folder)
        table = with_custom_metrics(table, config.metrics, config.allow_targets, rewards=rewards)
        write_scores(table, folder / "scores" / f"{SPLIT}.parquet")
        if options.engine.kind != "hosted":  # answers that cost money are kept
            partial.unlink(missing_ok=True)
        metrics, bounds = compute(table), intervals(table)
        record["data"]["examples"] = rows = table.num_rows
        record |= {"metrics": {SPLIT: metrics}, "intervals": {SPLIT: bounds}}
        if is_labelled(table):
            record["per_class"] = {SPLIT: per_class(table)}
    task_results: dict[str, dict[str, Any]] = {}
    if tasks and loaded is not None:
        from kamerton.score.harness import run_tasks

        task_results = run_tasks(loaded, target.config.model, options.lm_eval)
        record["lm_eval"] = task_results
    is_other_data = target.facts["run"] is not None and not target.own_data
    return Evaluation(folder, describe_test(target), is_other_data, metrics, bounds, rows, task_results)


def _request(options: EvaluateOptions, target: Target, graders: str | None) -> tuple[dict[str, Any], str]:
    """Return everything that the result depends on, as written to the record, and a digest of its values.

    `graders` identifies the contents of grader files.
    """
    config = target.config
    names = ("data", "split", "score", *(["objective"] if config.data.rows in COMPARED else []))
    sections = {name: dataclasses.asdict(getattr(config, name)) for name in names}
    if config.reward:
        sections["reward"] = config.reward
    engine = {"kind": options.engine.kind, "url": options.engine.url}  # the other engine options change no answer
    request = {
        **target.facts,
        **sections,
        "engine": engine,
        "lm_eval": dataclasses.asdict(options.lm_eval),
        "limit": options.limit,
        "metrics": config.metrics,
        **({} if graders is None else {"graders": graders}),
    }
    resolved = json.dumps(masked(request), sort_keys=True, default=str)
    written = json.loads(json.dumps(redacted(request, target.unresolved), default=str))
    return written, hashlib.sha256(resolved.encode()).hexdigest()[:7]


def _open(options: EvaluateOptions, target: Target, request: dict[str, Any], identity: str) -> Path:
    """Create and return the folder; raises `UserError` if it holds an evaluation with another request."""
    name = options.name or f"{slug(target.name)}-{identity}"
    folder = Path(options.paths.outputs).absolute() / "evaluations" / name
    try:
        record = json.loads((folder / RECORD).read_text("utf-8"))
        existing = (record.get("asked"), record.get("identity", identity))
    except (OSError, ValueError, AttributeError):
        existing = (request, identity)
    if existing != (request, identity):
        message = f"evaluation {folder.name} exists already, with other options"
        raise UserError([Fault("evaluate.name", message, "give another name, or none", str(folder), column="name")])
    folder.mkdir(parents=True, exist_ok=True)
    if target.facts["run"] is not None:
        shutil.copyfile(Path(target.facts["run"]) / "config.yaml", folder / "config.yaml")
    return folder


def _write(folder: Path, record: dict[str, Any]) -> None:
    write_text(folder / RECORD, json.dumps(record, indent=2, default=str, ensure_ascii=False) + "\n")
