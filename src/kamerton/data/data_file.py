"""A file to read, and the settings that choose and read it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from kamerton.data.form import Form
from kamerton.data.options import Columns, DataOptions, Source
from kamerton.output import printable_name


@dataclass(frozen=True, slots=True)
class Subset:
    """The configuration of a data set of the hub (None: the only or default one) and its splits (empty: all)."""

    config: str | None = None
    splits: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DataFile:
    """One file to read. `split` is None if its rows are to be split; files of the same `source` share a schema.

    `member` is the name of the file within the archive `path`; `companion` has the completions of a file of prompts.
    `path` is the local copy of a file with an `address`, of this `version` there.
    """

    path: Path
    split: str | None
    source: str
    format: str
    encoding: str
    columns: Columns
    delimiter: str | None = None
    header: str | list[str] | None = None
    member: str = ""
    form: Form = field(default_factory=Form)
    records: str | None = None
    companion: Path | None = None
    address: str = ""
    version: str = ""
    companion_version: str = ""

    @property
    def lines_above(self) -> int:
        """The number of lines above the header of a table."""
        return int(self.header) - 1 if isinstance(self.header, str) and self.header.isdecimal() else 0

    @property
    def shown(self) -> str:
        """The path or address in faults and reports."""
        return self.address or str(self.path)

    @property
    def name(self) -> str:
        """The file's name in faults and reports; an archive may name its files in several lines."""
        return f"{self.shown}/{printable_name(self.member)}" if self.member else self.shown


def subset_of(options: DataOptions) -> Subset:
    """Return the configuration and the splits that `options` choose."""
    splits = [options.split] if isinstance(options.split, str) else options.split or []
    return Subset(options.config, tuple(splits))


def form_of(options: DataOptions | Source) -> Form:
    """Return the settings of `options` that write prompt and completion."""
    return Form(options.prompt, options.completion, options.system, options.instruction, options.label_names)
