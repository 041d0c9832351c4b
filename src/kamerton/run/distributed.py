"""The processes that do one run together: which one this is, and how they agree on its directory.

Lightning starts the others of one machine itself (`trainer.devices=2`). torchrun and SLURM start all of them at once,
on any number of machines; then rank 0 opens the run directory and tells the others where it is, through the store that
torch.distributed meets in as well.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from itertools import count
from typing import Any, Literal

RUN_DIR = "KAMERTON_RUN_DIR"  # where rank 0 tells the processes that Lightning starts for it

_runs = count()


@dataclass(frozen=True, slots=True)
class RankInfo:
    """This process among those of the run; `devices` is how many of them each of the `nodes` has."""

    rank: int = 0
    devices: int = 1
    nodes: int = 1
    launcher: Literal["torchrun", "slurm"] | None = None

    @property
    def world_size(self) -> int:
        """How many processes a launcher started."""
        return self.devices * self.nodes


def rank_info(environment: Mapping[str, str] = os.environ) -> RankInfo:
    """Where the launcher's variables put this process; inside SLURM, torchrun's go first, as in Lightning."""
    if "TORCHELASTIC_RUN_ID" in environment:
        world, devices = int(environment["WORLD_SIZE"]), int(environment["LOCAL_WORLD_SIZE"])
        return RankInfo(int(environment["RANK"]), devices, world // devices, "torchrun")
    if "SLURM_NTASKS" in environment and environment.get("SLURM_JOB_NAME") not in ("bash", "interactive"):
        tasks, nodes = int(environment["SLURM_NTASKS"]), int(environment.get("SLURM_NNODES", "1"))
        return RankInfo(int(environment.get("SLURM_PROCID", "0")), tasks // nodes, nodes, "slurm")
    return RankInfo(int(environment.get("LOCAL_RANK", "0")) if RUN_DIR in environment else 0)


def broadcast(text: str) -> None:
    """Rank 0: say `text` to the others; they read it in the same order."""
    _store().set(f"kamerton/{next(_runs)}", text)


def receive() -> str:
    """Any other rank: what rank 0 says next; waits for it, for 30 minutes at most (torch's default)."""
    return bytes(_store().get(f"kamerton/{next(_runs)}")).decode()


def leave_group() -> None:
    """After a run over processes that Lightning started: leave their group, so that the next run starts its own."""
    from torch import distributed

    if rank_info().launcher is None and distributed.is_available() and distributed.is_initialized():
        gc.collect()  # DDP holds the weights, and refers to the trainer that refers to it
        distributed.destroy_process_group()
        for name in ("LOCAL_RANK", "WORLD_SIZE"):  # Lightning takes them for a launcher's
            os.environ.pop(name, None)


@cache
def _store() -> Any:
    """Kept as long as the process: rank 0 may serve the others."""
    from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
    from torch.distributed.rendezvous import rendezvous

    here = rank_info()
    if here.launcher == "slurm":
        slurm = SLURMEnvironment()
        _ = slurm.main_address, slurm.main_port  # sets MASTER_ADDR and MASTER_PORT where they are not
    store, _, _ = next(rendezvous("env://", here.rank, here.world_size))
    return store
