"""Collecting faults: every one is counted, the first of each code are kept word for word."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from kamerton.errors import Fault, UserError

KEPT = 1000  # faults of one code kept in memory and in the report
SHOWN = 20  # faults of one code in the error a person reads


class FaultLog:
    """A list of faults that stays small however many there are."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()
        self.kept: list[Fault] = []

    def add(self, fault: Fault) -> None:
        key = (fault.severity, fault.code)
        self.counts[key] += 1
        if self.counts[key] <= KEPT:
            self.kept.append(fault)

    def extend(self, faults: Iterable[Fault]) -> None:
        for fault in faults:
            self.add(fault)

    @property
    def has_errors(self) -> bool:
        return any(severity == "error" for severity, _ in self.counts)

    def grouped(self, shown: int = SHOWN) -> list[Fault]:
        """The first `shown` faults of each code, then one that counts the rest of that code."""
        result = []
        for (severity, code), count in self.counts.items():
            of_code = [fault for fault in self.kept if (fault.severity, fault.code) == (severity, code)]
            result += of_code[:shown]
            if count > shown:
                message = f"{count - shown:,} more faults of this kind ({count:,} in all)"
                fault = of_code[0]
                result.append(Fault(code, message, fault.fix, file=fault.file, severity=fault.severity))
        return result

    def raise_errors(self) -> None:
        """Raises `UserError` with everything found if anything found is an error."""
        if self.has_errors:
            raise UserError(self.grouped())

    def report(self) -> dict[str, Any]:
        """Counts by code and the kept faults, as plain values."""
        counts = [{"severity": s, "code": c, "count": n} for (s, c), n in sorted(self.counts.items())]
        return {"counts": counts, "faults": [fault.as_dict() for fault in self.kept]}
