"""From whatever data are at hand in Python to files that a job can read, through the data gate.

Rows are kept as `<root>/.data/<digest of their content>/rows.jsonl`: a job may be resumed long after its caller ended,
and the same rows are read and encoded once.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kamerton.assets import cache_dir
from kamerton.data.example import DataExample
from kamerton.data.gate import prepare
from kamerton.data.options import FORMATS, DataOptions, SplitOptions, check_data_options, check_split_options
from kamerton.data.read.records import without_nan
from kamerton.data.read.sources import local_data
from kamerton.data.store import Examples
from kamerton.data.validation import ValidationResult, validate
from kamerton.errors import Fault, UserError
from kamerton.files import replacing

Rows = Iterable[DataExample | Mapping[str, Any]]
Raw = DataOptions | str | Path | Rows


@dataclass(frozen=True, slots=True)
class DataParts:
    """Checked examples by split, which can be unpacked: `train, validation, test = parts`.

    `data` and `split` are how a job comes to the same ones.
    """

    train: Sequence[DataExample]
    validation: Sequence[DataExample]
    test: Sequence[DataExample]
    data: DataOptions
    split: SplitOptions

    def __iter__(self) -> Iterator[Sequence[DataExample]]:
        return iter((self.train, self.validation, self.test))


@dataclass(frozen=True, slots=True)
class ProcessedData:
    """Data that went through the gate; `validation` says what it found. Examples come of `split`."""

    data: DataOptions
    validation: ValidationResult

    def split(self, ratios: Sequence[float] | None = None, *, seed: int = 42, stratify: str | None = None) -> DataParts:
        """Train, validation and test parts in these ratios (0.7, 0.15, 0.15), without leaks between them.

        An example's part depends on its content and the seed alone. Data that come in several files (`data.train`, …)
        keep their parts. `stratify` (`label`, or a metadata field) gives every part the same shares. Raises `UserError`
        with everything that is wrong with the data or the ratios.
        """
        shares = list(ratios) if ratios is not None else SplitOptions().ratios
        options = SplitOptions(shares, seed=seed, stratify=stratify)
        if faults := [*check_data_options(self.data), *check_split_options(options)]:
            raise UserError(faults)
        prepared = prepare(local_data(self.data), options, cache=_cache())
        parts: dict[str, Examples] = prepared.splits
        train, validation, test = (parts.get(name, ()) for name in ("train", "validation", "test"))
        return DataParts(train, validation, test, self.data, options)


def process(raw: Raw, root: Path) -> ProcessedData:
    """Read and check data: files, rows (prompt and completion, or any schema of files), or examples.

    Faults of the rows are not raised: `ProcessedData.validation` has all of them.
    """
    options = data_options(raw, root)
    faults = check_data_options(options)  # before a download
    found = ValidationResult(faults, [], {}) if faults else validate(local_data(options), cache=_cache())
    return ProcessedData(options, found)


def data_options(raw: Raw, root: Path) -> DataOptions:
    """The options of data as they are given: options, a path, or rows, which are written below `root`."""
    if isinstance(raw, DataOptions):
        return raw
    if isinstance(raw, str | Path):
        return _of_files(raw)
    return DataOptions(path=str(_written(raw, root)))


def _cache() -> Path:
    return cache_dir() / "data"


def _of_files(path: str | Path) -> DataOptions:
    """The options of a file, folder or pattern; its ending says its format."""
    place = Path(path).expanduser()
    ending = place.suffixes[0].lstrip(".").lower() if place.suffixes else "jsonl"
    name = re.sub(r"[^A-Za-z0-9]+", "-", place.name.partition(".")[0]).strip("-")[:60] or "data"
    return DataOptions(name=name, format=ending if ending in FORMATS else "jsonl", path=str(place.absolute()))


def _written(rows: Rows, root: Path) -> Path:
    """The file of rows that are in memory."""
    lines = [_line(row, number) for number, row in enumerate(rows, start=1)]
    text = "".join(f"{line}\n" for line in lines).encode()
    file = root / ".data" / hashlib.blake2b(text, digest_size=8).hexdigest() / "rows.jsonl"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file) as partial:
            partial.write_bytes(text)
    return file


def _line(row: object, number: int) -> str:
    """A row as JSON; raises `UserError` for what is neither a row nor an example."""
    if isinstance(row, DataExample):
        row = _fields(row)
    try:
        if isinstance(row, Mapping):
            return json.dumps(without_nan(dict(row)), ensure_ascii=False)
        reason = f"a {type(row).__name__} is no row"
    except (TypeError, ValueError) as error:
        reason = str(error)
    fix = "give mappings of texts and numbers, such as {'prompt': …, 'completion': …}, or DataExamples"
    raise UserError([Fault("bad-row", f"row {number} cannot be used: {reason}", fix, row=number)])


def _fields(example: DataExample) -> dict[str, Any]:
    metadata = {"metadata": dict(example.metadata)} if example.metadata else {}
    if isinstance(example.prompt, str):
        return {"prompt": example.prompt, "completion": example.completion, **metadata}
    turns = [{"role": turn.role, "content": turn.content, "weight": turn.weight} for turn in example.messages]
    return {"messages": turns, **metadata}
