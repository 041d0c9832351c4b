"""What a detector says: a problem of a run, the numbers that show it, and what to do."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Severity = Literal["info", "warn", "error"]


@dataclass(frozen=True, slots=True)
class Issue:
    """One problem. `error`: what follows is of no use; `warn`: the run goes on worse than it could.

    `step` is the optimizer step at which it was seen, `evidence` the numbers that show it.
    """

    code: str
    severity: Severity
    message: str
    step: int
    evidence: dict[str, float] = field(default_factory=dict)
    advice: str = ""
