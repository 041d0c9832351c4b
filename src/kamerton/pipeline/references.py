"""Rewards that compare answers with the completion of their row, on rows that have none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kamerton.config.rewards import needs_reference, reward_nodes
from kamerton.config.schema import mapping_at
from kamerton.data.gate import Prepared
from kamerton.errors import Fault


def reference_faults(values: Mapping[str, Any], prepared: Prepared) -> list[Fault]:
    """Return a fault if a reward of the configuration needs completions that rows do not have; it names the first."""
    nodes = reward_nodes(mapping_at(values, "reward"))
    names = [name for name, node in nodes.items() if needs_reference(node)]
    splits = prepared.splits.values()
    alone = [row for examples in splits for row in examples.rows[~examples.is_answered].tolist()] if names else []
    if not alone:
        return []
    file, row = min(map(next(iter(splits)).store.location, alone))
    count, total = len(set(alone)), len({row for examples in splits for row in examples.rows.tolist()})
    which = f"reward {names[0]} compares" if len(names) == 1 else f"the rewards {', '.join(names)} compare"
    message = f"{which} answers with the completion of their row, and {count:,} of {total:,} rows have none"
    fix = (
        "add the field completion, or name the column that contains it: data.columns.completion=NAME;"
        " or choose a reward that needs none, such as reward=length"
    )
    return [Fault("missing-field", message, fix, file, row, column="completion")]
