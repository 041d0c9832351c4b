"""One turn of a conversation in any supported form, as drafts of messages.

One turn may hold several messages (results of calls, then text), and several entries of a list may be one message
(reasoning, then calls or an answer): `kamerton.data.read.conversations.chat` joins those.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from kamerton.data.read.conversations.call_text import late_text_fault, split_calls, split_results
from kamerton.data.read.conversations.calls import Call, read_calls
from kamerton.data.read.conversations.parts import Content, read_content, result_text
from kamerton.data.read.conversations.reasoning import reasoning_field, reasoning_text, split_reasoning
from kamerton.data.read.conversations.roles import (
    CALL_FIELDS,
    CALL_ROLES,
    PLAIN_ROLES,
    ROLE_NAMES,
    ROLES,
    TURN_IDS,
    role_of,
    unwrap_turn,
)
from kamerton.data.read.conversations.weights import WEIGHTS, turn_weight
from kamerton.data.read.text import SURROGATES, Action, check_text
from kamerton.errors import Fault

MARKS = re.compile(r"</?think>|<tool_|<｜tool|\[TOOL_|<\|python_tag\|>|\A\s*[\[{]")
WITHOUT_CONTENT = ("role", "from", *WEIGHTS)  # what a system turn without a prompt has


@dataclass(slots=True)
class Draft:
    """A message that is being read; `place` is its turn, as in messages[2].

    `joins` is "next" for reasoning whose turn follows, and "previous" for calls that belong to a turn before them.
    """

    role: str
    place: str
    content: str = ""
    weight: float | None = None
    reasoning: str = ""
    calls: list[Call] = field(default_factory=list)
    call_id: str | None = None
    name: str | None = None
    joins: str = ""


def read_turn(item: object, place: str, action: Action, *, tools: str) -> tuple[list[Draft], list[Fault]]:
    """Return the drafts of a turn, incomplete if it has a fault that drops the row, and the faults."""
    if type(item) is dict and len(item) == 2 and (draft := _plain_turn(item, place)) is not None:  # nearly all turns
        if draft.role == "system" and not draft.content:
            return [], []
        checked, faults = check_text(draft.content, f"{place}.content", action)
        draft.content = checked or ""
        return [draft], faults
    if not isinstance(item, Mapping):
        fix = 'write {"role": ..., "content": ...}'
        return [], [Fault("bad-messages", "the turn is not an object", fix, column=place)]
    item = unwrap_turn(item)
    role, written = role_of(item)
    if role is None:
        message = f"the turn's role is {written!r}"
        return [], [Fault("bad-messages", message, f"use {', '.join(ROLES)}", column=f"{place}.role")]
    if role == "system" and not any(value for key, value in item.items() if key not in WITHOUT_CONTENT):
        return [], []
    weight, faults = turn_weight(item, place)
    draft = Draft(role, place, weight=weight)
    faults += _read_names(item, draft)
    content = read_content(item)
    if role == "assistant":
        text, more = _read_assistant(item, content, draft, tools=tools)
        faults += more
        return [draft], faults + _check_texts(draft, text, action, may_be_empty=bool(faults))
    faults += _misplaced(item, content, place)
    text = result_text(content.text) if role == "tool" else content.text
    drafts, texts = _results(content, text, draft)
    if not drafts or (text is not None and content.results):
        drafts, texts = [*drafts, draft], [*texts, text]
    for other, other_text in zip(drafts, texts, strict=True):
        faults += _check_texts(other, other_text, action)
    return drafts, faults


def _plain_turn(item: Mapping[str, Any], place: str) -> Draft | None:
    """Return the draft of a turn that has a role and a text without any mark of calls, results or reasoning."""
    role, content = item.get("role"), item.get("content")
    if role is None:
        role, content = ROLE_NAMES.get(str(item.get("from"))), item.get("value")
    if role not in PLAIN_ROLES or type(content) is not str or has_marks(content):
        return None
    return Draft(str(role), place, content)


def has_marks(text: str) -> bool:
    """Return whether a text may contain calls, results or reasoning: a tag, or JSON at the start."""
    return ("<" in text or "[" in text or "{" in text) and MARKS.search(text) is not None


def read_answer(value: object, column: str, action: Action, *, tools: str) -> tuple[Draft, list[Fault]]:
    """Return an answer that is one text as the draft of an assistant's turn, and the faults."""
    draft = Draft("assistant", column)
    faults: list[Fault] = []
    if isinstance(value, str) and has_marks(value):
        draft.reasoning, value, faults = split_reasoning(value, column)
        value, draft.calls, more = split_calls(value, column, tools)
        faults += more
    return draft, faults + _check_texts(draft, value, action, column, may_be_empty=bool(faults))


def _read_names(item: Mapping[str, Any], draft: Draft) -> list[Fault]:
    """Read the name of the speaker and the id of the call that a result answers."""
    faults = []
    call_id = next((item[key] for key in TURN_IDS if item.get(key) is not None), None) if draft.role == "tool" else None
    for key, value in (("name", item.get("name")), ("tool_call_id", call_id)):
        if value is not None and (not isinstance(value, str | int) or SURROGATES.search(str(value))):
            fix = f"write {key} as a text"
            faults.append(Fault("bad-messages", f"{key} is {value!r}", fix, column=f"{draft.place}.{key}"))
    if faults:
        return faults
    draft.call_id = None if call_id is None else str(call_id)
    draft.name = None if item.get("name") in (None, "") else str(item["name"]).removeprefix("functions.")
    return []


