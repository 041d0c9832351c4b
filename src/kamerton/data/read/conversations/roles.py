"""Names of roles and fields of a turn in the supported forms, and turns whose fields are wrapped or named otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kamerton.data.read.conversations.reasoning import REASONING
from kamerton.data.read.conversations.weights import WEIGHTS

ROLES = ("system", "developer", "user", "assistant", "tool")
CALL_ROLES = ("function_call", "tool_call", "tool_calls")  # ShareGPT: an assistant's turn that is JSON of calls
ROLE_NAMES = {
    **{role: role for role in ROLES},
    **dict.fromkeys(("human", "prompter"), "user"),
    **dict.fromkeys(("gpt", "chatgpt", "chatbot", "bot", "model", "ai", "aimessagechunk", *CALL_ROLES), "assistant"),
    **dict.fromkeys(
        ("function", "observation", "tool_response", "function_response", "tool_result", "ipython"), "tool"
    ),
}
LANGCHAIN = ("human", "ai", "system", "tool", "function", "AIMessageChunk")  # types of turns without a role
SPEAKERS = ("author", "speaker", "sender", "user")  # keys of a role beside neither role nor from
CONVERSATIONS = (  # columns of the conversation that a row has a turn of
    *("conversation_id", "conv_id", "dialogue_id", "dialog_id", "thread_id", "session_id", "chat_id"),
)
CALL_FIELDS = ("tool_calls", "function_call")
TURN_IDS = ("tool_call_id", "tool_use_id", "call_id")  # of the call whose result a turn is
LANGCHAIN_KEYS = ("response_metadata", "usage_metadata", "additional_kwargs", "lc", "example")
TURN_KEYS = frozenset(  # the keys of a turn that are read, or that no reader needs
    (
        *("role", "from", "type", "content", "value", "parts", *WEIGHTS, *REASONING, *CALL_FIELDS, *LANGCHAIN_KEYS),
        *("tool_call_id", "tool_use_id", "call_id", "id", "name", "channel", "recipient", "content_type", "status"),
    )
)
PLAIN_ROLES = ("system", "developer", "user", "assistant")


def unwrap_turn(item: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a turn of another program with the usual keys; one that has them, and other values, unchanged."""
    if isinstance(item.get("kwargs"), Mapping) and isinstance(item.get("id"), list) and item["id"]:
        name = str(item["id"][-1]).removesuffix("Chunk").removesuffix("Message").lower()
        return {**item["kwargs"], "role": item["kwargs"].get("role", name)}
    kind = item.get("type")
    if isinstance(item.get("data"), Mapping) and isinstance(kind, str):
        return {**item["data"], "role": item["data"].get("role", kind)}
    if "role" in item or "from" in item:
        text = next((name for name in ("text", "message") if isinstance(item.get(name), str)), None)
        if text is not None and not any(key in item for key in ("content", "value", "parts")):
            return {("content" if key == text else key): value for key, value in item.items()}
        return _unwrap_channel(item) if item.get("channel") == "commentary" else item
    if kind in LANGCHAIN:
        return {**item, "role": kind}
    return _unwrap_entry(item) or _with_role(item)


def _unwrap_entry(item: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return an entry of OpenAI's responses that is no message as a turn."""
    kind = item.get("type")
    if kind == "function_call":
        return {"role": "function_call", "content": {key: item.get(key) for key in ("name", "arguments", "call_id")}}
    if kind == "function_call_output":
        return {"role": "tool", "tool_call_id": item.get("call_id"), "content": item.get("output")}
    if kind == "reasoning":
        texts = [item.get(key) for key in ("content", "summary") if item.get(key)]
        return {"role": "assistant", "channel": "analysis", "content": texts[0] if texts else ""}
    return None


def _with_role(item: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a turn whose role has another key (`author`), or whose keys begin with `message.` (Phoenix)."""
    name = next((key for key in SPEAKERS if str(item.get(key)).lower() in ROLE_NAMES), None)
    if name is not None:
        return unwrap_turn({("role" if key == name else key): value for key, value in item.items()})
    if "message.role" in item:
        return unwrap_turn({str(key).removeprefix("message."): value for key, value in item.items()})
    return item


def _unwrap_channel(item: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a call on gpt-oss's channel `commentary` as a turn of calls."""
    recipient = item.get("recipient")
    if item.get("role") != "assistant" or not isinstance(recipient, str) or not recipient.startswith("functions."):
        return item
    call = {"name": recipient.removeprefix("functions."), "arguments": item.get("content")}
    return {**item, "role": "function_call", "content": call, "recipient": None}


def is_turn(value: object) -> bool:
    """Return whether a value is a turn, or an entry of OpenAI's responses."""
    if not isinstance(value, Mapping):
        return False
    turn = unwrap_turn(value)
    return turn is not value or "role" in turn or "from" in turn


def role_of(item: Mapping[str, Any]) -> tuple[str | None, object]:
    """Return the role of a turn (None if unsupported), and the role as it is written."""
    raw = item.get("role", item.get("from"))
    return (ROLE_NAMES.get(raw.lower()) if isinstance(raw, str) else None), raw
