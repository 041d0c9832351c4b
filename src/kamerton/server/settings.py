"""What a server is started with."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

MIB = 2**20


@dataclass(frozen=True, slots=True)
class Settings:
    """`root` is the folder of the run directories, absolute. `tokens` are pairs of tenant and token, several of a
    tenant if need be; none: no token is asked for, and everyone is the tenant `local`. `models` are the options of the
    group `model` that may be tuned and asked, `aliases` pairs of another name and one of these. `max_upload` is the
    size of a file in bytes; `max_running` how many jobs train at once on this machine (None: one for each GPU, or one).
    """

    root: Path
    tokens: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    models: tuple[str, ...] = ("smollm2",)
    aliases: tuple[tuple[str, str], ...] = ()
    max_upload: int = 512 * MIB
    max_running: int | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """What a request may call the base models."""
        return (*self.models, *dict(self.aliases))

    def base(self, name: str) -> str | None:
        """The base model that a request calls `name`; None for any other name."""
        return name if name in self.models else dict(self.aliases).get(name)
