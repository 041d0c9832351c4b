"""The examples of an evaluation: the test split of a data set or a test file, prepared like training data."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from kamerton.assets import cache_dir
from kamerton.data.encode.arrays import Encoded
from kamerton.data.encode.each_turn import each_turn
from kamerton.data.gate import prepare
from kamerton.data.inputs import encode_splits, targets_of
from kamerton.data.options import COMPARED, DataOptions, SplitOptions
from kamerton.data.prompting import with_saved_form
from kamerton.data.read.sources import local_data
from kamerton.data.store import Examples
from kamerton.errors import Fault, UserError
from kamerton.model.load import load_tokenizer
from kamerton.run.model import tokenizer_faults
from kamerton.score.evaluate import by_turn
from kamerton.score.load import without_adapter
from kamerton.score.target import Target
from kamerton.score.test_notes import few_for_labels, left_out, of_test_file

SPLIT = "test"


@dataclass(frozen=True, slots=True)
class TestSet:
    """Checked examples with their labels; `encoded` and `tokenizer` are None if they are not tokenised.

    `notes` are what to know before the numbers.
    """

    __test__ = False  # pytest

    examples: Examples
    labels: list[str] | None
    fingerprint: str
    notes: tuple[str, ...] = ()
    tokenizer: Any = None
    encoded: Encoded | None = None


def load_test_set(target: Target, limit: int | None, *, tokenised: bool) -> TestSet:
    """Load the test set of a target; a single `data.test` is used entirely, any other data are split as in training.

    `limit` keeps the first examples; their order is that of content hashes, so it is always the same. Raises
    `UserError` with all faults of the data.
    """
    data, options = target.config.data, target.config.model
    others = _others(data)
    alone = is_single_file(data)
    key = "train" if alone else SPLIT
    if alone:  # a run's labels stay the labels, and its free text stays free text
        labels = data.labels if target.own_data or data.labels != "auto" else target.labels
        data = replace(
            data, train=data.test, test=None, validation=None, labels=labels, near_duplicates=None, balance="none"
        )
    if not (alone or others):
        message, fix = "no evaluation data given", "add data.test=FILE"
        raise UserError([Fault("evaluate.no-data", message, fix, column="data")])
    run = target.facts["run"]
    if not (run and target.own_data):  # other data than the run's are read as the model's training data were
        data = with_saved_form(data, Path(run) / "model" if run else Path(options.name))
    cache = cache_dir() / "data"
    split_by = SplitOptions(seed=target.config.split.seed) if alone else target.config.split
    try:
        prepared = prepare(local_data(data), split_by, cache=cache)
    except UserError as error:
        raise (UserError(of_test_file(error.faults)) if alone else error) from error
    if not len(prepared.splits.get(key, ())):
        message, fix = "the data have no test split", "give data.test=FILE, or split.ratios with a test share"
        raise UserError([Fault("evaluate.no-test", message, fix, column="data.test")])
    few = few_for_labels(prepared.splits[key], data) if alone and prepared.labels is None else None
    notes = tuple(note for note in (left_out(prepared.facts) if alone else None, few) if note)
    if not tokenised:
        examples = prepared.splits[key]
        chosen = examples if limit is None else examples[:limit]
        chosen = each_turn(chosen, targets_of(data)) if not prepared.labels else chosen
        return TestSet(chosen, prepared.labels, prepared.fingerprint, notes)
    if faults := tokenizer_faults(options):
        raise UserError(faults)
    tokenizer = load_tokenizer(options.name, revision=options.revision, trust_remote_code=options.trust_remote_code)
    if alone:
        prepared = replace(prepared, splits={key: prepared.splits[key]})
    prepared, encoded = encode_splits(prepared, tokenizer, data, without_adapter(options), cache)
    split = encoded[key]
    if limit is not None and limit < len(split.starts):
        split = split.select(np.arange(split.starts[limit]))
    split = split if prepared.labels or data.rows in COMPARED else by_turn(split, tokenizer)
    return TestSet(split.examples, prepared.labels, prepared.fingerprint, notes, tokenizer, split)


def describe_test(target: Target) -> str:
    """Return in words what is scored by which model, such as `new.jsonl by animals/r1ec642e`."""
    data, run, checkpoint = target.config.data, target.facts["run"], target.facts["checkpoint"]
    what = Path(str(data.test)).name if is_single_file(data) else f"test split of {data.name}"
    if run is None:
        return f"{what} by {target.name}"
    path = Path(run).resolve()
    return f"{what} by {path.parent.name}/{path.name}{f', checkpoint {Path(checkpoint).stem}' if checkpoint else ''}"


def is_single_file(data: DataOptions) -> bool:
    """Whether the data are one test file, all of which is scored."""
    return data.test is not None and not _others(data)


def _others(data: DataOptions) -> bool:
    return bool(data.train or data.path or data.sources or data.prompt_file)
