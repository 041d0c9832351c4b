"""Faults: what is wrong with the user's input, where it is, and how to fix it.

Checks collect `Fault`s and raise one `UserError` with all of them; the command line prints the list
and exits with 2. Nothing else in the package prints or exits because of a user's mistake.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault of a file or of the configuration.

    `code` is stable and documented. `file` is a data or configuration file (or "command line"), `row` the
    1-based line at which the row begins (of a Parquet file its record), `column` a field or configuration key.
    """

    code: str
    message: str
    fix: str
    file: str | None = None
    row: int | None = None
    column: str | None = None
    severity: Severity = "error"

    @property
    def where(self) -> str:
        """`file:row:column` in one line, without the parts that are None."""
        where = ":".join(str(part) for part in (self.file, self.row, self.column) if part is not None)
        return where.replace("\n", "␊")

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        return f"{place}{self.message} [{self.code}]\n    fix: {self.fix}"

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


class FaultCollector:
    """Faults in the order in which they are found, each once; `report` is called with each new one.

    Faults whose code is in `ignored` are dropped.
    """

    def __init__(self, report: Callable[[Fault], None] | None = None, ignored: Collection[str] = ()) -> None:
        self.faults: list[Fault] = []
        self._seen: set[Fault] = set()
        self._report = report
        self._ignored = ignored

    def add(self, *faults: Fault) -> None:
        """Collect faults."""
        for fault in faults:
            if fault.code not in self._ignored and fault not in self._seen:
                self._seen.add(fault)
                self.faults.append(fault)
                if self._report is not None:
                    self._report(fault)

    @property
    def has_errors(self) -> bool:
        """Whether any fault so far is more than a warning."""
        return any(fault.severity == "error" for fault in self.faults)


class UserError(Exception):
    """The user's input or configuration cannot be used; `faults` has all its faults."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(str(fault) for fault in self.faults))


class RunFailed(Exception):  # noqa: N818 (names an event)
    """A run failed for a reason outside the program, such as a full disk; `fault` has the fix."""

    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        super().__init__(str(fault))


class Cancelled(Exception):  # noqa: N818 (names an event)
    """A run was cancelled on purpose and cannot be resumed; `fault` has the reason."""

    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        super().__init__(fault.message)


class Interrupted(Exception):  # noqa: N818 (a request, not an error)
    """The user or the system stopped the run; it is saved and can be resumed."""
