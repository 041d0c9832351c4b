"""The configuration's own sections as dataclasses: their keys, types and bounds.

Nodes that name a class (`optimizer`, `trainer`, each callback and logger) stay dictionaries here; `targets.py` checks
them against the signature of what they name. Nothing heavy is imported.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError

from kamerton.config.model_options import AdapterOptions, ModelOptions
from kamerton.config.objective_options import ObjectiveOptions
from kamerton.data.options import DataOptions, SplitOptions

Node = dict[str, Any]


def mapping_at(values: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """The section `key` of plain values; an empty one if it is missing, or not a section, which is its own fault."""
    section = values.get(key)
    return section if isinstance(section, Mapping) else {}


@dataclass(frozen=True)
class BatchOptions:
    """`size` is global (examples per optimizer step); `max_tokens` bounds one forward pass and changes no result.

    `max_tokens` auto is what the memory at hand holds, up to a ceiling (`model/budget.py`). `group_by_length` forms
    steps of examples of similar length: fewer padded tokens, another order of examples, so another result.
    """

    size: Annotated[int, Gt(0)] = 16
    max_tokens: Annotated[int, Gt(0)] | Literal["auto"] = "auto"
    cut: Literal["tree", "packed", "padded"] = "tree"
    group_by_length: bool = False


@dataclass(frozen=True)
class SchedulerOptions:
    """Learning rate over optimizer steps: rises linearly, then follows `name`.

    The rise takes `warmup_steps`, or `warmup_ratio` of all steps; if neither is given 10 steps, at most a tenth of all.
    `decay_ratio` is the share of all steps in which wsd falls (linearly); cosine and wsd end at `min_ratio` of the
    learning rate.
    """

    name: Literal["linear", "cosine", "constant", "wsd"] = "linear"  # shape of the schedule after the warm-up
    warmup_steps: Annotated[int, Ge(0)] | None = None
    warmup_ratio: Annotated[float, Ge(0), Lt(1)] | None = None
    decay_ratio: Annotated[float, Gt(0), Le(1)] = 0.1
    min_ratio: Annotated[float, Ge(0), Le(1)] = 0.0


@dataclass(frozen=True)
class CvOptions:
    """With `folds` = k, k runs instead of one: each holds one fold of all examples out and is scored on it.

    `stratify` ("label" or a metadata field) gives every fold the same shares; `group` (a metadata field) keeps rows
    together that share a value. None: as in `split`. Rows of one prompt and near duplicates always stay together.
    """

    folds: Annotated[int, Ge(2), Le(100)] | None = None
    stratify: str | None = None
    group: str | None = None


def _count_or_share(value: Any) -> Any:
    """A union of two bounded types would report the faults of both."""
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not (0 < number < 1 or (number >= 1 and number.is_integer())):
        raise PydanticCustomError("every", "must be a whole number of 1 or more, or a share between 0 and 1")
    return number if number < 1 else int(number)


@dataclass(frozen=True)
class WhenOptions:
    """How often: every `every` optimizer steps or epochs, or a share of an epoch such as 0.25."""

    strategy: Literal["steps", "epoch"] = "epoch"  # whether `every` counts optimizer steps or epochs
    every: Annotated[int | float, BeforeValidator(_count_or_share)] = 1  # of them; 0.25: four times an epoch


@dataclass(frozen=True)
class EvalOptions:
    """When to validate, and whether each validation also scores examples like the test split.

    `score` null logs the loss, perplexity and token accuracy alone. `labels` and `generate` score as `score.mode`
    does, with the other options of `score`; `auto` scores as the test split is scored. `sample` limits the scored
    examples to as many of the validation split, the same at every step.
    """

    strategy: Literal["steps", "epoch"] = "epoch"  # whether `every` counts optimizer steps or epochs
    every: Annotated[int | float, BeforeValidator(_count_or_share)] = 1  # of them; 0.25: four times an epoch
    score: Literal["auto", "labels", "generate"] | None = None
    sample: Annotated[int, Gt(0)] | None = None


@dataclass(frozen=True)
class ScoreOptions:
    """How examples are scored: `labels` by exact probability, the `reference` alone, or it and a generated text.

    `auto` is labels where the data have them, generate where they have functions to call, else reference. The other
    options are those of `generate`: `constrain` lets the answer be one of the labels only; `temperature` 0 is greedy
    decoding; sampled answers depend on `seed`, the example, and nothing else; `quantize` int8 generates with weights of
    8 bits, on a CPU.

    Of `labels`, exact finds the log-probability of each; argmax which is the most likely alone, faster. The one with
    the highest log-probability is predicted, divided by its tokens or bytes if `normalization` says so, and, with
    `content_free` (a prompt without content, such as N/A), less its log-probability after that prompt.

    `data` is a file of a held-out test set of single completions that the model is scored on beside the test split.
    """

    mode: Literal["auto", "labels", "reference", "generate"] = "auto"
    labels: Literal["exact", "argmax"] = "exact"
    normalization: Literal["sum", "token", "byte"] = "sum"
    content_free: str | None = None
    max_new_tokens: Annotated[int, Gt(0)] = 256
    constrain: bool = False
    temperature: Annotated[float, Ge(0)] = 0.0
    top_p: Annotated[float, Gt(0), Le(1)] = 1.0
    seed: Annotated[int, Ge(0)] = 0
    quantize: Literal["int8"] | None = None
    data: str | None = None


@dataclass(frozen=True)
class SweepOptions:
    """What the trials of a sweep are compared by, and what happens with the best one.

    `objective` names one or several values: of the validation split, with the weights that a run keeps (metrics of
    labels, texts, calls and custom ones need `eval.score`), or `seconds` of training and trained `parameters`.
    `constraints` are the worst values allowed, by such a name. With `seeds` every trial is trained once for each, and
    their mean counts. `final`: `score` scores the best trial on the test split, `retrain` trains it again first; None
    leaves the test split alone.
    """

    objective: str | list[str] = "loss"
    constraints: dict[str, float] = field(default_factory=dict)
    seeds: list[Annotated[int, Ge(0), Lt(2**32)]] = field(default_factory=list)
    final: Literal["score", "retrain"] | None = "score"

    @property
    def objectives(self) -> list[str]:
        """The names of the objective, as many as the study has values."""
        return self.objective if isinstance(self.objective, list) else [self.objective]


@dataclass(frozen=True)
class MonitorOptions:
    """Problems that a run is watched for, by codes (docs/how-to/monitor.md): those in `ignore` are not reported, those
    in `stop_on` end the training, as early stopping does.
    """

    ignore: list[str] = field(default_factory=list)
    stop_on: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class PathOptions:
    """Where run directories are written."""

    outputs: str = "outputs"  # the folder of all run directories


@dataclass(frozen=True)
class Config:
    """One run, fully resolved."""

    name: str
    seed: Annotated[int, Ge(0), Lt(2**32)]
    run_id: str | None
    resume: Literal["auto", "force"] | None
    allow_targets: list[str]
    clip_norm: Annotated[float, Gt(0)] | None
    label_smoothing: Annotated[float, Ge(0), Lt(1)]
    ema_decay: Annotated[float, Gt(0), Lt(1)] | None
    base: bool
    baselines: bool
    threads: Annotated[int, Gt(0), Le(1024)] | None
    data: DataOptions
    split: SplitOptions
    model: ModelOptions
    adapter: AdapterOptions
    batch: BatchOptions
    optimizer: Node
    scheduler: SchedulerOptions
    trainer: Node
    callbacks: dict[str, Node | None] = field(default_factory=dict)
    logger: dict[str, Node | None] = field(default_factory=dict)
    objective: ObjectiveOptions = field(default_factory=ObjectiveOptions)
    metrics: dict[str, Node | None] = field(default_factory=dict)  # custom metrics by name, each a `_target_`
    reward: dict[str, Any] = field(default_factory=dict)  # rewards by name, each a `_target_`; or one `_target_` alone
    score: ScoreOptions = field(default_factory=ScoreOptions)
    eval: EvalOptions = field(default_factory=EvalOptions)
    save: WhenOptions = field(default_factory=WhenOptions)
    cv: CvOptions = field(default_factory=CvOptions)
    sweep: SweepOptions = field(default_factory=SweepOptions)
    monitor: MonitorOptions = field(default_factory=MonitorOptions)
    paths: PathOptions = field(default_factory=PathOptions)
    debug_note: str | None = None  # printed at the start by the presets of `debug`

    @property
    def keeps_initial(self) -> bool:
        """Whether training keeps a copy of the weights before it: without adapter, for the divergence from them."""
        return self.objective.generates and self.objective.kl_weight > 0 and self.adapter.kind == "full"


# Read by pydantic: unknown keys are faults; `run_id=123` is a name although YAML reads a number.
Config.__pydantic_config__ = {  # type: ignore[attr-defined]
    "extra": "forbid",
    "coerce_numbers_to_str": True,
    "allow_inf_nan": False,
}
