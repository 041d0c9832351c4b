"""Choose, once per run, how it computes its steps: the batch layout, the micro-batch limit and the loss."""

from __future__ import annotations

import dataclasses
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from rich.console import Console

from kamerton.config.schema import Config
from kamerton.data.encode.arrays import Encoded
from kamerton.model.budget import find_max_tokens
from kamerton.model.capabilities import check_loss, choose_packing, use_packing
from kamerton.model.fuse import COMPILED, KERNELS, fuse
from kamerton.model.head import find_head
from kamerton.model.liger import can_use, choose_loss, use_liger
from kamerton.model.loss import build_padded, plain_loss
from kamerton.model.matmul import is_supported
from kamerton.model.matmul_probe import Matmul, choose_matmul
from kamerton.model.native import library
from kamerton.model.switches import autocast_format, precision_of, set_attention
from kamerton.model.tree import build_row
from kamerton.plan.packing import Packing
from kamerton.run.directory import RunDirectory
from kamerton.run.distributed import broadcast, rank_info, receive
from kamerton.run.model import uses_kernels
from kamerton.run.record import Batch

if TYPE_CHECKING:
    from kamerton.pipeline.shared_cache import SharedCache

Note = tuple[Literal["info", "warn"], str, str, str]


@dataclass(frozen=True, slots=True)
class _Decided:
    """How the steps are computed, with notes for the user (level, code, message, advice)."""

    batch: Batch
    notes: tuple[Note, ...]


def choose_batch_layout(
    config: Config,
    model: Any,
    data: Encoded,
    run: RunDirectory,
    console: Console,
    shared_cache: SharedCache | None = None,
) -> tuple[Config, Batch]:
    """Return the configuration with batch layout and micro-batch limit filled in, and the choices; print the changes.

    A resumed run keeps its loss and the version of its kernels, and its micro-batch limit unless another is given, so
    that its arithmetic is the same.
    Rank 0 chooses for all ranks, because evaluation distributes micro-batches by number. Choices in `shared_cache` for
    the same model, data and machine are reused.
    """
    if not run.writes:
        batch = Batch.model_validate_json(receive()) if rank_info().launcher else run.record.batch
        if batch.cut is None:
            raise RuntimeError("rank 0 failed before the batch layout was chosen; see its error above")
        set_layout(config, model, batch)
        return _with_batch(config, batch), batch
    decided = _Decided(Batch(), ())
    before = run.record.batch
    try:
        if shared_cache is None:
            decided = _decide(config, model, data, before)
        else:
            key = _cache_key(config, model, data, before)
            decided = shared_cache.keep("layout", key, lambda: _decide(config, model, data, before))
        set_layout(config, model, decided.batch)
    finally:
        if rank_info().world_size > 1:
            broadcast(decided.batch.model_dump_json())
    for level, code, message, advice in decided.notes:
        run.event(level, code, message, advice=advice)
        console.print(f"note   {message}", highlight=False)
    run.update(batch=decided.batch.model_dump())
    return _with_batch(config, decided.batch), decided.batch


def set_layout(config: Config, model: Any, batch: Batch) -> None:
    """Set the attention and the loss chosen in `batch` (of the run's record) on a copy of the model."""
    find_head(model)  # its check runs the model, which fails on a single rank once the model is sharded
    assert batch.cut is not None
    use_packing(model, batch.cut)
    if config.model.attn is not None:
        set_attention(model, config.model.attn)
    if batch.liger:
        use_liger(model)
    if batch.matmul is not None and uses_kernels(config):
        fuse(model, matmul=batch.matmul, kernels=batch.kernels or 1)


def _cache_key(config: Config, model: Any, data: Encoded, before: Batch) -> list[Any]:
    """Return everything that `_decide` depends on, as plain values."""
    adapter, batch, trainer = config.adapter, config.batch, config.trainer
    device = next(model.parameters()).device
    trained = [adapter.kind, adapter.dropout > 0, "lm_head" in adapter.modules_to_save, config.keeps_initial]
    machine = [str(device), *(trainer.get(name) for name in ("accelerator", "devices", "precision"))]
    return [asdict(config.model), trained, batch.cut, batch.max_tokens, machine, data.fingerprint, before.model_dump()]


