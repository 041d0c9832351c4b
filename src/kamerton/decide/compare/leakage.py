"""Leakage: test examples that a model was trained on.

A run directory holds the configuration of its training data, not the examples. They are prepared again (or read from
the cache) and used only if their fingerprint equals the recorded one. Anything that cannot be checked is reported.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kamerton.decide.compare.comparison import Notice
from kamerton.decide.compare.configurations import Group, ScoredRun
from kamerton.decide.compare.fields import Groups
from kamerton.errors import UserError
from kamerton.words import listed

if TYPE_CHECKING:
    from kamerton.data.gate import Prepared

SEEN = "seen_in_training"
MAX_ROWS = 500_000  # with more, near duplicates are not searched


@dataclass(frozen=True, slots=True)
class Training:
    """The data that a run was trained on, or the reason why they are unknown."""

    prepared: Prepared | None = None
    unknown: str = ""


def training_of(run: ScoredRun) -> Training:
    """Prepare the training data of a run again, and check that they are unchanged."""
    from kamerton.assets import cache_dir
    from kamerton.config.check import section
    from kamerton.data.gate import prepare
    from kamerton.data.option_checks import check_data_options
    from kamerton.data.options import DataOptions, SplitOptions
    from kamerton.data.read.sources import local_data

    fingerprint = run.fingerprint
    data, split = section(DataOptions, run.config, "data"), section(SplitOptions, run.config, "split")
    if not run.config or fingerprint is None or data is None or split is None or check_data_options(data):
        return Training(unknown="its record does not name its training data")
    try:
        prepared = prepare(local_data(data), split, cache=cache_dir() / "data")
    except (UserError, OSError, ValueError) as error:
        return Training(unknown=f"its data cannot be prepared again ({str(error).splitlines()[0]})")
    if prepared.fingerprint != fingerprint:
        return Training(unknown="its data files, or how they are prepared, have changed since")
    return Training(prepared)


def all_training(groups: Sequence[Group]) -> dict[str, Training]:
    """Return the training data by path of each trained run, prepared once per fingerprint; folds are skipped."""
    by_fingerprint: dict[str, Training] = {}
    by_path: dict[str, Training] = {}
    for run in (run for group in groups for run in group.runs if run.trained and not run.out_of_fold):
        fingerprint = str(run.fingerprint or run.path)
        if fingerprint not in by_fingerprint:
            by_fingerprint[fingerprint] = training_of(run)
        by_path[str(run.path)] = by_fingerprint[fingerprint]
    return by_path


def leakage_notices(groups: Sequence[Group], training: dict[str, Training]) -> list[Notice]:
    """Return a notice for each run that was trained on test examples, and for each reason why runs are unchecked."""
    ids = groups[0].first["example_id"].to_pylist()
    notices = []
    unchecked: dict[str, list[str]] = defaultdict(list)
    runs = [(group, run) for group in groups for run in group.runs if run.trained and str(run.path) in training]
    for group, run in runs:
        data = training[str(run.path)]
        if data.prepared is None:
            unchecked[data.unknown].append(run.path.name)
            continue
        leaked = sorted(set(ids) & set(data.prepared.splits["train"].ids.to_pylist()))
        if leaked:
            count = f"{len(leaked):,} of the {len(ids):,} test examples ({listed(leaked, 3)})"
            message = f"{run.path.name} was trained on {count}"
            advice = "its numbers are too good: leave these out of training, or compare on other examples"
            notices.append(Notice("leakage", message, advice, group.name))
    for reason, names in unchecked.items():
        message = f"leakage of test examples into training is unchecked for {listed(names, 3)}: {reason}"
        notices.append(Notice("leakage.unknown", message))
    return notices


def seen_in_training(table: pa.Table, trainings: Iterable[Training]) -> Groups | None:
    """Return for each test example whether it was seen `exactly`, `its prompt`, `nearly` or `not at all` in training.

    Uses the first run whose training data are available; None if there is no such run.
    """
    prepared = next((training.prepared for training in trainings if training.prepared is not None), None)
    if prepared is None:
        return None
    from kamerton.data.stored import prompt_key

    train = prepared.splits["train"]
    ids = set(train.ids.to_pylist())
    prompts = set(train.store.column("prompt_key")[train.rows].tolist())
    near = _near_duplicates(prepared, table)

    def seen(example_id: str, prompt: str) -> str:
        if example_id in ids:
            return "exactly"
        if prompt_key(prompt) in prompts:
            return "its prompt"
        return "nearly" if example_id in near else "not at all"

    return [seen(*row) for row in zip(table["example_id"].to_pylist(), table["prompt"].to_pylist(), strict=True)]


def _near_duplicates(prepared: Prepared, table: pa.Table) -> set[str]:
    """Return the ids of test examples in the run's own data that have a near duplicate in its training split."""
    from kamerton.data.check.duplicates import cached_clusters
    from kamerton.data.store import hex_ids

    train = prepared.splits["train"]
    row_of: dict[str, int] = {}  # store row by example id, of the other splits
    for name, part in prepared.splits.items():
        if name != "train":
            row_of |= zip(part.ids.to_pylist(), part.rows.tolist(), strict=True)
    test_rows = [row_of[example_id] for example_id in table["example_id"].to_pylist() if example_id in row_of]
    rows = np.unique(np.concatenate([train.rows, np.array(test_rows, np.int64)]))
    if not test_rows or len(rows) > MAX_ROWS:
        return set()
    clusters = cached_clusters(train.store, rows, 0.85, train.store.path.parent)
    is_train: NDArray[np.bool_] = np.isin(rows, train.rows)
    is_near = np.isin(clusters, clusters[is_train]) & np.isin(rows, test_rows)
    return set(hex_ids(train.store.column("id")[rows[is_near]]).to_pylist())
