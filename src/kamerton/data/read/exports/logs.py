"""Logs of requests and responses as conversations: OpenAI, Anthropic, Gemini, LiteLLM, Langfuse, LangSmith.

A log has what was sent and what came back in two columns. Fields of either that are not read become columns of their
own, such as `request.model`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kamerton.data.read.columns.propose import template_settings
from kamerton.data.read.conversations.roles import is_turn
from kamerton.errors import Fault

PAIRS = (
    ("request", "response"),
    ("input", "output"),
    ("input", "expected_output"),
    ("input", "expectedOutput"),
    ("inputs", "outputs"),
    ("messages", "response"),
    ("input", "choices"),
    ("messages", "choices"),
    ("request_body", "response_body"),
    ("attributes.llm.input_messages", "attributes.llm.output_messages"),  # Phoenix
    ("attributes.input.value", "attributes.output.value"),
)
SYSTEM = ("instructions", "system", "systemInstruction", "system_instruction")
TOOLS = ("tools", "functions", "toolConfig")
REQUEST = ("messages", "input", "contents", "prompt")
RESPONSE = ("choices", "candidates", "message", "messages", "output", "generations")
FIX = 'write each row as {"messages": [{"role": "user", "content": ...}, {"role": "assistant", "content": ...}]}'

Record = Mapping[str, Any]


def find_pair(names: Sequence[str]) -> tuple[str, str] | None:
    """Return the columns of request and response among these names."""
    if "instruction" in names:  # Alpaca's input and output
        return None
    return next((pair for pair in PAIRS if pair[0] in names and pair[1] in names), None)


def read_log(record: Record, pair: tuple[str, str]) -> Record | Fault:
    """Return a row of a log with its conversation as `messages`, unchanged if both columns are texts."""
    request, response = _body(record[pair[0]]), _body(record[pair[1]])
    is_text = not isinstance(request, Mapping | list) and not isinstance(response, Mapping | list)
    if (is_text and not pair[1].endswith(("xpected_output", "xpectedOutput", ".value"))) or (
        pair[0] == "messages" and not isinstance(response, Mapping | list)
    ):
        return record
    before, tools = request_turns(request)
    after = response_turns(response)
    if before is None or after is None:
        name, value = (pair[0], request) if before is None else (pair[1], response)
        keys = f" with the keys {', '.join(map(str, value))}"[:80] if isinstance(value, Mapping) else ""
        what = f"{name} ({'an object' if isinstance(value, Mapping) else 'a list'}{keys})"
        fix = FIX
        if isinstance(request, str) and isinstance(response, Mapping):
            fix = f"add {template_settings(f'{{{pair[0]}}}', f'{{{pair[1]}:json}}')} to train on it as JSON; or {FIX}"
        return Fault("bad-export", f"{what} holds no conversation that can be read", fix, column=name)
    if after[: len(before)] == before:  # the response repeats the request, as LangGraph's does
        before = []
    rest = {name: value for name, value in record.items() if name not in pair}
    for name, value in zip(pair, (request, response), strict=True):
        if isinstance(value, Mapping) and not is_turn(value):
            read = (*REQUEST, *RESPONSE, *SYSTEM, *TOOLS, "content", "role", "type")
            rest |= {f"{name}.{key}": inner for key, inner in value.items() if key not in read}
    return {**rest, "messages": [*before, *after]} | ({"tools": tools} if tools else {})


def _body(value: Any) -> Any:
    """Return the body of an HTTP request or response."""
    return value["body"] if isinstance(value, Mapping) and isinstance(value.get("body"), Mapping) else value


def request_turns(value: Any) -> tuple[list[Any] | None, Any]:
    """Return the turns of a request (None if it has none), and the functions that it defines."""
    if isinstance(value, str):
        return [{"role": "user", "content": value}], None
    if isinstance(value, list):
        inner = value[0] if len(value) == 1 and isinstance(value[0], list) else value  # LangSmith nests a batch
        return (list(inner) if inner and all(map(is_turn, inner)) else None), None
    if not isinstance(value, Mapping):
        return None, None
    if is_turn(value):
        return [value], None
    name = next((key for key in REQUEST if value.get(key)), None)
    if name is None:
        return _single_text(value, "user"), None
    turns, _ = ([_with_role(turn) for turn in value[name]], None) if name == "contents" else request_turns(value[name])
    if turns is None:
        return None, None
    return [*system_turns(value), *turns], next((value[key] for key in TOOLS if value.get(key)), None)


def system_turns(value: Record) -> list[Any]:
    """Return the system turn of a request that has it beside its messages, else no turn."""
    system = next((value[key] for key in SYSTEM if value.get(key)), None)
    if system is None:
        return []
    return [{"role": "system", **system}] if isinstance(system, Mapping) else [{"role": "system", "content": system}]


def _with_role(turn: Any) -> Any:
    """Return a turn of Gemini, whose role is the user's if it has none."""
    return {"role": "user", **turn} if isinstance(turn, Mapping) else turn


def response_turns(value: Any) -> list[Any] | None:
    """Return the turns of a response; None if it has none."""
    if isinstance(value, str):
        return [{"role": "assistant", "content": value}]
    if isinstance(value, list) and value and all(map(is_turn, value)):
        return list(value)
    if isinstance(value, list):
        return response_turns(value[0]) if len(value) == 1 else None  # of several choices none is the answer
    if not isinstance(value, Mapping):
        return [] if value is None else None
    return [value] if is_turn(value) else _object_turns(value)


def _object_turns(value: Record) -> list[Any] | None:
    """Return the turns of a response that is an object."""
    name = next((key for key in RESPONSE if value.get(key)), None)
    if name is not None:
        return response_turns(value[name])
    if isinstance(value.get("content"), Mapping):  # a candidate of Gemini
        return response_turns(value["content"])
    if isinstance(value.get("content"), str | list) or isinstance(value.get("parts"), list):
        return [{"role": "assistant", **value}]
    return _single_text(value, "assistant")


def _single_text(value: Record, role: str) -> list[Any] | None:
    """Return the only text of an object as a turn; None if it has several or other values."""
    filled = [inner for inner in value.values() if inner not in (None, "", [], {})]
    return [{"role": role, "content": filled[0]}] if len(filled) == 1 and isinstance(filled[0], str) else None
