"""The processes of one run: the rank of this one, and how they agree on the run directory.

On one machine, Lightning starts the other ranks itself (`trainer.devices=2`). torchrun and SLURM start all of them at
once, on any number of machines; then rank 0 opens the run directory and broadcasts its path through the store that
torch.distributed also uses for its rendezvous.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from itertools import count
from typing import Any, Literal, TypeVar

Value = TypeVar("Value")

RUN_DIR = "KAMERTON_RUN_DIR"  # set by rank 0 for the processes that Lightning starts

_runs = count()


@dataclass(frozen=True, slots=True)
class RankInfo:
    """The rank of this process; each of the `nodes` has `devices` processes."""

    rank: int = 0
    devices: int = 1
    nodes: int = 1
    launcher: Literal["torchrun", "slurm"] | None = None

    @property
    def world_size(self) -> int:
        """Return the number of processes that a launcher started."""
        return self.devices * self.nodes


def rank_info(environment: Mapping[str, str] = os.environ) -> RankInfo:
    """Return the rank in the launcher's variables; torchrun's take precedence over SLURM's, as in Lightning."""
    if "TORCHELASTIC_RUN_ID" in environment:
        world, devices = int(environment["WORLD_SIZE"]), int(environment["LOCAL_WORLD_SIZE"])
        return RankInfo(int(environment["RANK"]), devices, world // devices, "torchrun")
    if "SLURM_NTASKS" in environment and environment.get("SLURM_JOB_NAME") not in ("bash", "interactive"):
        tasks, nodes = int(environment["SLURM_NTASKS"]), int(environment.get("SLURM_NNODES", "1"))
        return RankInfo(int(environment.get("SLURM_PROCID", "0")), tasks // nodes, nodes, "slurm")
    return RankInfo(int(environment.get("LOCAL_RANK", "0")) if RUN_DIR in environment else 0)


def broadcast(text: str) -> None:
    """Send `text` from rank 0 to the others, which receive texts in the same order."""
    _store().set(f"kamerton/{next(_runs)}", text)


def receive() -> str:
    """Return the next text that rank 0 broadcasts; wait at most 30 minutes (torch's default)."""
    return bytes(_store().get(f"kamerton/{next(_runs)}")).decode()


def exchange(value: Value) -> list[Value]:
    """Return the values of all ranks of torch's process group, in order; all ranks must call this."""
    from torch import distributed

    if not (distributed.is_available() and distributed.is_initialized()):
        return [value]
    values: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(values, value)
    return values


def leave_group() -> None:
    """Leave the process group that Lightning started for a run, so that the next run starts its own."""
    from torch import distributed

    if rank_info().launcher is None and distributed.is_available() and distributed.is_initialized():
        gc.collect()  # DDP holds the weights and is in a reference cycle with the trainer
        distributed.destroy_process_group()
        for name in ("LOCAL_RANK", "WORLD_SIZE"):  # Lightning would attribute them to a launcher
            os.environ.pop(name, None)


@cache
def _store() -> Any:
    """Return the store, kept until the process exits because rank 0 may serve the others."""
    from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
    from torch.distributed.rendezvous import rendezvous

    here = rank_info()
    if here.launcher == "slurm":
        slurm = SLURMEnvironment()
        _ = slurm.main_address, slurm.main_port  # sets MASTER_ADDR and MASTER_PORT if they are unset
    store, _, _ = next(rendezvous("env://", here.rank, here.world_size))
    return store
