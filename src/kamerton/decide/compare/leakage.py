"""What of the test set a model was trained on.

A run directory does not hold its training examples, but the configuration that made them: they are prepared again (from
the cache, where it still has them) and count only if their fingerprint is the one that the run wrote down. What could
not be checked is said.
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
from kamerton.decide.compare.fields import Groups
from kamerton.decide.compare.sides import Group, Scored
from kamerton.errors import UserError

if TYPE_CHECKING:
    from kamerton.data.gate import Prepared

SEEN = "seen_in_training"
MOST_ROWS = 500_000  # beyond them near duplicates are not looked for


@dataclass(frozen=True, slots=True)
class Training:
    """The data that a run was trained on, or why they are not known."""

    prepared: Prepared | None = None
    unknown: str = ""


def training_of(run: Scored) -> Training:
    """The prepared data of a run, if they are still those it was trained on."""
    from kamerton.assets import cache_dir
    from kamerton.config.check import section
    from kamerton.data.gate import prepare
    from kamerton.data.options import DataOptions, SplitOptions
    from kamerton.data.read.sources import local_data

    fingerprint = (run.record.get("data") or {}).get("fingerprint")
    data, split = section(DataOptions, run.config, "data"), section(SplitOptions, run.config, "split")
    if not run.config or fingerprint is None or data is None or split is None:
        return Training(unknown="it does not say what data it was trained on")
    try:
        prepared = prepare(local_data(data), split, cache=cache_dir() / "data")
    except (UserError, OSError, ValueError) as error:
        return Training(unknown=f"its data cannot be prepared again ({str(error).splitlines()[0]})")
    if prepared.fingerprint != fingerprint:
        return Training(unknown="its data files, or how they are prepared, have changed since")
    return Training(prepared)


def all_training(groups: Sequence[Group]) -> dict[str, Training]:
    """By path of each trained run its training data; runs on the same data share them. Folds need no look."""
    known: dict[str, Training] = {}
    found: dict[str, Training] = {}
    for run in (run for group in groups for run in group.runs if run.trained and not run.out_of_fold):
        key = str((run.record.get("data") or {}).get("fingerprint") or run.path)
        if key not in known:
            known[key] = training_of(run)
        found[str(run.path)] = known[key]
    return found


def leaks(groups: Sequence[Group], training: dict[str, Training]) -> list[Notice]:
    """A notice for each side that was trained on test examples, and one for what could not be checked."""
    ids = groups[0].first["example_id"].to_pylist()
    notices, unknown = [], defaultdict(list)
    for group in groups:
        for run in (run for run in group.runs if run.trained and str(run.path) in training):
            found = training[str(run.path)]
            if found.prepared is None:
                unknown[found.unknown].append(run.path.name)
            elif leaked := sorted(set(ids) & set(found.prepared.splits["train"].ids.to_pylist())):
                few = ", ".join(leaked[:3]) + (", …" if len(leaked) > 3 else "")
                message = f"{run.path.name} was trained on {len(leaked):,} of the {len(ids):,} test examples ({few})"
                advice = "its numbers are too good: leave these out of training, or compare on other examples"
                notices.append(Notice("leakage", message, advice, group.name))
    for reason, names in unknown.items():
        message = f"whether {_few(names)} saw test examples in training cannot be checked: {reason}"
        notices.append(Notice("leakage.unknown", message))
    return notices


def _few(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 3 else f"{', '.join(names[:3])} and {len(names) - 3} more"


def seen(table: pa.Table, known: Iterable[Training]) -> Groups | None:
    """Each test example as `exactly`, `its prompt`, `nearly` or `not at all` among the training examples.

    From the first run whose training data are known; None without one.
    """
    prepared = next((one.prepared for one in known if one.prepared is not None), None)
    if prepared is None:
        return None
    from kamerton.data.store import prompt_key

    train = prepared.splits["train"]
    ids = set(train.ids.to_pylist())
    prompts = set(train.store.column("prompt_key")[train.rows].tolist())
    near = _near(prepared, table)
    rows = zip(table["example_id"].to_pylist(), table["prompt"].to_pylist(), strict=True)
    return [
        "exactly"
        if name in ids
        else "its prompt"
        if prompt_key(prompt) in prompts
        else "nearly"
        if name in near
        else "not at all"
        for name, prompt in rows
    ]


def _near(prepared: Prepared, table: pa.Table) -> set[str]:
    """Ids of the test examples with a near duplicate in training, of those that the run's own data hold."""
    from kamerton.data.check.duplicates import cached_clusters
    from kamerton.data.store import hex_ids

    train = prepared.splits["train"]
    numbers = dict(_rows(prepared))
    ours = [numbers[name] for name in table["example_id"].to_pylist() if name in numbers]
    own = np.unique(np.concatenate([train.rows, np.array(ours, np.int64)]))
    if not ours or len(own) > MOST_ROWS:
        return set()
    clusters = cached_clusters(train.store, own, 0.85, train.store.path.parent)
    trained: NDArray[np.bool_] = np.isin(own, train.rows)
    both = np.isin(clusters, clusters[trained]) & np.isin(own, ours)
    return set(hex_ids(train.store.column("id")[own[both]]).to_pylist())


def _rows(prepared: Prepared) -> Iterable[tuple[str, int]]:
    """Example ids and store rows of all splits but train."""
    for name, part in prepared.splits.items():
        if name != "train":
            yield from zip(part.ids.to_pylist(), part.rows.tolist(), strict=True)
