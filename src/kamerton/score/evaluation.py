"""One evaluation, top to bottom: subject → test set → scores table → metrics with intervals → evaluation directory.

`<paths.outputs>/evaluations/<name>/` holds `evaluation.json` (state, what was asked, facts, metrics, intervals),
`scores/test.parquet`, and of a run its `config.yaml`, so that evaluations of several seeds compare as their runs do.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from rich.console import Console

from kamerton.config.secrets import redacted
from kamerton.console import count_bar
from kamerton.data.example import DataExample
from kamerton.endpoint import endpoint_faults
from kamerton.errors import Fault, Interrupted, UserError
from kamerton.files import write_text
from kamerton.mask import mask_text, masked
from kamerton.run.directory import now
from kamerton.run.environment import environment
from kamerton.score.columns import is_labelled
from kamerton.score.custom import with_custom_metrics
from kamerton.score.evaluate import choose_mode, decoding_of, passes, score_split
from kamerton.score.generate.answers import make_prompts
from kamerton.score.generate.external import answered_table
from kamerton.score.generate.hosted import engine_endpoint, hosted_answers
from kamerton.score.generate.vllm import check_vllm, vllm_answers
from kamerton.score.intervals import intervals
from kamerton.score.metrics import compute, per_class
from kamerton.score.options import EvaluateOptions, engine_for
from kamerton.score.table import write_scores
from kamerton.score.target import Loaded, Target, find_target, slug
from kamerton.score.test_set import SPLIT, TestSet, load_test_set

RECORD = "evaluation.json"


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Where an evaluation was written, and what it found: metrics, their intervals, rows, tasks of the harness."""

    path: Path
    metrics: dict[str, float | None] = field(default_factory=dict)
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)
    rows: int = 0
    tasks: dict[str, dict[str, Any]] = field(default_factory=dict)


def run_evaluation(
    options: EvaluateOptions,
    values: Mapping[str, Any],
    named: Mapping[str, Any],
    defaults: Mapping[str, Any],
    console: Console,
) -> Evaluation:
    """Evaluate as the options say; `values` are the options as they were typed, `named` the same with the environment's
    by name (files hold that text), `defaults` the values of `kamerton train`, for a model that is no run.

    Raises `UserError` for what the user must mend, and `Interrupted` when stopped: what was generated is kept, and the
    same command goes on.
    """
    target = find_target(options, values, named, defaults)
    options = dataclasses.replace(options, engine=engine_for(target.config.model, options.engine))
    faults: list[Fault] = []
    if options.engine.kind == "hosted":
        faults = endpoint_faults(engine_endpoint(options.engine))
    elif options.engine.kind == "vllm":
        faults = check_vllm()
    if faults:
        raise UserError(faults)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    asked, identity = _asked(options, target)
    folder = _open(options, target, asked, identity)
    record: dict[str, Any] = {"state": "running", "evaluation": folder.name, "asked": asked, "identity": identity}
    record |= redacted(target.facts, target.named)
    record |= {"times": {"started": now()}, **environment()}
    _write(folder, record)
    try:
        found = _evaluate(options, target, folder, record, console)
    except KeyboardInterrupt as stopped:
        _write(folder, record | {"state": "paused"})
        raise Interrupted("interrupted; the same command goes on from there") from stopped
    except BaseException as error:
        with suppress(OSError):
            _write(folder, record | {"state": "failed", "error": _error(error)})
        raise
    record["times"]["finished"] = now()
    _write(folder, record | {"state": "succeeded"})
    return found


def _evaluate(
    options: EvaluateOptions, target: Target, folder: Path, record: dict[str, Any], console: Console
) -> Evaluation:
    """Adds to the record what it finds."""
    data = target.config.data
    tasks, has_data = options.lm_eval.tasks, bool(data.path or data.train or data.test or data.sources)
    tests = (
        load_test_set(target, options.limit, tokenised=options.engine.kind != "hosted")
        if (has_data or not tasks)
        else None
    )
    if tests is not None:
        choose_mode(target.config.score, tests.labels)  # before a model loads
        record["data"] = {"fingerprint": tests.fingerprint, "name": data.name, "split": SPLIT, "labels": tests.labels}
        record["data"] |= {"examples": len(tests.examples), "limit": options.limit}
    loaded = target.load(options.accelerator) if options.engine.kind == "local" else None
    metrics: dict[str, float | None] = {}
    bounds: dict[str, tuple[float, float]] = {}
    if tests is not None:
        partial = folder / "scores" / f".{SPLIT}.partial"
        table = _score(options, target, tests, loaded, partial, console)
        table = with_custom_metrics(table, target.config.metrics, target.config.allow_targets)
        write_scores(table, folder / "scores" / f"{SPLIT}.parquet")
        if options.engine.kind != "hosted":  # answers that cost money are not asked for twice
            partial.unlink(missing_ok=True)
        metrics, bounds = compute(table), intervals(table)
        record |= {"metrics": {SPLIT: metrics}, "intervals": {SPLIT: bounds}}
        if is_labelled(table):
            record["per_class"] = {SPLIT: per_class(table)}
    found: dict[str, dict[str, Any]] = {}
    if tasks and loaded is not None:
        from kamerton.score.harness import run_tasks

        found = run_tasks(loaded, target.config.model, options.lm_eval)
        record["lm_eval"] = found
    return Evaluation(folder, metrics, bounds, 0 if tests is None else len(tests.examples), found)


