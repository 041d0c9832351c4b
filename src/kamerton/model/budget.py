"""`batch.max_tokens=auto`: the tokens of one forward pass that the memory at hand holds.

What a pass keeps for its backward pass is measured on a few tokens and grows in proportion with them. Up to a ceiling:
a pass that keeps every core busy gains little from more tokens, and the same ceiling on every machine with enough
memory makes the same command repeat the same sums. The number never changes a result.
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
_PROBED = 64
_SPARE = (
    0.5  # share of free memory to plan with: a pass needed 1.0 to 1.8 times what it keeps (scripts/bench/budget.py)
)
_CGROUP = Path("/sys/fs/cgroup")


def find_max_tokens(model: nn.Module, *, trains_all: bool, processes: int = 1) -> int:
    """Return tokens for each forward pass of `model` where it is now, a multiple of 256.

    `trains_all` says that gradients and AdamW's two moments of every weight are still to come; `processes` share the
    memory. Where the free memory is not known, the ceiling.
    """
    weights = list(model.parameters())
    device = weights[0].device
    ceiling = CEILING.get(device.type, CEILING["cpu"])
    free = free_memory(device)
    if free is None:
        return ceiling
    trained = sum(weight.numel() for weight in weights) if trains_all else 0
    room = _SPARE * free / (processes if device.type == "cpu" else 1) - 3 * 4 * trained
    return round_down(room / max(bytes_per_token(model), 1.0), ceiling)


def round_down(tokens: float, ceiling: int) -> int:
    """Return a multiple of `FLOOR` between it and `ceiling`."""
    return max(FLOOR, min(ceiling, int(tokens) // FLOOR * FLOOR))


def bytes_per_token(model: nn.Module) -> float:
    """Return what one token keeps for the backward pass when every weight of `model` is trained."""
    seen: dict[int, int] = {}
    own = {weight.untyped_storage().data_ptr() for weight in model.parameters()}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            seen[storage.data_ptr()] = storage.nbytes()
        return tensor.detach()  # a node that holds its own output would never be freed, nor the model with it

    row, mark = np.ones(_PROBED + 1, dtype=np.int32), np.arange(_PROBED + 1) == _PROBED
    uses_tree = model.config._attn_implementation == ATTENTION  # type: ignore[union-attr]
    batch = build_row([row], [mark], share=False) if uses_tree else build_padded([row], [mark], pad=0)
    device = next(model.parameters()).device
    kept = []
    with (
        torch.random.fork_rng(devices=[device] if device.type == "cuda" else []),
        torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor),
    ):
        kept.append(predict(model, batch.to(device)).nll)  # alive, so that no address is used twice
    return sum(seen.values()) / _PROBED


def free_memory(device: torch.device) -> int | None:
    """Return bytes that can still be used: of the GPU, or of the machine and the control group that limits the process."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    known = [value for value in (_machine(), *map(group_room, _groups())) if value is not None]
    return min(known, default=None)


def group_room(folder: Path) -> int | None:
    """Return what a control group (version 2 or 1) leaves of its limit; None without one. Cached files count as free."""
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


def _groups() -> list[Path]:
    """Return the groups that this process is in, and those above them."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    inner = [line.split(":", 2) for line in lines]
    own = [_CGROUP / ("memory" if kind else "") / path.lstrip("/") for _, kind, path in inner if kind in ("", "memory")]
    return [folder for path in own for folder in (path, *path.parents) if folder.is_relative_to(_CGROUP)]


def _machine() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        pass
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        return None
