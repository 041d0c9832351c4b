"""Convert checked pairs of completions to the preference file of a fine-tuning API."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from kamerton.data.example import DataExample, chat_messages
from kamerton.data.parts import ALTERNATIVE, part_of
from kamerton.data.store import Examples
from kamerton.errors import Fault

NAMED = 20  # rows that are reported one by one


def sides_of(example: DataExample) -> list[DataExample]:
    """Return an example with each of its completions, the best one first; one without alternatives alone."""
    return [example, *(part_of(example, ALTERNATIVE + k) for k in range(len(example.alternatives)))]


def preference_line(example: DataExample) -> dict[str, Any]:
    """Return `{"input": {"messages": […]}, "preferred_output": […], "non_preferred_output": […]}` of a pair.

    Functions are `input.tools`. Metadata and what `left_out` reports are not sent.
    """
    chosen, rejected = (chat_messages(side.messages) for side in sides_of(example))
    tools = {"tools": json.loads(example.tools)} if example.tools else {}
    return {
        "input": {"messages": chosen[:-1], **tools},
        "preferred_output": chosen[-1:],
        "non_preferred_output": rejected[-1:],
    }


def pairs_of(examples: Iterable[DataExample]) -> Iterator[DataExample]:
    """Yield the examples that are pairs; `check_preferences` reports the others."""
    return (example for example in examples if len(example.alternatives) == 1)


def check_preferences(examples: Examples) -> list[Fault]:
    """Return a fault for each row that the endpoint would refuse or misinterpret: the first `NAMED`, then their number.

    The format has one answer on each side, a text (OpenAI's guide to direct preference optimisation).
    """
    refused = [(i, *reason) for i, example in enumerate(examples) if (reason := _refusal(example)) is not None]
    faults = []
    for position, message, fix in refused[:NAMED]:
        file, row = examples.store.location(int(examples.rows[position]))
        faults.append(Fault("hosted.preference", message, fix, file=file, row=row))
    if len(refused) > NAMED:
        message = f"{len(refused) - NAMED:,} more rows are not pairs of texts that the endpoint takes"
        faults.append(Fault("hosted.preference", message, "correct or remove them as well", column="data"))
    return faults


def _refusal(example: DataExample) -> tuple[str, str] | None:
    """Return why the endpoint does not take an example, and the fix; None for a pair that it takes."""
    sides: Sequence[DataExample] = sides_of(example)
    local = "or train a local model (model=hub)"
    if len(sides) == 1:
        return "the row has one completion, and a hosted DPO job compares two", f"give chosen and rejected, {local}"
    if len(sides) > 2:
        message = f"the row has {len(sides)} completions, and a hosted DPO job compares two"
        return message, f"write a row of chosen and rejected for each pair, {local}"
    for name, side in zip(("better", "worse"), sides, strict=True):
        if side.tool_calls:
            message = f"the {name} completion calls functions, and a hosted DPO job compares texts"
            return message, f"remove the row, {local}"
        if not side.completion.strip():
            return f"the {name} completion is empty", "remove the row"
    if example.weight == 0:
        return "the row has weight 0, and a preference file has no weights", "remove the row"
    return None
