"""What a chat template omits of a conversation, found by rendering one of the same form with marks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from kamerton.data.encode.forms import ChatForm, Tools, render_chat
from kamerton.data.encode.turns import DROPPED, TurnNote
from kamerton.data.example import Message, ToolCall

KEPT = 1024  # forms of conversations


class Omissions:
    """Notes of omissions for one tokenizer, kept for each form of a conversation."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._omitted: dict[Any, list[TurnNote]] = {}

    def notes(self, turns: Sequence[Message], tools: Tools, form: ChatForm) -> list[TurnNote]:
        """Return a note for each text, call and tool of a conversation of this form that the template omits."""
        key = (bool(tools), *((turn.role, bool(turn.content.strip()), len(turn.tool_calls)) for turn in turns))
        if key not in self._omitted:
            if len(self._omitted) >= KEPT:
                self._omitted.clear()
            marked = [_marked(turn, i) for i, turn in enumerate(turns)]
            text = render_chat(self._tokenizer, form, marked, tools, prompt=False).casefold()
            notes = []
            for i, turn in enumerate(marked):
                if turn.role == "assistant" and i < len(marked) - 1:  # later turns may omit it, as at inference
                    own = render_chat(self._tokenizer, form, marked[: i + 1], tools, prompt=False).casefold()
                else:
                    own = text
                notes += [
                    TurnNote(DROPPED, place, what)
                    for place, what, marks in _marks(turn, place_of(turns, i))
                    if not all(mark in own for mark in marks)
                ]
            if tools and (name := (tools[0].get("function") or tools[0]).get("name")) and name.casefold() not in text:
                notes.append(TurnNote(DROPPED, "tools", "tools"))
            self._omitted[key] = notes
        return self._omitted[key]


def _marked(turn: Message, i: int) -> Message:
    """Return a turn of the same form whose texts can be recognised in a rendering."""
    calls = tuple(
        ToolCall(f"kamerton_{i}_{j}_call", json.dumps({f"kamerton_{i}_{j}_argument": "x"}), call.id)
        for j, call in enumerate(turn.tool_calls)
    )
    content = f"kamerton-{i}-turn" if turn.content.strip() else turn.content
    return replace(turn, content=content, tool_calls=calls)


def _marks(turn: Message, place: str) -> list[tuple[str, str, list[str]]]:
    """Return what must be in the rendering of a marked turn: its place, what it is, and the marks."""
    marks = [(place, turn.role, [turn.content])] if turn.content.strip() else []
    names = [part for call in turn.tool_calls for part in (call.name, *json.loads(call.arguments))]
    return [*marks, *([(f"{place}.tool_calls", "tool_calls", names)] if names else [])]


def place_of(turns: Sequence[Message], k: int) -> str:
    return "completion" if k == len(turns) - 1 else f"turns[{k}]"
