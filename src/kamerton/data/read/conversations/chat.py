"""Conversations: the turns before a completion, and the completion, from the forms that files have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kamerton.data.codes import CODES
from kamerton.data.example import Message
from kamerton.data.read.conversations.call_checks import check_calls
from kamerton.data.read.conversations.listed import is_spoken, turn_items
from kamerton.data.read.conversations.roles import role_of
from kamerton.data.read.conversations.tools import NO_TOOLS, Tools
from kamerton.data.read.conversations.turns import Draft, read_turn
from kamerton.data.read.text import Action
from kamerton.data.stored import stored_extras, turns_json
from kamerton.errors import Fault


@dataclass(frozen=True, slots=True)
class Further:
    """What columns beside the texts add to a row: the functions, the reasoning before the answer, the row's weight.

    `listed`: the system prompt beside the turns lists functions.
    """

    tools: Tools = NO_TOOLS
    reasoning: str = ""
    weight: float = 1.0
    listed: bool = False


NOTHING = Further()
IN_TEXTS = "[]"  # functions that are not in a column
DEFINITIONS = "<tools>"  # in a system turn that lists the functions itself, as in Hermes' data


@dataclass(frozen=True, slots=True)
class Chat:
    """A conversation as the store keeps it: the JSON of the turns before the completion, and the completion."""

    prompt: str
    completion: str
    extras: str | None = None


def chat_fields(
    value: object, column: str, action: Action, further: Further = NOTHING
) -> tuple[Chat | None, list[Fault]]:
    """Return the conversation in a column (None if it has a fault that drops the row), and the faults."""
    drafts, faults = _read_turns(value, column, action, further.tools.text or (IN_TEXTS if further.listed else ""))
    if not is_dropped(faults, action):
        if further.tools.text or any(draft.calls or draft.role == "tool" for draft in drafts):
            faults += check_calls(drafts, further.tools, action)
        weights = [_weight(draft, further.weight) for draft in drafts]
        last = max((i for i, d in enumerate(drafts) if d.role == "assistant" and weights[i] > 0), default=None)
        faults += _target_faults(drafts, last, column)
    if is_dropped(faults, action) or last is None:
        return None, faults
    target = drafts[last]
    if further.reasoning and target.reasoning not in ("", further.reasoning):
        message = "the reasoning of the row differs from that of its last turn"
        return None, [*faults, Fault("bad-messages", message, "keep one of them", column=target.place)]
    before = turns_json([_stored(drafts[i], weights[i]) for i in range(last)])
    calls = [call for call, _ in target.calls]
    tools = further.tools.text
    # A system turn that lists the functions itself must not get them a second time from the template.
    if tools and any(draft.role in ("system", "developer") and DEFINITIONS in draft.content for draft in drafts):
        tools = ""
    extras = stored_extras(target.reasoning or further.reasoning, calls, tools, weights[last])
    return Chat(before, target.content, extras), faults


def is_dropped(faults: Sequence[Fault], action: Action) -> bool:
    """Return whether one of the faults drops the row."""
    return bool(faults) and any(
        (chosen := action(fault.code)) not in ("warn", "fix") or chosen not in CODES[fault.code].actions
        for fault in faults
    )


def _read_turns(value: object, column: str, action: Action, tools: str) -> tuple[list[Draft], list[Fault]]:
    if not (isinstance(value, list) and value) and not is_spoken(value):
        fix = 'write [{"role": "user", "content": ...}, {"role": "assistant", "content": ...}]'
        return [], [Fault("bad-messages", f"{column} is not a list of chat turns", fix, column=column)]
    drafts: list[Draft] = []
    faults: list[Fault] = []
    for place, item in turn_items(value, column):  # type: ignore[arg-type]
        turn_drafts, turn_faults = read_turn(item, place, action, tools=tools)
        is_marked = not tools and turn_drafts and turn_drafts[0].content.lstrip()[:1] in ("[", "{")
        if is_marked and isinstance(value, list) and any(map(_has_functions, value)):
            tools = IN_TEXTS  # the turn may be a call
            turn_drafts, turn_faults = read_turn(item, place, action, tools=tools)
        faults += turn_faults
        for draft in turn_drafts:
            faults += _append(drafts, draft)
    if drafts and drafts[-1].joins == "next":
        message, fix = "reasoning without an answer behind it", "add the answer as the next turn"
        faults.append(Fault("bad-messages", message, fix, column=drafts[-1].place))
    return drafts, faults


def lists_functions(text: object) -> bool:
    """Return whether a system prompt lists functions with their parameters."""
    return isinstance(text, str) and '"parameters"' in text


def _has_functions(turn: object) -> bool:
    """Return whether a turn is the result of a call, or a system turn that lists functions."""
    if not isinstance(turn, Mapping):
        return False
    role = role_of(turn)[0]
    return role == "tool" or (role == "system" and lists_functions(turn.get("content", turn.get("value"))))


def _append(drafts: list[Draft], draft: Draft) -> list[Fault]:
    """Add a draft, or join it with the assistant's turn before it if one of them belongs to the other."""
    previous = drafts[-1] if drafts else None
    if previous is None or previous.role != "assistant" or draft.role != "assistant":
        if previous is not None and previous.joins == "next":
            message, fix = "reasoning without an answer behind it", "add the answer as the next turn"
            return [Fault("bad-messages", message, fix, column=previous.place)]
        drafts.append(draft)
        return []
    if previous.joins != "next" and draft.joins != "previous":
        drafts.append(draft)
        return []
    if None not in (previous.weight, draft.weight) and previous.weight != draft.weight:
        message = f"{previous.place} and this entry are one turn and have different weights"
        return [Fault("bad-messages", message, "write one weight", column=draft.place)]
    previous.weight = previous.weight if draft.weight is None else draft.weight
    previous.reasoning = "\n\n".join(text for text in (previous.reasoning, draft.reasoning) if text)
    previous.content = previous.content or draft.content
    previous.calls += draft.calls
    previous.joins = draft.joins
    return []


def _weight(draft: Draft, row_weight: float) -> float:
    """Return the weight of a turn; that of the row counts for the assistant's turns."""
    weight = 1.0 if draft.weight is None else draft.weight
    return weight * row_weight if draft.role == "assistant" else weight


def _target_faults(drafts: Sequence[Draft], last: int | None, column: str) -> list[Fault]:
    """Return the faults of a conversation without a turn to train on, or with other turns around it than fit."""
    if last is None:
        message, fix = "there is no turn to train on", "add an assistant's turn with a weight above 0"
        if not any(draft.role == "assistant" for draft in drafts):
            message, fix = "the turns are a prompt without an answer", "add the answer as the assistant's turn"
        return [Fault("bad-messages", message, fix, column=column)]
    if last == 0:
        fix = "put the user's turn before it, or give plain text as `text`"
        return [Fault("bad-messages", "there is no turn before the assistant's", fix, column=column)]
    if last < len(drafts) - 1:
        message = f"turns after {drafts[last].place} are not trained on"
        fix = "remove them, or set data.policy.trailing-turns=fix"
        return [Fault("trailing-turns", message, fix, column=column)]
    return []


def _stored(draft: Draft, weight: float) -> list[Any]:
    """Return a turn as `Message.to_list` does."""
    if not (draft.reasoning or draft.calls or draft.call_id or draft.name):
        return [draft.role, draft.content, weight]
    calls = tuple(call for call, _ in draft.calls)
    message = Message(draft.role, draft.content, weight, draft.reasoning, calls, draft.call_id, draft.name)
    return message.to_list()
