"""How tools, calls, results and reasoning are given to a chat template, found by trying it."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from kamerton.data.encode.fallback import (
    BESIDE,
    CALLS,
    DEVELOPER,
    NO_SYSTEM,
    PARALLEL,
    REASONING,
    REASONING_KEYS,
    RESULTS,
    TOOLS,
    fallback_template,
)
from kamerton.data.example import DataExample, Message, ToolCall

Turns = list[dict[str, Any]]
Tools = list[dict[str, Any]] | None
_NAME, _ARGUMENT, _VALUE = "kamerton_function", "kamerton_argument", "kamerton-value"
_QUESTION, _ANSWER, _RESULT, _THOUGHT = "kamerton-question", "kamerton-answer", "kamerton-result", "kamerton-thought"
_TOOLS: list[dict[str, Any]] = [
    {
        "type": "function",
        "function": {
            "name": _NAME,
            "description": "kamerton-description",
            "parameters": {
                "type": "object",
                "properties": {_ARGUMENT: {"type": "string", "description": "a text"}},
                "required": [_ARGUMENT],
            },
        },
    }
]


@dataclass(frozen=True, slots=True)
class ChatForm:
    """How a template takes the turns of a chat with tools, calls or reasoning.

    Args:
        template: the chat template with the fallback form for what is `missing`; None: the tokenizer's own.
        missing: what the tokenizer's own template cannot write (names of `kamerton.data.encode.fallback`).
        reasoning: the names under which it reads an assistant's reasoning.
        arguments_as_text: whether it takes the arguments of calls as JSON text instead of an object.
        short_ids: whether ids of calls must be nine letters and digits (Mistral).
    """

    template: str | None = None
    missing: tuple[str, ...] = ()
    reasoning: tuple[str, ...] = ("reasoning_content",)
    arguments_as_text: bool = False
    short_ids: bool = False


def is_rich(example: DataExample) -> bool:
    """Return whether an example has what a template may not write: tools, calls, reasoning, names, developer turns."""
    if example.reasoning or example.tool_calls or example.tools:
        return True
    if isinstance(example.prompt, str):
        return False
    return any(
        turn.reasoning or turn.tool_calls or turn.tool_call_id or turn.name or turn.role == "developer"
        for turn in example.prompt
    )


def template_turn(turn: Message, form: ChatForm) -> dict[str, Any]:
    """Return a turn as the template takes it."""
    values: dict[str, Any] = {"role": turn.role, "content": turn.content}
    for call in turn.tool_calls:
        arguments = call.arguments if form.arguments_as_text else json.loads(call.arguments)
        item: dict[str, Any] = {"type": "function", "function": {"name": call.name, "arguments": arguments}}
        if call.id or form.short_ids:
            call_id = call.id or f"{call.name} {call.arguments}"
            item["id"] = _short(call_id) if form.short_ids else call_id
        values.setdefault("tool_calls", []).append(item)
    if turn.reasoning:
        values |= dict.fromkeys(form.reasoning, turn.reasoning)
    if turn.tool_call_id:
        values["tool_call_id"] = _short(turn.tool_call_id) if form.short_ids else turn.tool_call_id
    if turn.name:
        values["name"] = turn.name
    return values


def _short(call_id: str) -> str:
    """Return an id of nine letters and digits: the id itself if it is one, otherwise a hash of it."""
    if len(call_id) == 9 and call_id.isascii() and call_id.isalnum():
        return call_id
    return hashlib.blake2b(call_id.encode(), digest_size=5).hexdigest()[:9]


def render_chat(tokenizer: Any, form: ChatForm, turns: Sequence[Message], tools: Tools, *, prompt: bool) -> str:
    """Return the template's rendering of these turns; `prompt` adds the beginning of an answer."""
    text: str = tokenizer.apply_chat_template(
        [template_turn(turn, form) for turn in turns],
        tools=tools,
        chat_template=form.template,
        tokenize=False,
        add_generation_prompt=prompt,
    )
    return text


def chat_form(tokenizer: Any) -> ChatForm:
    """Return how the tokenizer's chat template takes tools, calls and reasoning; found once for each template."""
    template = tokenizer.chat_template
    own = json.dumps(template) if isinstance(template, dict) else str(template)
    return _forms(_Probed(tokenizer, own))


class _Probed:
    """A tokenizer that equals others with the same template, as a key of a cache."""

    def __init__(self, tokenizer: Any, template: str) -> None:
        self.tokenizer, self._key = tokenizer, (template, str(tokenizer.special_tokens_map))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Probed) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)


@lru_cache(maxsize=64)
def _forms(probed: _Probed) -> ChatForm:
    tokenizer = probed.tokenizer
    form = _with_reasoning(tokenizer, _with_calls(tokenizer, ChatForm()))
    missing = _missing(tokenizer, form)
    if not missing:
        return form
    own = tokenizer.get_chat_template(tools=_TOOLS)
    reasoning = form.reasoning or ("reasoning_content",)
    return replace(form, template=fallback_template(own, missing), missing=missing, reasoning=reasoning)


