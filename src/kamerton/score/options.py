"""Options of `kamerton evaluate`: the keys of `conf/evaluate.yaml`, their types and bounds."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le

from kamerton.config.check import check_classes
from kamerton.config.faults import Root
from kamerton.config.model_options import ModelOptions
from kamerton.config.places import check_places
from kamerton.config.schema import BatchOptions, Config, Node, PathOptions, ScoreOptions
from kamerton.config.target_checks import check_targets
from kamerton.data.options import DataOptions, SplitOptions
from kamerton.endpoint import find_endpoint
from kamerton.errors import Fault


@dataclass
class EngineOptions:
    """The generating engine: the model in this process, an OpenAI-compatible endpoint, or vLLM.

    `key` names the environment variable with the endpoint's key.
    """

    kind: Literal["local", "hosted", "vllm"] = "local"  # where answers are generated
    url: str = "https://api.openai.com/v1"  # address of the endpoint
    key: str = "OPENAI_API_KEY"
    concurrency: Annotated[int, Gt(0), Le(1024)] = 8
    retries: Annotated[int, Ge(0)] = 6
    timeout: Annotated[float, Gt(0)] = 120.0


@dataclass
class HarnessOptions:
    """Tasks of lm-evaluation-harness, a folder of custom tasks, and the maximum number of documents per task."""

    tasks: list[str] = field(default_factory=list)  # names of tasks
    include: str | None = None
    limit: Annotated[int, Gt(0)] | None = None


@dataclass
class EvaluateOptions:
    """Options of one evaluation; `conf/evaluate.yaml` documents the keys. Sections override parts of the run's."""

    run: str | None = None
    checkpoint: str | None = None
    limit: Annotated[int, Gt(0)] | None = None
    name: str | None = None
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    threads: Annotated[int, Gt(0), Le(1024)] | None = None
    allow_targets: list[str] = field(default_factory=list)
    model: ModelOptions | None = None
    data: DataOptions | None = None
    split: SplitOptions | None = None
    trainer: Node | None = None  # set by presets of data sets; not used
    eval: Node | None = None  # also set by presets
    batch: BatchOptions | None = None
    score: ScoreOptions | None = None
    engine: EngineOptions = field(default_factory=EngineOptions)
    metrics: dict[str, Node | None] = field(default_factory=dict)
    reward: dict[str, Any] = field(default_factory=dict)  # rewards of generated answers, in place of the run's
    lm_eval: HarnessOptions = field(default_factory=HarnessOptions)
    paths: PathOptions = field(default_factory=PathOptions)


EvaluateOptions.__pydantic_config__ = Config.__pydantic_config__  # type: ignore[attr-defined]


def check_evaluate(values: Mapping[str, Any]) -> list[Fault]:
    """Return faults beyond the schema, such as contradictions; missing files are reported when they are read."""
    metrics = {"metrics": values.get("metrics") or {}}
    functions = {**metrics, "reward": values.get("reward") or {}}
    allowed = values.get("allow_targets") or ()
    return [
        *check_places(values),
        *check_classes(metrics, ("metrics",)),
        *check_targets(functions, allowed if isinstance(allowed, list) else ()),
        *_contradictions(values),
    ]


def check_given(values: Mapping[str, Any]) -> list[Fault]:
    """Return a fault if no target is given; separate from the other checks, so that help and `--cfg` need none."""
    if _targets(values):
        return []
    fix = "add run=DIR, checkpoint=FILE, or model=hub model.name=NAME"
    return [_fault("no run, checkpoint or model given", fix, "run")]


def _targets(values: Mapping[str, Any]) -> list[str]:
    """Return the given target options; `model.trust_remote_code` alone is about the model of a run."""
    keys = []
    for key in ("run", "checkpoint", "model"):
        value = values.get(key)
        section = {name for name, item in value.items() if item is not None} if isinstance(value, Mapping) else set()
        if value and section != {"trust_remote_code"}:
            keys.append(key)
    return keys


def _contradictions(values: Mapping[str, Any]) -> Iterator[Fault]:
    targets = _targets(values)
    if len(targets) > 1:
        fix = "give one of them" if "model" in targets else "give only the checkpoint, which is in its run's directory"
        yield _fault(f"{targets[0]} and {targets[1]} are both given", fix, targets[1])
    engine, score = (_section(values, name) for name in ("engine", "score"))
    if score.get("data") is not None:
        fix = "name the test set in data.test, with data.rows=completions for a run of preferences"
        yield _fault("score.data is for kamerton train", fix, "score.data")
    kind = engine.get("kind", "local")
    if kind == "local" and _section(values, "model").get("provider"):
        kind = "hosted"
    if kind == "local":
        return
    if "model" not in targets:
        yield _fault(f"engine={kind} needs the name of its model", "add model=hub model.name=NAME", "model.name")
    if score.get("mode", "auto") not in ("auto", "generate"):
        message = f"score.mode={score['mode']} needs probabilities, which engine={kind} does not give"
        yield _fault(message, "leave it out, or use engine=local", "score.mode")
    if score.get("constrain"):
        message = f"score.constrain=true needs a local model, not engine={kind}"
        yield _fault(message, "leave it out, or use engine=local", "score.constrain")
    if _section(values, "lm_eval").get("tasks"):
        yield _fault(f"lm_eval.tasks need a local model, not engine={kind}", "use engine=local", "lm_eval.tasks")


def _section(values: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    section = values.get(key)
    return section if isinstance(section, Mapping) else {}


def _fault(message: str, fix: str, key: str) -> Fault:
    return Fault("config.value", message, fix, column=key)


def engine_for(model: ModelOptions, options: EngineOptions) -> EngineOptions:
    """Return the engine for a model: the given one, or the endpoint of a hosted model if the given one is local."""
    if model.provider is None or options.kind != "local":
        return options
    endpoint = find_endpoint(model.base_url, model.key)
    return dataclasses.replace(options, kind="hosted", url=endpoint.url, key=endpoint.key)


ROOT = Root("evaluate", EvaluateOptions, check_evaluate)