def _read_assistant(
    item: Mapping[str, Any], content: Content, draft: Draft, *, tools: str
) -> tuple[object, list[Fault]]:
    """Read the reasoning and calls of an assistant's turn into its draft; return its text and the faults."""
    place, text, faults = draft.place, content.text, []
    if content.results:
        fix = "write the result as a turn of role tool"
        faults.append(Fault("stray-result", "the result of a call is in the assistant's turn", fix, column=place))
    if item.get("channel") == "analysis":
        draft.reasoning, draft.joins = reasoning_text(text) or "", "next"
        return None, faults
    reasoning, more = _read_reasoning(item, content, place)
    faults += more
    inner, where = "", f"{place}.content"
    if isinstance(text, str):
        inner, text, more = split_reasoning(text, where)
        faults += more
    if inner and reasoning and inner != reasoning:
        message = "the reasoning in the content differs from that in the turn's field"
        faults.append(Fault("bad-messages", message, "keep one of them", column=where))
    draft.reasoning = reasoning or inner
    if str(item.get("role", item.get("from"))).lower() in CALL_ROLES:
        draft.joins = "previous"
        if not isinstance(text, str) or "<tool_call>" not in text:
            draft.calls, more = read_calls(text, where)
            return None, faults + more
    return _read_turn_calls(item, content, text, draft, tools=tools, faults=faults), faults


def _read_reasoning(item: Mapping[str, Any], content: Content, place: str) -> tuple[str, list[Fault]]:
    name, value = reasoning_field(item)
    text = "\n\n".join(content.reasoning)
    if not name:
        return text, []
    field_text = reasoning_text(value)
    if field_text is None:
        return "", [Fault("not-text", f"{name} is not a text", "write it as a text", column=f"{place}.{name}")]
    if text and text != field_text:
        message = f"{name} differs from the reasoning in the content"
        return "", [Fault("bad-messages", message, "keep one of them", column=f"{place}.{name}")]
    return field_text, []


def _read_turn_calls(
    item: Mapping[str, Any], content: Content, text: object, draft: Draft, *, tools: str, faults: list[Fault]
) -> object:
    """Read the calls in a turn's fields, parts and text into its draft, faults to `faults`; return the text."""
    place = draft.place
    for name in CALL_FIELDS:
        if item.get(name) not in (None, [], {}, ""):
            calls, more = read_calls(item[name], f"{place}.{name}")
            draft.calls += calls
            faults += more
    for i, part in enumerate(content.calls):
        calls, more = read_calls(part, f"{place}.content[{i}]")
        draft.calls += calls
        faults += more
    if content.late:
        faults.append(late_text_fault(f"{place}.content", content.late))
    if not isinstance(text, str):
        return text
    text, calls, more = split_calls(text, f"{place}.content", "" if draft.calls else tools)
    faults += more
    if calls and draft.calls and [call for call, _ in calls] != [call for call, _ in draft.calls]:
        message = "the calls in the content differ from those in the turn's field"
        faults.append(Fault("bad-messages", message, "keep one of them", column=place))
    draft.calls = draft.calls or calls
    return text


def _misplaced(item: Mapping[str, Any], content: Content, place: str) -> list[Fault]:
    """Return the faults of calls and reasoning in a turn that is not the assistant's."""
    faults = []
    calls = next((name for name in CALL_FIELDS if item.get(name) not in (None, [], {}, "")), None)
    if calls or content.calls:
        message = "only the assistant's turns may call functions"
        fix = "write the call as a turn of role assistant"
        faults.append(Fault("misplaced-call", message, fix, column=f"{place}.{calls or 'content'}"))
    name, _ = reasoning_field(item)
    if name or content.reasoning:
        message = "only the assistant's turns may have reasoning"
        fix = "move it to the assistant's turn, or remove it: data.policy.misplaced-reasoning=fix"
        faults.append(Fault("misplaced-reasoning", message, fix, column=f"{place}.{name or 'content'}"))
    return faults


def _results(content: Content, text: object, draft: Draft) -> tuple[list[Draft], list[object]]:
    """Return the drafts of the results in a turn's parts or text, with their texts; none if it is a plain turn."""
    drafts, texts = [], []
    for value, call_id, name in content.results:
        names = [None if part is None else str(part) for part in (call_id, name)]
        drafts.append(replace(draft, role="tool", call_id=names[0], name=names[1], calls=[]))
        texts.append(value)
    if not drafts and isinstance(text, str) and draft.role in ("user", "tool") and (results := split_results(text)):
        for result, call_id in results:
            of_call = call_id or (draft.call_id if len(results) == 1 else None)
            drafts.append(replace(draft, role="tool", call_id=of_call, calls=[]))
            texts.append(result)
    return drafts, texts


def _check_texts(
    draft: Draft, text: object, action: Action, column: str = "", *, may_be_empty: bool = False
) -> list[Fault]:
    """Check a draft's content and reasoning and put them in; content may be empty beside calls and in results.

    `column` is the place of the content, by default that of a turn. `may_be_empty`: its calls have a fault.
    """
    faults: list[Fault] = []
    if draft.reasoning:
        reasoning, faults = check_text(draft.reasoning, f"{draft.place}.reasoning", action)
        draft.reasoning = reasoning or ""
    if draft.joins == "next":
        return faults
    is_blank = text is None or text == "" or (isinstance(text, str) and text.isspace())
    if is_blank and (may_be_empty or draft.calls or (draft.role == "tool" and text is not None)):
        return faults
    content, more = check_text(text, column or f"{draft.place}.content", action)
    draft.content = content or ""
    return faults + more
