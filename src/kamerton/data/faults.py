"""Collecting faults: every fault is counted and handled by the policy, in bounded memory."""

from __future__ import annotations

import json
import re
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
FEW = 5  # faults that differ only in their rows are listed one by one
NAMED = 5  # rows that are named in a fault for many
_INDEX = re.compile(r"\[\d+\]")
_SEVERITY = {"warn": 0, "fix": 1, "drop": 2, "error": 3}


def _alike(faults: Sequence[Fault]) -> list[tuple[Fault, list[int]]]:
    """Return the first of all faults that differ only in their rows, with their number and then their rows."""
    groups: dict[object, tuple[Fault, list[int]]] = {}
    keys: list[tuple[object, Fault]] = []
    for number, fault in enumerate(faults):
        places = [_INDEX.sub("[]", text or "") for text in (fault.message, fault.fix, fault.column)]
        key: object = (fault.file, *places) if fault.row is not None else number
        keys.append((key, fault))
        rows = groups.setdefault(key, (fault, [0]))[1]
        rows[0] += 1
        rows += [fault.row] if fault.row is not None and fault.row not in rows[1:] else []
    result = []
    for key, fault in keys:
        first, rows = groups[key]
        if rows[0] <= FEW:
            result.append((fault, [1]))
        elif fault is first:
            result.append((fault, rows))
    return result


def _merged(fault: Fault, rows: Sequence[int], listed: str) -> Fault:
    """Return the fault that summarises `rows` (their number, then the rows)."""
    if rows[0] == 1:
        return fault
    first = ", ".join(map(str, rows[1 : 1 + NAMED]))
    message = f"{fault.message} ({rows[0]:,} times; the first in the rows {first})"
    return replace(fault, message=message, fix=fault.fix + listed)


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

        For a fault that summarises many rows, pass the action that was `done`; its fix is then used unchanged.
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
        """Return the first faults of each code, errors before warnings, then one that counts the rest of that code.

        Many faults that differ only in their rows are one, with their number and the first rows.
        """
        result = []
        for (severity, code), count in sorted(self.counts.items()):
            shown = errors if severity == "error" else warnings
            same_code = [fault for fault in self.kept if (fault.severity, fault.code) == (severity, code)]
            same_code.sort(key=lambda fault: (fault.file or "", fault.row or 0))
            listed = f"; all are listed in {self.listing}" if self.listing else ""
            alike = _alike(same_code)
            if len(alike) == 1 and count > len(same_code):  # the others are only in the listing
                alike = [(same_code[0], [count, *alike[0][1][1:]])]
            lines = [_merged(fault, rows, listed) for fault, rows in alike]
            result += lines[:shown]
            if len(lines) > shown or (len(alike) > 1 and count > len(same_code)):
                rest = count - sum(rows[0] for _, rows in alike[:shown])
                message = f"{rest:,} more faults of this kind ({count:,} in all)"
                first = same_code[0]
                result.append(Fault(code, message, first.fix + listed, file=first.file, severity=first.severity))
        return result

    def summary(self) -> list[dict[str, Any]]:
        """Return one warning for each code, with its count and first occurrence."""
        result = []
        for (severity, code), count in sorted(self.counts.items()):
            if severity == "warning":
                same_code = [fault for fault in self.kept if (fault.severity, fault.code) == (severity, code)]
                fault = min(same_code, key=lambda fault: (fault.file or "", fault.row or 0))
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
