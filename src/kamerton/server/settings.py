"""Settings of `kamerton serve`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

MIB = 2**20


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of a server.

    `root` is the absolute folder of the run directories. `tokens` are pairs of tenant and token, possibly several per
    tenant; without any, no token is required and every client is the tenant `local`. `models` are the options of the
    group `model` that may be fine-tuned and queried, `aliases` pairs of (alias, model). `runs` are finished runs of
    `kamerton train` that every tenant may query, by run id. `max_upload` is the largest file in bytes; `max_running`
    the number of jobs that train at once (None: one per GPU, or one without GPUs). `quantize` int8: models generate
    with weights of 8 bits.
    """

    root: Path
    tokens: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    models: tuple[str, ...] = ("smollm2",)
    aliases: tuple[tuple[str, str], ...] = ()
    runs: tuple[tuple[str, Path], ...] = ()
    max_upload: int = 512 * MIB
    max_running: int | None = None
    quantize: Literal["int8"] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Every name of a base model in requests."""
        return (*self.models, *dict(self.aliases))

    def base(self, name: str) -> str | None:
        """Return the base model with this name or alias; None for another name."""
        return name if name in self.models else dict(self.aliases).get(name)
