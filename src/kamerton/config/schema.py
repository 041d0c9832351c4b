"""The configuration's own sections as dataclasses: their keys, types and bounds.

Nodes that name a class (`optimizer`, `trainer`, each callback and logger) stay dictionaries here; `targets.py` checks
them against the signature of what they name. Nothing heavy is imported.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, Lt

from kamerton.data.options import DataOptions, SplitOptions

Node = dict[str, Any]


@dataclass
class ModelOptions:
    """`name` is "tiny", a wheel address, a folder, or a hub name; `export` says what a finished run writes.

    `fused`, `compile`, `gradient_checkpointing` and `attn` (of padded rows) change speed and memory, and no result.
    """

    name: str = "tiny"
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    revision: str | None = None
    trust_remote_code: bool = False
    export: Literal["adapter", "merged"] | None = "adapter"
    fused: bool = True
    compile: bool = False
    gradient_checkpointing: bool = False
    attn: Literal["sdpa", "eager", "flash_attention_2", "flex_attention"] | None = None


@dataclass
class AdapterOptions:
    """`lora` trains low-rank additions to the layers in `targets`, `qlora` on a model in 4 bits; `full` every weight.

    `rslora`, `dora`, `init` and `lr_ratio` (LoRA+) are variants of LoRA; `modules_to_save` are layers trained whole
    beside it. `freeze` names parts that `full` leaves alone.
    """

    kind: Literal["lora", "qlora", "full"] = "lora"
    r: Annotated[int, Gt(0)] = 16
    alpha: Annotated[float, Gt(0)] = 32.0
    dropout: Annotated[float, Ge(0), Lt(1)] = 0.0
    targets: str | list[str] = "all-linear"
    rslora: bool = False
    dora: bool = False
    init: Literal["default", "pissa", "pissa_niter_16"] = "default"
    lr_ratio: Annotated[float, Gt(0)] = 1.0
    modules_to_save: list[str] = field(default_factory=list)
    freeze: list[str] = field(default_factory=list)


@dataclass
class BatchOptions:
    """`size` is global (examples per optimizer step); `max_tokens` bounds one forward pass and changes no result.

    `max_tokens` auto is what the memory at hand holds, up to a ceiling (`model/budget.py`). `group_by_length` forms
    steps of examples of similar length: fewer padded tokens, another order of examples, so another result.
    """

    size: Annotated[int, Gt(0)] = 16
    max_tokens: Annotated[int, Gt(0)] | Literal["auto"] = "auto"
    cut: Literal["tree", "packed", "padded"] = "tree"
    group_by_length: bool = False


@dataclass
class SchedulerOptions:
    """Learning rate over optimizer steps: rises linearly, then follows `name`.

    The rise takes `warmup_steps`, or `warmup_ratio` of all steps; 10 steps if neither is given. `decay_ratio` is the
    share of all steps in which wsd falls (linearly); cosine and wsd end at `min_ratio` of the learning rate.
    """

    name: Literal["linear", "cosine", "constant", "wsd"] = "linear"
    warmup_steps: Annotated[int, Ge(0)] | None = None
    warmup_ratio: Annotated[float, Ge(0), Lt(1)] | None = None
    decay_ratio: Annotated[float, Gt(0), Le(1)] = 0.1
    min_ratio: Annotated[float, Ge(0), Le(1)] = 0.0


@dataclass
class WhenOptions:
    """Every so many optimizer steps, or every so many epochs."""

    strategy: Literal["steps", "epoch"] = "epoch"
    every: Annotated[int, Gt(0)] = 1


@dataclass
class PathOptions:
    """Where run directories are written."""

    outputs: str = "outputs"


@dataclass
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
    eval: WhenOptions = field(default_factory=WhenOptions)
    save: WhenOptions = field(default_factory=WhenOptions)
    paths: PathOptions = field(default_factory=PathOptions)
    debug_note: str | None = None


# Read by pydantic: unknown keys are faults; `run_id=123` is a name although YAML reads a number.
Config.__pydantic_config__ = {  # type: ignore[attr-defined]
    "extra": "forbid",
    "coerce_numbers_to_str": True,
    "allow_inf_nan": False,
}
