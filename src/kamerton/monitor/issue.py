"""The result of a detector: a problem of a run with evidence and advice."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Severity = Literal["info", "warn", "error"]


@dataclass(frozen=True, slots=True)
class Issue:
    """A problem of a run that a detector reports.

    Args:
        code: its stable name, such as `overfitting`.
        severity: `error` if further training is useless, `warn` if it is worse than it could be, or `info`.
        message: what is seen.
        step: the optimizer step at which it was seen.
        evidence: the numbers that show it.
        advice: what to do.

    Example:
        >>> from kamerton import Issue
        >>> issue = Issue("overfitting", "warn", "validation is worse than the best by 5 %", 40, {"best": 0.31})
        >>> issue.code, issue.step
        ('overfitting', 40)
    """

    code: str
    severity: Severity
    message: str
    step: int
    evidence: dict[str, float] = field(default_factory=dict)
    advice: str = ""