def _with_calls(tokenizer: Any, form: ChatForm) -> ChatForm:
    """Return the form with the arguments and ids with which the template writes a call."""
    for as_text in (False, True):
        for short_ids in (False, True):
            changed = replace(form, arguments_as_text=as_text, short_ids=short_ids)
            if _writes(tokenizer, changed, [_user(), _calling()], CALLED):
                return changed
    return form


def _with_reasoning(tokenizer: Any, form: ChatForm) -> ChatForm:
    """Return the form with the name under which the template reads the reasoning of a last turn."""
    for key in REASONING_KEYS:
        changed = replace(form, reasoning=(key,))
        if _writes(tokenizer, changed, [_user(), Message("assistant", _ANSWER, 1.0, _THOUGHT)], (_THOUGHT, _ANSWER)):
            return changed
    return replace(form, reasoning=())


CALLED = (_NAME, _ARGUMENT, _VALUE)


def _user() -> Message:
    return Message("user", _QUESTION)


def _calling(count: int = 1, content: str = "", thought: str = "") -> Message:
    calls = tuple(
        ToolCall(_NAME, json.dumps({_ARGUMENT: f"{_VALUE}{i or ''}"}), f"kamerton-call-{i}") for i in range(count)
    )
    return Message("assistant", content, 1.0, thought, calls)


def _missing(tokenizer: Any, form: ChatForm) -> tuple[str, ...]:
    """Return what the template cannot write."""
    takes_system = _writes(tokenizer, form, [Message("system", _ANSWER), _user()], (_ANSWER,), tools=None)
    answered = [_user(), _calling(), Message("tool", _RESULT, tool_call_id="kamerton-call-0", name=_NAME)]
    writes = {
        TOOLS: _writes(tokenizer, form, [_user()], (_NAME, _QUESTION)),
        CALLS: _writes(tokenizer, form, [_user(), _calling()], CALLED),
        PARALLEL: _writes(tokenizer, form, [_user(), _calling(2)], (*CALLED, f"{_VALUE}1")),
        BESIDE: _writes(tokenizer, form, [_user(), _calling(content=_ANSWER)], (*CALLED, _ANSWER))
        and not _breaks(tokenizer, form, [_user(), _calling(content=_ANSWER), answered[-1]]),
        RESULTS: _writes(tokenizer, form, answered, (_RESULT, *CALLED)),
        REASONING: bool(form.reasoning),
        DEVELOPER: _knows_developer(tokenizer, form) or not takes_system,
    }
    missing = [name for name, is_written in writes.items() if not is_written]
    if TOOLS in missing or CALLS in missing:  # one form for all three, so that the introduction fits
        missing = list(
            dict.fromkeys([TOOLS, CALLS, RESULTS, *(name for name in missing if name in (REASONING, DEVELOPER))])
        )
        missing += [] if takes_system else [NO_SYSTEM]
    return tuple(missing)


def _knows_developer(tokenizer: Any, form: ChatForm) -> bool:
    """Return whether the template names the role and writes such a turn; one that writes any role does not know it."""
    own = tokenizer.get_chat_template(tools=_TOOLS)
    return "developer" in own and _writes(tokenizer, form, [Message("developer", _ANSWER), _user()], (_ANSWER,))


def _writes(
    tokenizer: Any, form: ChatForm, turns: list[Message], marks: tuple[str, ...], tools: Tools = _TOOLS
) -> bool:
    """Return whether the rendering of the turns has all marks, and arguments neither as Python nor quoted twice."""
    has_calls = any(turn.tool_calls for turn in turns)
    try:
        text = render_chat(tokenizer, form, turns, tools if has_calls or _NAME in marks else None, prompt=False)
        if has_calls:
            definitions = render_chat(tokenizer, form, turns[:1], tools, prompt=False)
            text = text[common_length(definitions, text) :]
    except Exception:  # a template is a program: it may raise anything for what it does not take
        return False
    quoted = (f"'{_ARGUMENT}'", f'\\"{_ARGUMENT}')
    return all(mark in text for mark in marks) and not (has_calls and any(mark in text for mark in quoted))


def _breaks(tokenizer: Any, form: ChatForm, turns: list[Message]) -> bool:
    """Return whether an answer to the turns neither follows their rendering nor begins with a generation prompt."""
    try:
        before, finished = (render_chat(tokenizer, form, turns, _TOOLS, prompt=prompt) for prompt in (True, False))
        answer = [*turns, Message("assistant", _ANSWER)]
        return before == finished and not render_chat(tokenizer, form, answer, _TOOLS, prompt=False).startswith(before)
    except Exception:  # a template is a program: it may raise anything for what it does not take
        return False


def common_length(a: str, b: str) -> int:
    """Return the length of the common beginning of two texts."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def with_fallback(tokenizer: Any) -> Any:
    """Return a copy of the tokenizer whose chat template also writes the fallback form."""
    form = chat_form(tokenizer)
    if form.template is None:
        return tokenizer
    changed = copy.copy(tokenizer)
    changed.chat_template = form.template
    return changed
