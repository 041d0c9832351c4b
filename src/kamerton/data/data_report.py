"""The data report as a value: what the stages found, in the order in which they add to it."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from kamerton.data.faults import FaultLog
from kamerton.data.options import SplitOptions
from kamerton.errors import Fault


@dataclass(slots=True)
class DataReport:
    """Counts, schemas, splits, labels, lengths and faults of a data set; complete as far as the stages came.

    Args:
        name: `data.name`.
        split: how the rows are split, and its `seed`.
        split_given: True if each file belongs to a split.
        balance: `data.balance`.
        valid: True if the data can be used.
        fingerprint: of which examples are in which split; empty before they are assigned.
        files: rows read by file.
        versions: the version of each file that was fetched from an address: its ETag, or the commit.
        form: settings that write the prompts from the columns (`kamerton.data.form`); empty for chats and plain text.
        notes: how each file was read: the delimiter, the encoding and the like.
        schemas: rows by schema, by source.
        unused: rows by field that the model is not shown.
        counts: rows by stage, then examples by split.
        lengths: quantiles and a histogram of the lengths in characters.
        leakage: leaked rows by pair of splits, by kind (`exact`, `near`).
        labels: sorted label names; None for free text.
        label_distribution: rows by label, by split; None for free text.
        relabelled: the label that replaces each other spelling of it.
        preferences: numbers of prompts, completions and pairs, or of desired completions and others; None without
            preferences.
        near_duplicates: `clusters`, `rows` and the `largest` clusters; None if near duplicates are not searched.
        folds: rows of each fold; empty without cross-validation.
        rejected: rows left out by fault code.
        fixed: rows corrected by fault code.
        fault_counts: `[severity, code, count]`.
        warnings: one warning for each code, with its `count`.
        faults: the first faults of each code.
        label_weights: weights of the labels in the loss; None without `data.balance=weights`.
        tokens: quantiles and a histogram of the lengths in tokens; None before encoding.
        encoded: rows and tokens of each encoded split.
    """

    name: str
    split: SplitOptions
    split_given: bool
    balance: str
    valid: bool = False
    fingerprint: str = ""
    files: dict[str, int] = field(default_factory=dict)
    notes: dict[str, list[str]] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    form: dict[str, Any] = field(default_factory=dict)
    schemas: dict[str, dict[str, int]] = field(default_factory=dict)
    unused: dict[str, int] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=lambda: {"rows read": 0})
    lengths: dict[str, object] = field(default_factory=dict)
    leakage: dict[str, dict[str, int]] = field(default_factory=dict)
    labels: list[str] | None = None
    label_distribution: dict[str, dict[str, int]] | None = None
    relabelled: dict[str, str] = field(default_factory=dict)
    near_duplicates: dict[str, Any] | None = None
    preferences: dict[str, int] | None = None
    folds: list[int] = field(default_factory=list)
    rejected: dict[str, int] = field(default_factory=dict)
    fixed: dict[str, int] = field(default_factory=dict)
    fault_counts: list[list[Any]] = field(default_factory=list)
    warnings: list[dict[str, Any]] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    label_weights: dict[str, float] | None = None
    tokens: dict[str, object] | None = None
    encoded: list[dict[str, Any]] = field(default_factory=list)

    def with_faults(self, log: FaultLog) -> DataReport:
        """Return the report with the faults of `log` added to its own."""
        return replace(
            self,
            rejected=dict(Counter(self.rejected) + log.rejected),
            fixed=dict(Counter(self.fixed) + log.fixed),
            fault_counts=self.fault_counts + log.state()["counts"],
            warnings=self.warnings + log.summary(),
            faults=self.faults + log.grouped(5),
        )

    def to_json(self) -> dict[str, Any]:
        """Return the plain values of data_report.json; entries of stages that did not run are omitted."""
        optional = {
            "versions": self.versions,
            "relabelled": self.relabelled,
            "near_duplicates": self.near_duplicates,
            "preferences": self.preferences,
            "folds": self.folds,
        }
        encoding = {} if self.tokens is None else {"tokens": self.tokens, "encoded": self.encoded}
        return {
            "name": self.name,
            "valid": self.valid,
            "fingerprint": self.fingerprint,
            "files": self.files,
            "notes": self.notes,
            "form": self.form,
            "schemas": self.schemas,
            "unused": self.unused,
            "counts": self.counts,
            "lengths": self.lengths,
            "leakage": self.leakage,
            "labels": self.labels,
            "label_distribution": self.label_distribution,
            "seed": self.split.seed,
            "split": asdict(self.split),
            "split_given": self.split_given,
            "balance": self.balance,
            **{key: value for key, value in optional.items() if value},
            "rejected": self.rejected,
            "fixed": self.fixed,
            "fault_counts": self.fault_counts,
            "warnings": self.warnings,
            "faults": [fault.as_dict() for fault in self.faults],
            **({"label_weights": self.label_weights} if self.fingerprint else {}),
            **encoding,
        }
