"""The data stage in one call: from options to encoded splits, cached on disk."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from kamerton.assets import cache_dir
from kamerton.data.options import DataOptions, SplitOptions
from kamerton.data.read.sources import local_data

if TYPE_CHECKING:
    from kamerton.data.encode.arrays import Encoded
    from kamerton.data.encode.targets import Targets
    from kamerton.data.gate import Prepared


class ModelSource(Protocol):
    """The source of a model's tokenizer and limits; the `model` section of a configuration implements it."""

    @property
    def name(self) -> str: ...
    @property
    def revision(self) -> str | None: ...
    @property
    def trust_remote_code(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Inputs:
    """Prepared data, the tokenizer, and the encoded splits (empty splits are omitted)."""

    prepared: Prepared
    tokenizer: Any
    encoded: dict[str, Encoded]


def load_inputs(data: DataOptions, split: SplitOptions, model: ModelSource, tokenizer: Any = None) -> Inputs:
    """Read, check, split and encode; results for the same files and options are reused from the cache.

    `tokenizer` is the model's; None loads it.

    Raises `DataError` (a `UserError`) with all faults of the files and rows or, if they have none, all faults of
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
    """Encode the non-empty splits; return `prepared` with the results added to its report, and the encoded splits.

    Raises `DataError` with all faults of encoding: rows longer than allowed or than the model has positions, tokens
    without an embedding in the model.
    """
    import numpy as np

    from kamerton.data.check.outliers import length_summary
    from kamerton.data.check.preferences import count_preferences
    from kamerton.data.encode.arrays import encode_within
    from kamerton.data.encode.limits import Limits
    from kamerton.data.encode.tokenize import StretchTokenizer
    from kamerton.data.faults import FaultLog
    from kamerton.data.gate import DataError
    from kamerton.data.read.rows import LOGS, digest, log_files
    from kamerton.model.limits import load_limits

    model_limits = load_limits(model.name, revision=model.revision, trust_remote_code=model.trust_remote_code)
    targets = targets_of(data)
    key = digest([getattr(tokenizer, "name_or_path", ""), data.max_length, data.overlong, data.control_tokens, targets])
    folder = prepared.folder.with_name(f"{prepared.folder.name}-{key}")
    with log_files(folder) as part:
        for name in LOGS:
            shutil.copyfile(prepared.folder / name, part / name)
        log = FaultLog(data.policy, part, folder / LOGS[0])
        limits = Limits(data.max_length, data.overlong, log, model_limits)
        stretches = StretchTokenizer(tokenizer, data.control_tokens, targets)
        encoded = {
            name: encode_within(limits, examples, stretches, cache=cache, name=name)
            for name, examples in prepared.splits.items()
            if len(examples)
        }
        limits.report(tokenizer)
        log.flush()
    facts = replace(
        prepared.facts.with_faults(log),
        valid=not log.errors,
        counts=prepared.facts.counts | {name: part.report["examples"] for name, part in encoded.items()},
        tokens=length_summary(np.concatenate([part.lengths for part in encoded.values()])),
        encoded=[part.report for part in encoded.values()],
    )
    if facts.preferences is not None:  # rows that are too long may have been left out
        kept = np.unique(np.concatenate([part.examples.rows for part in encoded.values()]))
        store = next(iter(encoded.values())).examples.store
        facts = replace(facts, preferences=count_preferences(store, kept, judged=data.rows == "judgements"))
    if log.errors:
        raise DataError(log.grouped(), facts, folder)
    return replace(prepared, facts=facts, folder=folder), encoded


def targets_of(data: DataOptions) -> Targets:
    """Return what is trained on."""
    from kamerton.data.encode.targets import Targets

    return Targets(data.train_on, data.train_on_reasoning, data.earlier_reasoning)
