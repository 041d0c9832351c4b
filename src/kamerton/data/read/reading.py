"""The results of a pass over the files beside the rows, and the report of what the model is not shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kamerton.data.faults import FaultLog
from kamerton.data.read.columns import unused
from kamerton.data.read.columns.unused import Unused


@dataclass
class Reading:
    """Results of a pass over the files: rows per file, and the schemas as (source, schema) in order of appearance.

    `unused` has the statistics of each field that the model is not shown; `text` is the column of plain text; `notes`
    describe how each file was read, as far as its name does not determine it; `forms` has for each schema the settings
    that write its prompts.
    """

    rows: dict[str, int] = field(default_factory=dict)
    schemas: list[tuple[str, str]] = field(default_factory=list)
    unused: dict[str, Unused] = field(default_factory=dict)
    text: str = ""
    notes: dict[str, list[str]] = field(default_factory=dict)
    forms: dict[str, dict[str, Any]] = field(default_factory=dict)

    def schema_number(self, source: str, schema: str) -> int:
        if (source, schema) not in self.schemas:
            self.schemas.append((source, schema))
        return self.schemas.index((source, schema))


def report_unused(reading: Reading, used: Sequence[str | None], log: FaultLog) -> None:
    """Report the fields that the model is not shown; `used` are metadata fields that the configuration names."""
    total = sum(reading.rows.values())
    prompt = next((form["prompt"] for form in reading.forms.values() if form), "")
    for fault, is_misleading in unused.unused_faults(reading.unused, used, reading.text, prompt, total):
        action = log.action(fault.code).replace("drop", "warn")
        log.add(fault, misleading_action(log.policy) if is_misleading else action)


def misleading_action(policy: Mapping[str, str | None]) -> str:
    """Return the action for rows whose meaning changes without their unused fields."""
    return policy.get(unused.CODE) or "error"
