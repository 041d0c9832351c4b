"""Collecting faults: every fault is counted and handled by the policy, in bounded memory."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from kamerton.data.codes import CODES, action
from kamerton.errors import Fault, UserError

KEPT = 1000  # faults of one code kept in memory and in the report
FLUSHED = 1000  # lines written to a file at once
SHOWN = 20  # faults of one code in the error a person reads
_SEVERITY = {"warn": 0, "fix": 1, "drop": 2, "error": 3}


class FaultLog:
    """All faults of one data set, and the rows that were dropped or fixed because of them.

    With `folder`, every fault becomes a line of `faults.jsonl` there, and every dropped, fixed or truncated row a line
    of `rejects.jsonl`; `listing` is the final path of the former, for messages.
    """

    def __init__(
        self, policy: Mapping[str, str | None] | None = None, folder: Path | None = None, listing: Path | None = None
    ) -> None:
        self.policy = {code: chosen for code, chosen in (policy or {}).items() if chosen}
        self.folder = folder
        self.listing = listing
        self.counts: Counter[tuple[str, str]] = Counter()
        self.rejected: Counter[str] = Counter()  # rows dropped, by the code they were dropped for
        self.fixed: Counter[str] = Counter()
        self.kept: list[Fault] = []
        self._per_code: Counter[tuple[str, str]] = Counter()
        self._lines: dict[str, list[str]] = {}

    def action(self, code: str) -> str:
        return action(self.policy, code)

    def add(self, fault: Fault, done: str | None = None) -> str:
        """Record a fault with the severity its code's policy gives it; return the action.

        For a fault that stands for many rows, pass the action that was `done`; its fix is then used unchanged.
        """
        is_row_fault = done is None and fault.row is not None
        done = done or self.action(fault.code)
        message = fault.message + {"drop": "; the row is left out", "fix": "; fixed"}.get(done, "")
        fix = fault.fix
        if done == "error" and is_row_fault and "drop" in CODES[fault.code].actions:
            drop = f"data.policy.{fault.code}=drop"
            fix += "" if drop in fix else f" or, to leave such rows out, {drop}"
        self._record(replace(fault, message=message, fix=fix, severity="error" if done == "error" else "warning"))
        return done

    def warn(self, fault: Fault) -> None:
        """Record a fault as a warning, regardless of the policy."""
        self._record(replace(fault, severity="warning"))

    def _record(self, fault: Fault) -> None:
        key = (fault.severity, fault.code)
        self.counts[key] += 1
        if self._per_code[key] < KEPT:
            self._per_code[key] += 1
            self.kept.append(fault)
        self._write("faults.jsonl", fault.as_dict())

    def add_row(self, faults: Sequence[Fault], record: object = None) -> bool:
        """Record all faults of one row; return whether the row is kept, which its most severe fault decides."""
        worst, code = "warn", ""
        for fault in faults:
            done = self.add(fault)
            if _SEVERITY[done] > _SEVERITY[worst]:
                worst, code = done, fault.code
        if worst in ("drop", "error"):
            self.reject(faults[0].file, faults[0].row, code, record=record)
            return False
        if worst == "fix":
            fixed = [fault.code for fault in faults if self.action(fault.code) == "fix"]
            self.fixed.update(set(fixed))
            self._write_row(faults[0].file, faults[0].row, "fixed", fixed, record=record)
        return True

    def fix(self, file: str | None, row: int | None, code: str, **more: object) -> None:
        """Count and list a row that is kept with a correction."""
        self.fixed[code] += 1
        self._write_row(file, row, "fixed", [code], **more)

    def truncate(self, file: str | None, row: int | None, code: str, **more: object) -> None:
        """List a row that is kept in part."""
        self._write_row(file, row, "truncated", [code], **more)

    def reject(self, file: str | None, row: int | None, code: str, **more: object) -> None:
        """Count and list a row that is dropped."""
        self.rejected[code] += 1
        self._write_row(file, row, "dropped", [code], **more)

    def _write_row(self, file: str | None, row: int | None, done: str, codes: list[str], **more: object) -> None:
        self._write("rejects.jsonl", {"file": file, "row": row, "action": done, "codes": codes, **more})

    def _write(self, name: str, value: dict[str, Any]) -> None:
        if self.folder is not None:
            lines = self._lines.setdefault(name, [])
            lines.append(json.dumps(value, default=str) + "\n")
            if len(lines) >= FLUSHED:
                self.flush()

    def flush(self) -> None:
        """Write the buffered lines to their files."""
        for name, lines in self._lines.items():
            if self.folder is not None and lines:
                with open(self.folder / name, "a", encoding="ascii") as file:
                    file.writelines(lines)
                lines.clear()

    @property
    def errors(self) -> int:
        """The number of faults that are errors."""
        return sum(count for (severity, _), count in self.counts.items() if severity == "error")

    def grouped(self, errors: int = SHOWN, warnings: int = 5) -> list[Fault]:
        """Return the first faults of each code, errors before warnings, then one that counts the rest of that code."""
        result = []
        for (severity, code), count in sorted(self.counts.items()):
            shown = errors if severity == "error" else warnings
            same_code = [fault for fault in self.kept if (fault.severity, fault.code) == (severity, code)]
            same_code.sort(key=lambda fault: (fault.file or "", fault.row or 0))
            result += same_code[:shown]
            if count > shown:
                message = f"{count - shown:,} more faults of this kind ({count:,} in all)"
                fault = same_code[0]
                fix = f"{fault.fix}; all are listed in {self.listing}" if self.listing else fault.fix
                result.append(Fault(code, message, fix, file=fault.file, severity=fault.severity))
        return result

    def summary(self) -> list[dict[str, Any]]:
        """Return one warning for each code, with its count and first occurrence."""
        result = []
        for fault in self.grouped(1, 1):
            count = self.counts[fault.severity, fault.code]
            if fault.severity == "warning" and not fault.message.endswith(" in all)"):
                more = f" (and {count - 1:,} more)" if count > 1 else ""
                result.append(replace(fault, message=fault.message + more).as_dict() | {"count": count})
        return result

    def raise_errors(self) -> None:
        """Raise `UserError` with all recorded faults if one of them is an error."""
        self.flush()
        if self.errors:
            raise UserError(self.grouped())

    def state(self) -> dict[str, Any]:
        """Return everything recorded, as plain values; `restore` takes it back."""
        counts = [[severity, code, count] for (severity, code), count in sorted(self.counts.items())]
        kept = [fault.as_dict() for fault in self.kept]
        return {"counts": counts, "faults": kept, "rejected": dict(self.rejected), "fixed": dict(self.fixed)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Add the state of another log."""
        self.counts.update({(severity, code): count for severity, code, count in state["counts"]})
        self.rejected.update(state["rejected"])
        self.fixed.update(state["fixed"])
        self.kept += [Fault(**fault) for fault in state["faults"]]
