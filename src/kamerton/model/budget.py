"""`batch.max_tokens=auto`: the number of tokens per forward pass that fit into the free memory.

The memory that a pass keeps for its backward pass is measured on a few tokens and is proportional to their number. A
ceiling limits the result: a pass that keeps every core busy gains little from more tokens, and with the same ceiling on
every machine with enough memory the same command repeats the same sums. The number never changes a result.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from kamerton.model.attention import ATTENTION
from kamerton.model.loss import build_padded, predict
from kamerton.model.tree import build_row

FLOOR = 256
CEILING = {"cpu": 2048, "cuda": 16384}
_MEASURED = 64  # tokens
# Share of free memory to plan with: a pass needed 1.0 to 1.8 times the memory it keeps (scripts/bench/budget.py).
_SPARE = 0.5
_CGROUP = Path("/sys/fs/cgroup")


def find_max_tokens(model: nn.Module, *, trains_all: bool, processes: int = 1, copied: bool = False) -> int:
    """Return the number of tokens for each forward pass of `model` on its current device, a multiple of 256.

    With `trains_all`, memory for gradients and AdamW's two moments of every weight is reserved, and if `copied` for a
    copy of the weights; `processes` share the memory. If the free memory is unknown, the result is the ceiling.
    """
    weights = list(model.parameters())
    device = weights[0].device
    ceiling = CEILING.get(device.type, CEILING["cpu"])
    free = free_memory(device)
    if free is None:
        return ceiling
    trained = sum(weight.numel() for weight in weights) if trains_all else 0
    room = _SPARE * free / (processes if device.type == "cpu" else 1) - (3 + copied) * 4 * trained
    return round_down(room / max(bytes_per_token(model), 1.0), ceiling)


def round_down(tokens: float, ceiling: int) -> int:
    """Round down to a multiple of `FLOOR`, at least `FLOOR` and at most `ceiling`."""
    return max(FLOOR, min(ceiling, int(tokens) // FLOOR * FLOOR))


def bytes_per_token(model: nn.Module) -> float:
    """Return the bytes per token that are kept for the backward pass when every weight of `model` is trained."""
    sizes: dict[int, int] = {}
    weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}

    def record(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            sizes[storage.data_ptr()] = storage.nbytes()
        return tensor.detach()  # a node with a reference to its own output would never be freed, nor would the model

    row, mark = np.ones(_MEASURED + 1, dtype=np.int32), np.arange(_MEASURED + 1) == _MEASURED
    uses_tree = model.config._attn_implementation == ATTENTION  # type: ignore[union-attr]
    batch = build_row([row], [mark], share=False) if uses_tree else build_padded([row], [mark], pad=0)
    device = next(model.parameters()).device
    kept = []
    with (
        torch.random.fork_rng(devices=[device] if device.type == "cuda" else []),
        torch.autograd.graph.saved_tensors_hooks(record, lambda tensor: tensor),
    ):
        kept.append(predict(model, batch.to(device)).nll)  # kept alive, so that no address is used twice
    return sum(sizes.values()) / _MEASURED


def free_memory(device: torch.device) -> int | None:
    """Return the free bytes of the GPU, or of the machine and the process's control groups; None if unknown."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    limits = (_machine_memory(), *map(control_group_memory, _control_groups()))
    return min((limit for limit in limits if limit is not None), default=None)


def control_group_memory(folder: Path) -> int | None:
    """Return the free bytes of a control group (version 2 or 1); None without a limit. Cached files count as free."""
    for limit, used in (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")):
        try:
            most, current = (folder / limit).read_text().strip(), int((folder / used).read_text())
            pairs = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        except (OSError, ValueError):
            continue
        if most.isdigit():
            cached = int(pairs.get("total_inactive_file", pairs.get("inactive_file", 0)))
            return max(0, int(most) - current + cached)
    return None


def _control_groups() -> list[Path]:
    """Return the control groups of this process and their parents."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    entries = [line.split(":", 2) for line in lines]
    paths = [
        _CGROUP / ("memory" if kind else "") / path.lstrip("/") for _, kind, path in entries if kind in ("", "memory")
    ]
    return [folder for path in paths for folder in (path, *path.parents) if folder.is_relative_to(_CGROUP)]


def _machine_memory() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        pass
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        return None
