"""The examples of an evaluation: the test split of a data set, or a file of its own, through the same data gate."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from kamerton.assets import cache_dir
from kamerton.data.encode.arrays import Encoded
from kamerton.data.gate import Prepared, prepare
from kamerton.data.inputs import encode_splits
from kamerton.data.options import DataOptions, SplitOptions
from kamerton.data.read.sources import local_data
from kamerton.data.store import Examples
from kamerton.errors import Fault, UserError
from kamerton.model.load import load_tokenizer
from kamerton.run.model import tokenizer_faults
from kamerton.score.target import Target, without_adapter

SPLIT = "test"


@dataclass(frozen=True, slots=True)
class TestSet:
    """Checked examples with their labels; `encoded` and `tokenizer` are None where nothing is tokenised here."""

    __test__ = False  # pytest

    examples: Examples
    labels: list[str] | None
    fingerprint: str
    report: dict[str, Any]
    tokenizer: Any = None
    encoded: Encoded | None = None


def load_test_set(target: Target, limit: int | None, *, tokenised: bool) -> TestSet:
    """The test set of a subject: `data.test` alone is taken whole, any other data are split as in training.

    `limit` leaves the first so many examples; their order is that of content hashes, so it is the same every time.
    Raises `UserError` with every fault of the data.
    """
    data, options = target.config.data, target.config.model
    alone = data.test is not None and not (data.train or data.path or data.sources)
    key = "train" if alone else SPLIT
    data = _alone(data, target) if alone else data
    if not (data.train or data.path or data.sources):
        message, fix = "no data are given to evaluate on", "add data=jsonl data.test=FILE (or csv, parquet, trec)"
        raise UserError([Fault("evaluate.no-data", message, fix, column="data")])
    cache = cache_dir() / "data"
    split_by = SplitOptions(seed=target.config.split.seed) if alone else target.config.split
    prepared = prepare(local_data(data), split_by, cache=cache)
    if not len(prepared.splits.get(key, ())):
        message, fix = "the data have no test split", "give data.test=FILE, or split.ratios with a test share"
        raise UserError([Fault("evaluate.no-test", message, fix, column="data.test")])
    if not tokenised:
        examples = prepared.splits[key]
        chosen = examples if limit is None else examples[:limit]
        return TestSet(chosen, prepared.labels, prepared.fingerprint, prepared.report)
    if faults := tokenizer_faults(options):
        raise UserError(faults)
    tokenizer = load_tokenizer(options.name, revision=options.revision, trust_remote_code=options.trust_remote_code)
    prepared, encoded = encode_splits(
        _only(prepared, key) if alone else prepared, tokenizer, data, without_adapter(options), cache
    )
    split = encoded[key] if limit is None else encoded[key].select(np.arange(min(limit, len(encoded[key]))))
    return TestSet(split.examples, prepared.labels, prepared.fingerprint, prepared.report, tokenizer, split)


def _alone(data: DataOptions, target: Target) -> DataOptions:
    """The test file as data of its own; a run's labels stay the labels, and its free text stays free."""
    labels = data.labels if target.own_data or data.labels != "auto" else target.labels
    whole: dict[str, Any] = {"near_duplicates": None, "balance": "none"}
    return replace(data, train=data.test, test=None, validation=None, labels=labels, **whole)


def _only(prepared: Prepared, key: str) -> Prepared:
    return replace(prepared, splits={key: prepared.splits[key]})