def _score(
    options: EvaluateOptions,
    target: Target,
    tests: TestSet,
    loaded: Loaded | None,
    partial: Path,
    console: Console,
) -> pa.Table:
    title, rows = f"scoring {len(tests.examples):,} examples", len(tests.examples)
    if loaded is None:
        with count_bar(console, title, rows) as advance:
            return _generated_elsewhere(options, target, tests, partial, advance, console)
    score = target.config.score
    with count_bar(console, title, rows * passes(choose_mode(score, tests.labels))) as advance:
        return score_split(
            loaded.model,
            tests.tokenizer,
            tests.encoded,  # type: ignore[arg-type]  # a local model's test set is tokenised
            labels=tests.labels,
            options=score,
            max_tokens=loaded.max_tokens,
            packing=loaded.packing,
            partial=partial,
            device=loaded.device,
            progress=advance,
        )


def _generated_elsewhere(
    options: EvaluateOptions,
    target: Target,
    tests: TestSet,
    partial: Path,
    advance: Callable[[int], None],
    console: Console,
) -> pa.Table:
    """The table of an engine that gives texts alone: no token has a probability."""
    decoding, name = decoding_of(target.config.score), target.config.model.name
    table, before = answered_table(
        tests.examples,
        tests.labels,
        lambda left: _answers(options, target, tests, left),
        partial,
        (options.engine.kind, options.engine.url, name, tests.examples.fingerprint, decoding),
        advance,
    )
    if before:
        console.print(f"{before:,} answers of an earlier command are used; name=… asks for new ones")
    return table


def _answers(options: EvaluateOptions, target: Target, tests: TestSet, left: list[tuple[int, DataExample]]) -> Any:
    decoding, model = decoding_of(target.config.score), target.config.model
    if options.engine.kind == "hosted":
        return hosted_answers(left, model.name, options.engine, decoding)
    prompts, ends = make_prompts(None, tests.tokenizer, tests.encoded, None)  # type: ignore[arg-type]
    said = vllm_answers([prompts[at] for at, _ in left], model, decoding, ends=ends)
    return [{at: one for (at, _), one in zip(left, said, strict=True)}]


def _asked(options: EvaluateOptions, target: Target) -> tuple[dict[str, Any], str]:
    """What makes this evaluation another one than the next, as it may be written; and a digest of its values."""
    config = target.config
    sections = {name: dataclasses.asdict(getattr(config, name)) for name in ("data", "split", "score")}
    engine = {"kind": options.engine.kind, "url": options.engine.url}  # the rest changes no answer
    own = {"engine": engine, "lm_eval": dataclasses.asdict(options.lm_eval)}
    asked = {**target.facts, **sections, **own, "limit": options.limit, "metrics": config.metrics}
    plain = json.dumps(masked(asked), sort_keys=True, default=str)
    written = json.loads(json.dumps(redacted(asked, target.named), default=str))
    return written, hashlib.sha256(plain.encode()).hexdigest()[:7]


def _open(options: EvaluateOptions, target: Target, asked: dict[str, Any], identity: str) -> Path:
    """The folder; raises `UserError` where it holds an evaluation of something else."""
    name = options.name or f"{slug(target.name)}-{identity}"
    folder = Path(options.paths.outputs).absolute() / "evaluations" / name
    try:
        record = json.loads((folder / RECORD).read_text("utf-8"))
        before = (record.get("asked"), record.get("identity", identity))
    except (OSError, ValueError, AttributeError):
        before = (asked, identity)
    if before != (asked, identity):
        message = f"evaluation {folder.name} is there already, and was of something else"
        raise UserError([Fault("evaluate.name", message, "give another name, or none", str(folder), column="name")])
    folder.mkdir(parents=True, exist_ok=True)
    if target.facts["run"] is not None:
        shutil.copyfile(Path(target.facts["run"]) / "config.yaml", folder / "config.yaml")
    return folder


def _write(folder: Path, record: dict[str, Any]) -> None:
    write_text(folder / RECORD, json.dumps(record, indent=2, default=str, ensure_ascii=False) + "\n")


def _error(error: BaseException) -> dict[str, Any]:
    if isinstance(error, UserError):
        first = error.faults[0]
        return {"code": first.code, "message": mask_text(first.message), "param": first.column}
    return {"code": type(error).__name__, "message": mask_text(str(error)), "param": None}