def _decide(config: Config, model: Any, data: Encoded, before: Batch) -> _Decided:
    check_loss(model)
    usable, notes = choose_packing(model, config.batch.cut, dropout=config.adapter.dropout), list[Note]()
    if usable.reason is not None:
        message = f"batch.cut={config.batch.cut} becomes {usable.packing}: {usable.reason}"
        notes.append(("warn", "cut-fallback", message, f"batch.cut={usable.packing} gives the same results"))
    if config.model.attn is not None:
        set_attention(model, config.model.attn)
    tokens = config.batch.max_tokens
    if tokens == "auto":
        tokens = before.max_tokens or _measure_max_tokens(config, model)
    target_share = float(data.target_counts.sum() / max(1, data.lengths.sum()))  # predictions per token
    liger, more = _uses_liger(config, model, int(tokens * target_share), before.liger)
    matmul, reasons = _choose_matmul(config, model, data, usable.packing, before.matmul)
    kernels, changes = _choose_kernels(config, before)
    decided = Batch(cut=usable.packing, max_tokens=int(tokens), liger=liger, matmul=matmul, kernels=kernels)
    return _Decided(decided, (*notes, *more, *reasons, *changes))


def _uses_liger(config: Config, model: Any, predictions: int, before: bool | None) -> tuple[bool, list[Note]]:
    if before is not None:
        if not before or can_use(model):
            return before, []
        message = "this run computed its loss with liger-kernel, which is not available here; rounding will differ"
        return False, [("warn", "liger", message, "resume on a GPU, after pip install 'kamerton[gpu]'")]
    if not config.model.fused:
        return False, []
    adapter, form = config.adapter, autocast_format(precision_of(config.trainer))
    trains_head = adapter.kind == "full" or "lm_head" in adapter.modules_to_save
    choice = choose_loss(model, plain_loss, max(1, predictions), trains_head=trains_head, dtype=form)
    message = f"liger-kernel is installed but not used: {choice.reason}"
    return choice.liger, [] if choice.reason is None else [("warn", "liger", message, "upgrade or remove it")]


def _choose_matmul(
    config: Config, model: Any, data: Encoded, packing: Packing, before: Matmul | None
) -> tuple[Matmul, list[Note]]:
    """Return the number format of large matrix products; `auto` is decided once, on as many rows as a step has."""
    typed = config.model.matmul
    if typed == "float32" or (typed == "auto" and not uses_kernels(config)):
        return "float32", []
    if typed == "bfloat16" and not is_supported():
        message = "model.matmul=bfloat16 has no effect: this processor does not multiply in bfloat16"
        return "bfloat16", [("warn", "matmul", message, "leave model.matmul out")]
    if typed == "bfloat16" or before is not None:
        return before or "bfloat16", []
    rows = range(min(config.batch.size, len(data)))
    tokens, targets = [data.tokens(i) for i in rows], [data.targets(i) for i in rows]
    row = build_padded(tokens, targets, pad=0) if packing == "padded" else build_row(tokens, targets, share=True)
    choice = choose_matmul(model, row.to(model.device))
    if choice.speedup is None:
        return choice.matmul, []
    why = f"{choice.speedup:.2f} times as fast as float32" if choice.reason is None else choice.reason
    message = f"model.matmul=auto becomes {choice.matmul}: {why}"
    return choice.matmul, [("info", "matmul", message, f"model.matmul={choice.matmul} for runs to compare with")]


def _choose_kernels(config: Config, before: Batch) -> tuple[int | None, list[Note]]:
    """Return the version of the kernels' arithmetic: that of a resumed run, or the latest one that works here."""
    if not uses_kernels(config):
        return None, []
    if before.cut is None:
        return KERNELS if library() is not None else COMPILED - 1, []
    if (before.kernels or 1) < COMPILED or library() is not None:
        return before.kernels, []
    message = "this run used kernels that were compiled, and there is no C compiler here; rounding will differ"
    return before.kernels, [("warn", "kernels", message, "install a C compiler")]


def _with_batch(config: Config, decided: Batch) -> Config:
    assert decided.cut is not None
    assert decided.max_tokens is not None
    batch = dataclasses.replace(config.batch, cut=decided.cut, max_tokens=decided.max_tokens)
    model = dataclasses.replace(config.model, matmul=decided.matmul or config.model.matmul)
    return dataclasses.replace(config, batch=batch, model=model)


def _measure_max_tokens(config: Config, model: Any) -> int:
    here = rank_info()
    devices = here.devices if here.launcher else config.trainer.get("devices", 1)
    processes = devices if isinstance(devices, int) and devices > 0 else 1
    trains_all = config.adapter.kind == "full"
    return find_max_tokens(model, trains_all=trains_all, processes=processes, copied=config.keeps_initial)
