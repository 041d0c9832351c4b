"""Collecting faults: all are counted and answered as the policy says, and memory stays small however many there are."""

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
_WEIGHT = {"warn": 0, "fix": 1, "drop": 2, "error": 3}


class FaultLog:
    """All faults of one data set, and the rows that were dropped or mended because of them.

    With `folder`, every fault is a line of `faults.jsonl` there and every row dropped, mended or cut one of
    `rejects.jsonl`; `listing` is where a person will find the former in the end.
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
        """Records a fault with the severity its code's policy gives it; returns the action.

        A fault that stands for many rows comes with what was `done`, and with a fix that says all there is to say.
        """
        of_row = done is None and fault.row is not None
        done = done or self.action(fault.code)
        message = fault.message + {"drop": "; the row is left out", "fix": "; mended"}.get(done, "")
        fix = fault.fix
        if done == "error" and of_row and "drop" in CODES[fault.code].actions:
            drop = f"data.policy.{fault.code}=drop"
            fix += "" if drop in fix else f" or, to leave such rows out, {drop}"
        self._record(replace(fault, message=message, fix=fix, severity="error" if done == "error" else "warning"))
        return done

    def warn(self, fault: Fault) -> None:
        """Records a fault that stops nothing, whatever the policy."""
        self._record(replace(fault, severity="warning"))

    def _record(self, fault: Fault) -> None:
        key = (fault.severity, fault.code)
        self.counts[key] += 1
        if self._per_code[key] < KEPT:
            self._per_code[key] += 1
            self.kept.append(fault)
        self._write("faults.jsonl", fault.as_dict())

    def row(self, faults: Sequence[Fault], record: object = None) -> bool:
        """Records all faults of one row; True if the row stays. Its worst fault decides what becomes of it."""
        worst, code = "warn", ""
        for fault in faults:
            done = self.add(fault)
            if _WEIGHT[done] > _WEIGHT[worst]:
                worst, code = done, fault.code
        if worst in ("drop", "error"):
            self.reject(faults[0].file, faults[0].row, code, record=record)
            return False
        if worst == "fix":
            fixed = [fault.code for fault in faults if self.action(fault.code) == "fix"]
            self.fixed.update(set(fixed))
            self._write_row(faults[0].file, faults[0].row, "fixed", fixed, record=record)
        return True

    def mend(self, file: str | None, row: int | None, code: str, **more: object) -> None:
        """Counts a row that goes on mended, and writes down why."""
        self.fixed[code] += 1
        self._write_row(file, row, "fixed", [code], **more)

    def truncate(self, file: str | None, row: int | None, code: str, **more: object) -> None:
        """Writes down a row of which only a part goes on."""
        self._write_row(file, row, "truncated", [code], **more)

    def reject(self, file: str | None, row: int | None, code: str, **more: object) -> None:
        """Counts a row that goes no further, and writes down why."""
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
        """Writes the lines that wait to their files."""
        for name, lines in self._lines.items():
            if self.folder is not None and lines:
                with open(self.folder / name, "a", encoding="ascii") as file:
                    file.writelines(lines)
                lines.clear()

    @property
    def errors(self) -> int:
        """How many faults are errors."""
        return sum(count for (severity, _), count in self.counts.items() if severity == "error")

    def grouped(self, errors: int = SHOWN, warnings: int = 5) -> list[Fault]:
        """The first faults of each code, errors before warnings, then one that counts the rest of that code."""
        result = []
        for (severity, code), count in sorted(self.counts.items()):
            shown = errors if severity == "error" else warnings
            of_code = [fault for fault in self.kept if (fault.severity, fault.code) == (severity, code)]
            of_code.sort(key=lambda fault: (fault.file or "", fault.row or 0))
            result += of_code[:shown]
            if count > shown:
                message = f"{count - shown:,} more faults of this kind ({count:,} in all)"
                fault = of_code[0]
                fix = f"{fault.fix}; all are listed in {self.listing}" if self.listing else fault.fix
                result.append(Fault(code, message, fix, file=fault.file, severity=fault.severity))
        return result

    def summary(self) -> list[dict[str, Any]]:
        """One warning for each code: how often it occurred, and where first."""
        result = []
        for fault in self.grouped(1, 1):
            count = self.counts[fault.severity, fault.code]
            if fault.severity == "warning" and not fault.message.endswith(" in all)"):
                more = f" (and {count - 1:,} more)" if count > 1 else ""
                result.append(replace(fault, message=fault.message + more).as_dict() | {"count": count})
        return result

    def raise_errors(self) -> None:
        """Raises `UserError` with everything found if anything found is an error."""
        self.flush()
        if self.errors:
            raise UserError(self.grouped())

    def outcome(self) -> dict[str, Any]:
        """What a report says of it all: `warnings` has one entry for each code, `faults` up to six."""
        return {
            "rejected": dict(self.rejected),
            "fixed": dict(self.fixed),
            "fault_counts": self.state()["counts"],
            "warnings": self.summary(),
            "faults": [fault.as_dict() for fault in self.grouped(5)],
        }

    def state(self) -> dict[str, Any]:
        """Everything recorded, as plain values; `restore` takes it back."""
        counts = [[severity, code, count] for (severity, code), count in sorted(self.counts.items())]
        kept = [fault.as_dict() for fault in self.kept]
        return {"counts": counts, "faults": kept, "rejected": dict(self.rejected), "fixed": dict(self.fixed)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Adds what another log recorded."""
        self.counts.update({(severity, code): count for severity, code, count in state["counts"]})
        self.rejected.update(state["rejected"])
        self.fixed.update(state["fixed"])
        self.kept += [Fault(**fault) for fault in state["faults"]]
