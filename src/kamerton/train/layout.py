"""How a run's steps will be laid out: what its model bears and what memory holds, decided once before it trains."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from rich.console import Console

from kamerton.config.schema import Config
from kamerton.model.budget import find_max_tokens
from kamerton.model.probe import check_loss, choose_cut
from kamerton.model.switches import set_attention
from kamerton.train.ranks import hear, place, tell
from kamerton.train.rundir import RunDirectory


def settle(config: Config, model: Any, run: RunDirectory, console: Console) -> Config:
    """The configuration with the cut and the pass size that model and machine bear; says what it changed.

    A resumed run keeps its pass size where none is given, so that it repeats the same sums. Rank 0 decides for all:
    evaluation deals micro-batches out by number.
    """
    if not run.writes:
        return _as_rank_0(config, model, run)
    decided: dict[str, Any] = {}
    try:
        decided = _decide(config, model, run, console)
    finally:
        if place().world_size > 1:
            tell(json.dumps(decided))
    run.update(batch=decided)
    return _with(config, decided)


def set_layout(config: Config, model: Any) -> None:
    """Give the model the attention that a settled configuration needs."""
    choose_cut(model, config.batch.cut)
    if config.model.attn is not None:
        set_attention(model, config.model.attn)


def _decide(config: Config, model: Any, run: RunDirectory, console: Console) -> dict[str, Any]:
    check_loss(model)
    usable = choose_cut(model, config.batch.cut, dropout=config.adapter.dropout)
    if usable.reason is not None:
        message = f"batch.cut={config.batch.cut} becomes {usable.cut}: {usable.reason}"
        run.event("warn", "cut-fallback", message, advice=f"batch.cut={usable.cut} gives the same results")
        console.print(f"note   {message}", highlight=False)
    if config.model.attn is not None:
        set_attention(model, config.model.attn)
    tokens = config.batch.max_tokens
    if tokens == "auto":
        tokens = (run.record.get("batch") or {}).get("max_tokens") or _max_tokens(config, model)
    return {"cut": usable.cut, "max_tokens": tokens}


def _as_rank_0(config: Config, model: Any, run: RunDirectory) -> Config:
    decided = json.loads(hear()) if place().launcher else run.record.get("batch")
    if not decided:
        raise RuntimeError("rank 0 did not come to lay out the steps: it says why")
    config = _with(config, decided)
    set_layout(config, model)
    return config


def _with(config: Config, decided: dict[str, Any]) -> Config:
    return dataclasses.replace(config, batch=dataclasses.replace(config.batch, **decided))


def _max_tokens(config: Config, model: Any) -> int:
    here = place()
    devices = here.devices if here.launcher else config.trainer.get("devices", 1)
    processes = devices if isinstance(devices, int) and devices > 0 else 1
    return find_max_tokens(model, trains_all=config.adapter.kind == "full", processes=processes)
