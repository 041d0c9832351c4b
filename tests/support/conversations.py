"""Hypothesis strategies of values and conversations, most of them malformed, for files that are fuzzed."""

from __future__ import annotations

import json

from hypothesis import strategies as st

names = st.sampled_from(
    ["prompt", "completion", "text", "label", "messages", "question", "answer", "conversations", "x"]
)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12)
turns = st.fixed_dictionaries(
    {}, optional={"role": scalars | st.sampled_from(["user", "assistant"]), "content": scalars, "weight": scalars}
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner | turns, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=8,
)
CHAT = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]
functions = st.sampled_from(["f", "g", "", 3, None])
arguments = (
    st.sampled_from(["{}", '{"a": 1}', '{"a": NaN}', "{", "[]", "", '{"a": 1, "a": 2}', '{"a": "\\ud800"}']) | values
)
calls = st.fixed_dictionaries(
    {},
    optional={
        "id": scalars,
        "type": scalars,
        "name": functions,
        "arguments": arguments,
        "function": st.fixed_dictionaries({}, optional={"name": functions, "arguments": arguments}) | scalars,
    },
)
call_texts = st.sampled_from(
    [
        '<tool_call>{"name": "f", "arguments": {}}</tool_call>',
        "<tool_call>{</tool_call> b",
        '[TOOL_CALLS] [{"name": "f"}]',
        "[TOOL_CALLS]f[ARGS]{",
        '<|python_tag|>{"name": "f", "parameters": {}}; {}',
        '{"name": "f", "parameters": {"a": 1}}',
        "<think>a</think>b",
        "<think>",
        "</think>",
        "<tool_response>1</tool_response>",
        "[TOOL_RESULTS][{}][/TOOL_RESULTS]",
    ]
)
kinds = st.sampled_from(["text", "tool_use", "tool_result", "thinking", "image_url", "human", "ai", "function_call"])
parts = st.dictionaries(
    st.sampled_from(
        ["type", "text", "thinking", "name", "input", "id", "tool_use_id", "content", "toolUse", "functionCall"]
    ),
    kinds | scalars | calls,
    max_size=3,
)
roles = st.sampled_from(
    ["user", "assistant", "tool", "system", "function_call", "observation", "gpt", "human", "model"]
)
chat_turns = st.fixed_dictionaries(
    {"role": roles | scalars},
    optional={
        "content": scalars | call_texts | st.lists(parts | call_texts, max_size=3) | calls,
        "tool_calls": st.lists(calls | scalars, max_size=2) | scalars,
        "function_call": calls | scalars,
        "tool_call_id": scalars,
        "name": functions,
        "reasoning_content": scalars,
        "channel": st.sampled_from(["analysis", "commentary", "final"]),
        "recipient": st.sampled_from(["functions.f", "user"]),
        "weight": st.sampled_from([0, 1, 0.5, -1, True, "1", None]),
        "parts": st.lists(parts, max_size=2),
        "data": st.dictionaries(names, scalars, max_size=2),
        "kwargs": st.dictionaries(st.sampled_from(["content", "tool_calls"]), scalars, max_size=2),
        "type": kinds,
        "id": scalars | st.lists(scalars, max_size=2),
    },
)
schemas = st.sampled_from(
    [
        None,
        {},
        {"type": "object"},
        {"type": "dict"},
        {"properties": {"a": {"type": "string"}}},
        {"$ref": "#/x"},
        {"a": {"type": "int"}},
    ]
)
definitions = st.fixed_dictionaries({}, optional={"name": functions, "parameters": schemas, "type": kinds})
tool_lists = st.lists(definitions | st.fixed_dictionaries({"function": definitions}) | scalars, max_size=3)
several = st.lists(chat_turns | scalars, max_size=5)
texts_or_turns = (
    several | scalars | st.fixed_dictionaries({"messages": several}) | st.dictionaries(names, several, max_size=2)
)
chats = st.fixed_dictionaries(
    {},
    optional={
        "messages": several | scalars,
        "tools": tool_lists | tool_lists.map(json.dumps) | scalars,
        "reasoning": scalars,
        "sample_weight": scalars,
    },
) | st.dictionaries(
    st.sampled_from(
        [
            *("input", "output", "request", "response", "inputs", "outputs", "contents", "systemInstruction", "data"),
            *("annotations", "fields", "responses", "q.responses", "mapping", "current_node", "chat_messages", "query"),
            *("answers", "tools", "toolConfig", "messages", "custom_id", "body"),
        ]
    ),
    texts_or_turns | values | chat_turns,
    max_size=4,
)
