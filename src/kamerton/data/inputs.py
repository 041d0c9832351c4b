"""Everything a model is fed, from options to encoded splits: the data stage in one call, cached on disk."""

from __future__ import annotations

import shutil
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from kamerton.assets import cache_dir
from kamerton.data.options import DataOptions, SplitOptions
from kamerton.data.read.sources import local_data

if TYPE_CHECKING:
    from kamerton.data.encode.arrays import Encoded
    from kamerton.data.faults import FaultLog
    from kamerton.data.gate import Prepared


class ModelSource(Protocol):
    """Where a model's tokenizer and limits come from; the `model` section of a configuration is one."""

    @property
    def name(self) -> str: ...
    @property
    def revision(self) -> str | None: ...
    @property
    def trust_remote_code(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Inputs:
    """Prepared data, the tokenizer they are encoded with, and the encoded splits that are not empty."""

    prepared: Prepared
    tokenizer: Any
    encoded: dict[str, Encoded]


def load_inputs(data: DataOptions, split: SplitOptions, model: ModelSource, tokenizer: Any = None) -> Inputs:
    """Read, check, split and encode; what was done before with the same files and options is not done again.

    `tokenizer` is the model's, where it has been loaded before.

    Raises `DataError` (a `UserError`) with every fault of the files and rows or, if they have none, every fault of
    encoding them.
    """
    from kamerton.data.gate import prepare
    from kamerton.model.load import load_tokenizer

    cache = cache_dir() / "data"
    prepared = prepare(local_data(data), split, cache=cache)
    if tokenizer is None:
        tokenizer = load_tokenizer(model.name, revision=model.revision, trust_remote_code=model.trust_remote_code)
    prepared, encoded = encode_splits(prepared, tokenizer, data, model, cache)
    return Inputs(prepared, tokenizer, encoded)


def encode_splits(
    prepared: Prepared, tokenizer: Any, data: DataOptions, model: ModelSource, cache: Path
) -> tuple[Prepared, dict[str, Encoded]]:
    """The splits that are not empty, encoded; and `prepared` with what that found added to its report and lists.

    Raises `DataError` with every fault of that: rows longer than allowed or than the model has positions, tokens that
    the model has no embedding for.
    """
    from kamerton.data.encode.arrays import encode_within
    from kamerton.data.encode.limits import Limits
    from kamerton.data.faults import FaultLog
    from kamerton.data.gate import DataError
    from kamerton.data.read.rows import LOGS, digest, log_files
    from kamerton.model.limits import load_limits

    own = load_limits(model.name, revision=model.revision, trust_remote_code=model.trust_remote_code)
    asked = digest([getattr(tokenizer, "name_or_path", ""), data.max_length, data.overlong, data.control_tokens])
    folder = prepared.folder.with_name(f"{prepared.folder.name}-{asked}")
    with log_files(folder) as part:
        for name in LOGS:
            shutil.copyfile(prepared.folder / name, part / name)
        log = FaultLog(data.policy, part, folder / LOGS[0])
        limits = Limits(data.max_length, data.overlong, log, own)
        encoded = {
            name: encode_within(limits, examples, tokenizer, data.control_tokens, cache=cache, name=name)
            for name, examples in prepared.splits.items()
            if len(examples)
        }
        limits.report(tokenizer)
        log.flush()
    report = _with_encoding(prepared.report, encoded, log)
    if log.errors:
        raise DataError(log.grouped(), report, folder)
    return replace(prepared, report=report, folder=folder), encoded


def _with_encoding(report: dict[str, Any], encoded: dict[str, Encoded], log: FaultLog) -> dict[str, Any]:
    """The data report with what encoding found: its faults, the rows that are left, and their lengths in tokens."""
    import numpy as np

    from kamerton.data.check.outliers import length_summary

    found = log.outcome()
    counted = {key: dict(Counter(report[key]) + Counter(found[key])) for key in ("rejected", "fixed")}
    listed = {key: report[key] + found[key] for key in ("fault_counts", "warnings", "faults")}
    lengths = np.concatenate([part.lengths for part in encoded.values()])
    return {
        **report,
        **counted,
        **listed,
        "valid": not log.errors,
        "counts": report["counts"] | {name: len(part) for name, part in encoded.items()},
        "tokens": length_summary(lengths),
        "encoded": [part.report for part in encoded.values()],
    }
