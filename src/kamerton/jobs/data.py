"""Turn data given in Python (paths, rows, examples) into files that a job can read, and check them.

Rows are stored as `<root>/.data/<digest of their content>/rows.jsonl`, because a job may be resumed long after its
caller has exited; equal rows are read and encoded once.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kamerton.assets import cache_dir
from kamerton.data.example import DataExample, Message, chat_messages
from kamerton.data.gate import prepare
from kamerton.data.option_checks import check_data_options, check_split_options
from kamerton.data.options import DataOptions, SplitOptions
from kamerton.data.read.files.arrow import without_nan
from kamerton.data.read.sources import local_data
from kamerton.data.store import Examples
from kamerton.data.validation import ValidationResult, validate
from kamerton.errors import Fault, UserError
from kamerton.files import replacing

Rows = Iterable[DataExample | Mapping[str, Any]]
Raw = DataOptions | str | Path | Rows


@dataclass(frozen=True, slots=True)
class DataParts:
    """Checked examples by split; can be unpacked: `train, validation, test = parts`.

    Args:
        train, validation, test: the examples.
        data, split: the options from which a job makes the same parts.

    Example:
        >>> import asyncio
        >>> from kamerton import FineTuningManager
        >>> processed = asyncio.run(FineTuningManager().prepare_data("questions.jsonl"))
        >>> train, validation, test = processed.split([0.8, 0.1, 0.1], stratify="label")
        >>> len(train), len(validation), len(test)
        (96, 12, 12)
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
    """Data that passed the gate.

    Args:
        data: their options.
        validation: the faults.

    Example:
        >>> import asyncio
        >>> from kamerton import FineTuningManager
        >>> rows = [{"prompt": f"{number} + 1 =", "completion": str(number + 1)} for number in range(200)]
        >>> processed = asyncio.run(FineTuningManager().prepare_data(rows))
        >>> processed.validation.is_valid
        True
    """

    data: DataOptions
    validation: ValidationResult

    def split(self, ratios: Sequence[float] | None = None, *, seed: int = 42, stratify: str | None = None) -> DataParts:
        """Split into train, validation and test parts without leakage between them.

        An example's part depends on its contents and the seed alone. Data in several files (`data.train`, …) keep their
        parts.

        Args:
            ratios: the shares; by default 0.7, 0.15, 0.15.
            seed: seed of the split.
            stratify: `label` or a metadata field: every part gets the same shares of its values.

        Raises:
            UserError: with every fault of the data or the ratios.
        """
        options = SplitOptions(SplitOptions().ratios if ratios is None else list(ratios), seed=seed, stratify=stratify)
        if faults := [*check_data_options(self.data), *check_split_options(options)]:
            raise UserError(faults)
        prepared = prepare(local_data(self.data), options, cache=_cache())
        parts: dict[str, Examples] = prepared.splits
        train, validation, test = (parts.get(name, ()) for name in ("train", "validation", "test"))
        return DataParts(train, validation, test, self.data, options)


def process(raw: Raw, root: Path, rows: str | None = None) -> ProcessedData:
    """Read and check data: files, rows (prompt and completion, or any schema of files), or examples.

    `rows` is `data.rows`. Faults of the rows are not raised, but listed in `ProcessedData.validation`.
    """
    options = data_options(raw, root, rows)
    faults = check_data_options(options)  # before a possible download
    result = ValidationResult(faults, [], {}) if faults else validate(local_data(options), cache=_cache())
    return ProcessedData(options, result)


def data_options(raw: Raw, root: Path, rows: str | None = None) -> DataOptions:
    """Return the options of data given as options, as a path, or as rows.

    Rows are written to a file below `root`. Without `rows`, examples with scores are preferences, without alternatives
    judgements. Raises `UserError` for a row that cannot be written as JSON.
    """
    if isinstance(raw, DataOptions):
        return raw if rows is None else replace(raw, rows=rows)
    if isinstance(raw, str | Path):
        path = Path(raw).expanduser()
        name = re.sub(r"[^A-Za-z0-9]+", "-", path.name.partition(".")[0]).strip("-")[:60] or "data"
        return DataOptions(name=name, path=str(path.absolute()), rows=rows or "completions")
    given = list(raw)
    scored = [row for row in given if isinstance(row, DataExample) and row.score is not None]
    kind = "judgements" if not any(row.alternatives for row in scored) else "preferences"
    return DataOptions(path=str(_write_rows(given, root)), rows=rows or (kind if scored else "completions"))


def _cache() -> Path:
    return cache_dir() / "data"


def _write_rows(rows: Rows, root: Path) -> Path:
    """Write rows to a file named by their content, unless it exists; return its path."""
    lines = [_to_json(row, number) for number, row in enumerate(rows, start=1)]
    text = "".join(f"{line}\n" for line in lines).encode()
    file = root / ".data" / hashlib.blake2b(text, digest_size=8).hexdigest() / "rows.jsonl"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file) as partial:
            partial.write_bytes(text)
    return file


def _to_json(row: object, number: int) -> str:
    """Return a row as JSON. Raises `UserError` if it is neither a mapping nor an example, or not serializable."""
    if isinstance(row, DataExample):
        fields = _fields(row) if row.score is None else _preference_fields(row)
        tools = {"tools": json.loads(row.tools)} if row.tools else {}
        row = {**fields, **tools, **({"metadata": dict(row.metadata)} if row.metadata else {})}
    try:
        if isinstance(row, Mapping):
            return json.dumps(without_nan(dict(row)), ensure_ascii=False)
        reason = f"a {type(row).__name__} is not a row"
    except (TypeError, ValueError) as error:
        reason = str(error)
    fix = "give mappings of texts and numbers, such as {'prompt': …, 'completion': …}, or DataExamples"
    raise UserError([Fault("bad-row", f"row {number} cannot be used: {reason}", fix, row=number)])


def _fields(example: DataExample) -> dict[str, Any]:
    """Return the prompt and the completion of an example, as turns if texts do not contain all of it."""
    plain = DataExample(example.prompt, example.completion, example.metadata)
    if isinstance(example.prompt, str) and example == plain:
        return {"prompt": example.prompt, "completion": example.completion}
    return {"messages": _turns(example.messages)}


def _preference_fields(example: DataExample) -> dict[str, Any]:
    """Return the prompt and the completions of an example with scores. Reasoning and calls need a pair."""
    before = example.messages[:-1]
    sides = [example.messages[-1]]
    sides += [
        Message("assistant", each.completion, example.weight, each.reasoning, each.tool_calls)
        for each in example.alternatives
    ]
    scores = [float(example.score or 0.0), *(each.score for each in example.alternatives)]
    is_text = not any(side.reasoning or side.tool_calls for side in sides) and example.weight == 1
    values: list[Any] = [side.content if is_text else _turns([side]) for side in sides]
    prompt = {"prompt": example.prompt if isinstance(example.prompt, str) else _turns(before)}
    if len(sides) == 1:
        judged = {"messages": [*_turns(before), *_turns(sides)]} if not is_text else {**prompt, "completion": values[0]}
        return {**judged, "label": scores[0] > 0}
    if scores == [1.0, 0.0]:
        return {**prompt, "chosen": values[0], "rejected": values[1]}
    return {**prompt, "completions": values, "scores": scores}


def _turns(turns: Sequence[Message]) -> list[dict[str, Any]]:
    """Return turns in OpenAI's format, with weights and reasoning."""
    return [
        {**message, "weight": turn.weight, **({"reasoning_content": turn.reasoning} if turn.reasoning else {})}
        for turn, message in zip(turns, chat_messages(turns), strict=True)
    ]
