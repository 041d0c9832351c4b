"""Everything a model is fed, from options to encoded splits: the data stage in one call, cached on disk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kamerton.assets import cache_dir, local_data
from kamerton.data.options import DataOptions, SplitOptions

if TYPE_CHECKING:
    from kamerton.config.schema import ModelOptions
    from kamerton.data.encode import Encoded
    from kamerton.data.gate import Prepared


@dataclass(frozen=True, slots=True)
class Inputs:
    """Prepared data, the tokenizer they are encoded with, and the encoded splits that are not empty."""

    prepared: Prepared
    tokenizer: Any
    encoded: dict[str, Encoded]


def load_inputs(data: DataOptions, split: SplitOptions, model: ModelOptions) -> Inputs:
    """Read, check, split and encode; what was done before with the same files and options is not done again.

    Raises `UserError` with every fault of the files and rows or, if they have none, every fault of encoding them.
    """
    from kamerton.data.encode import encode
    from kamerton.data.faults import FaultLog
    from kamerton.data.gate import prepare
    from kamerton.model.load import load_tokenizer

    cache = cache_dir() / "data"
    prepared = prepare(local_data(data), split, cache=cache)
    tokenizer = load_tokenizer(model.name, revision=model.revision, trust_remote_code=model.trust_remote_code)
    log = FaultLog(data.policy)
    encoded = {
        name: encode(
            examples,
            tokenizer,
            max_length=data.max_length,
            overlong=data.overlong,
            cache=cache,
            name=name,
            log=log,
        )
        for name, examples in prepared.splits.items()
        if len(examples)
    }
    return Inputs(prepared, tokenizer, encoded)
