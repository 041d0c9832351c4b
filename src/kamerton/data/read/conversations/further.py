"""Columns beside the texts of a row (functions, reasoning, a weight), and the answer of a pair of texts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from kamerton.data.options import Columns
from kamerton.data.read.conversations.call_checks import check_calls
from kamerton.data.read.conversations.chat import NOTHING, Further, is_dropped
from kamerton.data.read.conversations.reasoning import REASONING, SWITCHES, reasoning_text
from kamerton.data.read.conversations.tools import NO_TOOLS, TOOLS, read_tools
from kamerton.data.read.conversations.turns import has_marks, read_answer
from kamerton.data.read.conversations.weights import row_weight
from kamerton.data.read.text import Action, check_text, is_blank
from kamerton.data.stored import stored_extras
from kamerton.errors import Fault

ROW_WEIGHTS = ("loss_weight", "sample_weight", "train")  # and `weight`, beside texts if it is from 0 to 1


def find_further(
    kind: str, present: Iterable[str], shown: Iterable[str], columns: Columns, head: Sequence[Mapping[str, Any]] = ()
) -> Iterator[str]:
    """Yield the columns of a layout with functions, reasoning and a weight ("": none); not those of the metadata."""
    shares = [record["weight"] for record in head if not is_blank(record.get("weight"))]
    is_share = bool(shares) and all(isinstance(share, int | float) and 0 <= share <= 1 for share in shares)
    free = [name for name in present if name not in shown and name not in (columns.metadata or ())]
    weights = (*ROW_WEIGHTS, "weight") if kind == "chat" or is_share else ROW_WEIGHTS
    thoughts = [name for name in REASONING if not _is_switch(name, head)]
    for candidates in ((), (), weights) if kind == "text" else (TOOLS, thoughts, weights):
        yield next((name for name in candidates if name in free), "")


def _is_switch(name: str, head: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether a column says only if there is reasoning (`reasoning: on`, as NVIDIA's data sets)."""
    values = [record[name] for record in head if not is_blank(record.get(name))]
    return bool(values) and all(str(value).lower() in SWITCHES for value in values)


def read_further(
    record: Mapping[str, Any], tools: str, reasoning: str, weight: str, action: Action
) -> tuple[Further, list[Fault]]:
    """Return the values of these columns ("" for a column that the file lacks), and the faults."""
    if not tools and not reasoning and not weight:
        return NOTHING, []
    row, faults = row_weight(record, weight)
    definitions = read_tools(record.get(tools), tools) if tools else NO_TOOLS
    faults += definitions.faults
    value, text = record.get(reasoning) if reasoning else None, None
    if value is not None and value not in ("", []):
        text, more = check_text(reasoning_text(value) or value, reasoning, action)
        faults += more
    return Further(definitions, text or "", row), faults


def answer_fields(
    value: object, column: str, kind: str, action: Action, further: Further
) -> tuple[tuple[str, str | None] | None, list[Fault]]:
    """Return a completion that is one text and its extras (None if it has a fault that drops the row), and the faults.

    The reasoning and calls in it are those of an assistant's turn; plain text is kept as it is.
    """
    if kind == "text":
        text, faults = check_text(value, column, action)
        extras = None if further is NOTHING else stored_extras(weight=further.weight)
        return (None if text is None else (text, extras)), faults
    if further is NOTHING and isinstance(value, str) and not has_marks(value):  # nearly all answers
        text, faults = check_text(value, column, action)
        return (None if text is None else (text, None)), faults
    draft, faults = read_answer(value, column, action, tools=further.tools.text)
    if draft.reasoning and further.reasoning and draft.reasoning != further.reasoning:
        message = "the reasoning in it differs from that in the column of reasoning"
        faults.append(Fault("bad-messages", message, "keep one of them", column=column))
    if draft.calls:
        faults += check_calls([draft], further.tools, action)
    if is_dropped(faults, action):
        return None, faults
    if further is NOTHING and not draft.calls and not draft.reasoning:
        return (draft.content, None), faults
    calls = [call for call, _ in draft.calls]
    reasoning = draft.reasoning or further.reasoning
    return (draft.content, stored_extras(reasoning, calls, further.tools.text, further.weight)), faults
