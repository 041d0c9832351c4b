"""Convert checked pairs of completions to the preference file of a fine-tuning API."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

from kamerton.data.example import Alternative, DataExample, chat_messages
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
    """Yield the pairs of each example: of a ranking those that training here compares, whose scores differ.

    `check_preferences` reports what is no pair.
    """
    for example in examples:
        sides = sides_of(example)
        scores = [float(example.score or 0.0), *(each.score for each in example.alternatives)]
        for (better, high), (worse, low) in combinations(zip(sides, scores, strict=True), 2):  # the best one first
            if high > low:
                other = Alternative(worse.completion, 0.0, worse.reasoning, worse.tool_calls)
                yield replace(better, score=1.0, alternatives=(other,))


def ranking_notice(split: str, examples: Iterable[DataExample]) -> list[Fault]:
    """Return a warning for rankings: how many pairs are sent, and what these weigh."""
    counts = [sum(1 for _ in pairs_of([example])) for example in examples]
    rankings = [count for count in counts if count > 1]
    if not rankings:
        return []
    message = f"{len(rankings):,} {split} rows are rankings, and are sent as {sum(rankings):,} pairs"
    if split == "train":
        message += ", which batch.size counts"
    fix = "train a local model (model=hub) to compare whole rankings"
    if len(set(counts)) > 1:
        message += f"; rows have {min(counts)} to {max(counts)} pairs, each with the weight of a whole row"
        fix = "give as many completions in every row for rows of equal weight, or " + fix
    return [Fault("hosted.ranking", message, fix, column="data", severity="warning")]


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
    """Return why the endpoint does not take an example, and the fix; None for one that it takes."""
    sides: Sequence[DataExample] = sides_of(example)
    local = "or train a local model (model=hub)"
    if len(sides) == 1:
        return "the row has one completion, and a hosted DPO job compares two", f"give chosen and rejected, {local}"
    names = ("better", "worse") if len(sides) == 2 else [f"{i}. best" for i in range(1, len(sides) + 1)]
    for name, side in zip(names, sides, strict=True):
        if side.tool_calls:
            message = f"the {name} completion calls functions, and a hosted DPO job compares texts"
            return message, f"remove the row, {local}"
        if not side.completion.strip():
            return f"the {name} completion is empty", "remove the row"
    if example.weight == 0:
        return "the row has weight 0, and a preference file has no weights", "remove the row"
    return None
