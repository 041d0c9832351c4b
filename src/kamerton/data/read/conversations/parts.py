"""The content of a turn: a text, or parts of text, reasoning, calls and results in the forms of several providers.

Anthropic and OpenAI name a part by its `type`; Bedrock and Gemini by the key that holds it (`toolUse`, `functionCall`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kamerton.data.read.conversations.calls import write_json
from kamerton.data.read.conversations.reasoning import reasoning_text

CONTENT = ("content", "value", "parts")
TEXT_PARTS = ("text", "input_text", "output_text", "summary_text")
REASONING_PARTS = ("thinking", "reasoning", "reasoning_text")
CALL_PARTS = ("tool_use", "tool_call", "function_call")
RESULT_PARTS = ("tool_result", "function_call_output")
KEYED_CALLS = ("toolUse", "functionCall", "function_call")
KEYED_RESULTS = ("toolResult", "functionResponse", "function_response")
RESULT_IDS = ("tool_call_id", "tool_use_id", "toolUseId", "call_id", "id")


@dataclass(slots=True)
class Content:
    """What a turn's content holds; `text` is None, a text, or a value that cannot be read.

    `results` are (text or unreadable value, id of the call, name of the function); `late` is text behind a call.
    """

    text: object = None
    reasoning: list[str] = field(default_factory=list)
    calls: list[object] = field(default_factory=list)
    results: list[tuple[object, object, object]] = field(default_factory=list)
    late: str = ""


def read_content(item: Mapping[str, Any]) -> Content:
    """Return the content of a turn; types of parts that are not read are listed by `columns.unused`."""
    value = next((item[name] for name in CONTENT if item.get(name) is not None), None)
    if isinstance(value, list) and not value:
        return Content()
    if not isinstance(value, list) or any(not part_kind(part)[0] for part in value):
        return Content(value)
    content, texts = Content(), []
    for part in value:
        kind, inner = part_kind(part)
        if kind == "text":
            texts.append(inner)
            content.late = content.late or (inner if content.calls and inner.strip() else "")
        elif kind == "reasoning":
            content.reasoning.append(inner)
        elif kind == "call":
            content.calls.append(inner)
        elif kind == "result":
            content.results.append(_result(inner))
    content.text = "".join(texts) if texts or not (content.calls or content.results or content.reasoning) else None
    return content


def part_kind(part: object) -> tuple[str, Any]:
    """Return text, reasoning, call, result, or the type of a part that is not read, and the value; "" for no part."""
    if isinstance(part, str):
        return "text", part
    if not isinstance(part, Mapping):
        return "", None
    kind = part.get("type")
    if not isinstance(kind, str):
        return _keyed_part(part)
    if kind in TEXT_PARTS:
        text = part.get("text", part.get("value"))
        return ("text", text) if isinstance(text, str) else ("", None)
    if kind in REASONING_PARTS:
        text = reasoning_text(part)
        return ("reasoning", text) if text is not None else (kind, part)
    if kind in CALL_PARTS:
        return "call", part.get("value", part)  # LLaMA-Factory has the JSON text of a call as `value`
    return ("result", part) if kind in RESULT_PARTS else (kind, part)


def _keyed_part(part: Mapping[str, Any]) -> tuple[str, Any]:
    """Return the kind of a part without a type, by the key that is not empty."""
    for kind, keys in (("call", KEYED_CALLS), ("result", KEYED_RESULTS)):
        inner = next((part[key] for key in keys if isinstance(part.get(key), Mapping)), None)
        if inner is not None:
            return kind, inner
    text = part.get("text", part.get("value"))
    if isinstance(text, str):
        return ("reasoning" if part.get("thought") is True else "text"), text
    if isinstance(part.get("reasoningContent"), Mapping):
        text = reasoning_text(part["reasoningContent"])
        return ("reasoning", text) if text is not None else ("thinking", part)
    name = next((key for key, value in part.items() if value is not None), "")
    return (name, part) if isinstance(part.get(name), Mapping) else ("", None)


def unread_part(part: object) -> str:
    """Return the type of a part whose content is not read, also within a result, else ""."""
    kind, inner = part_kind(part)
    if kind == "result" and isinstance(inner.get("content"), list):
        items = [item for item in inner["content"] if not isinstance(item, Mapping) or set(item) != {"json"}]
        return next((name for name in map(unread_part, items) if name), "")
    return "" if kind in ("text", "reasoning", "call", "result") else kind


def text_of_part(part: object) -> str | None:
    """Return the text of a part of text, else None."""
    kind, inner = part_kind(part)
    return inner if kind == "text" else None


def _result(part: Mapping[str, Any]) -> tuple[object, object, object]:
    call_id = next((part[name] for name in RESULT_IDS if part.get(name) is not None), None)
    value = next((part[name] for name in ("content", "output", "response") if part.get(name) is not None), "")
    return result_text(value), call_id, part.get("name")


def result_text(value: object) -> object:
    """Return a result as text: parts of text joined, other JSON values as JSON text; other values unchanged."""
    if isinstance(value, list) and value and all(isinstance(part, Mapping) for part in value):
        if all(set(part) == {"json"} for part in value):  # Bedrock
            value = [part["json"] for part in value] if len(value) > 1 else value[0]["json"]
        else:
            kinds = [part_kind(part) for part in value]
            if all(kind == "text" for kind, _ in kinds):
                return "".join(text for _, text in kinds)
            if any(kind not in ("", "text") and "type" in part for (kind, _), part in zip(kinds, value, strict=True)):
                return value
    if isinstance(value, Mapping | list):
        try:
            return write_json(value)
        except ValueError:
            return value
    return value
