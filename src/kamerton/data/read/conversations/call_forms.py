"""Calls in texts that are not JSON alone: DeepSeek, GLM, Qwen Coder, and calls written as Python (ToolACE).

DeepSeek: `<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>name` with the JSON in a block of code, or
`name<｜tool▁sep｜>{...}`. GLM: `<tool_call>name`, then `<arg_key>` and `<arg_value>` for each argument. Qwen Coder:
`<function=name><parameter=key>value</parameter></function>`. Python: `[name(key="value"), other(key=1)]`; nothing is
executed.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kamerton.data.read.conversations.calls import parse_json

DEEPSEEK = "<｜tool▁call"
MAX_LITERAL, MAX_DEPTH = 2**20, 30  # characters and nested brackets of a Python value
_DEEPSEEK_CALL = re.compile(r"<｜tool▁call▁begin｜>(.*?)<｜tool▁sep｜>(.*?)<｜tool▁call▁end｜>", re.DOTALL)
_DEEPSEEK_MARK = re.compile(r"<｜(?:tool▁calls▁(?:begin|end)|end▁of▁sentence)｜>")
_CODE = re.compile(r"([^\n{]*)\n*```(?:json)?\s*(.*?)\s*```\s*", re.DOTALL)
_ARGUMENT = re.compile(r"<arg_key>(.*?)</arg_key>\s*<arg_value>(.*?)</arg_value>", re.DOTALL)
_GLM = re.compile(r"\s*([\w.-]+)\s*(?=<arg_key>|\Z)")
FUNCTION = re.compile(r"<function=([^>\s]+)>(.*?)(?:</function>|\Z)", re.DOTALL)
_PARAMETER = re.compile(r"<parameter=([^>\s]+)>\n?(.*?)\n?</parameter>", re.DOTALL)
_PYTHON_NAME = re.compile(r"\s*([A-Za-z_][\w.\-/ ]*?)\s*\(")

Item = dict[str, Any]  # a call with the keys name and arguments


def deepseek_calls(text: str) -> tuple[str, list[Item], str]:
    """Return the text before DeepSeek's calls, the calls, and what is left over behind the first of them."""
    start = text.index(DEEPSEEK)
    items = []
    for name, body in _DEEPSEEK_CALL.findall(text):
        match = _CODE.fullmatch(body)
        if match and name.strip() == "function":
            name, body = match.groups()
        items.append({"name": name.strip(), "arguments": body.strip()})
    rest = _DEEPSEEK_MARK.sub("", _DEEPSEEK_CALL.sub("", text[start:])).strip()
    return text[:start].strip(), items, rest


def tagged_calls(block: str, tools: str) -> list[Item]:
    """Return the calls in the text between `<tool_call>` and its end that are tags (GLM, Qwen Coder); [] for others.

    The types of arguments are those of the functions in `tools` (JSON as in `DataExample`).
    """
    calls = [(name, _PARAMETER.findall(body)) for name, body in FUNCTION.findall(block)]
    match = _GLM.match(block)
    if not calls and match and not _ARGUMENT.sub("", block[match.end() :]).strip():
        calls = [(match[1], _ARGUMENT.findall(block))]
    return [{"name": name, "arguments": _typed_arguments(name, pairs, tools)} for name, pairs in calls]


def _typed_arguments(name: str, pairs: Sequence[tuple[str, str]], tools: str) -> Item:
    types = _types(tools, name)
    return {key.strip(): _typed(value, types.get(key.strip())) for key, value in pairs}


def _typed(value: str, kinds: Sequence[str] | None) -> Any:
    """Return the value of a parameter that is written as text: the text itself if the schema allows one."""
    if kinds and "string" in kinds:
        return value
    try:
        return parse_json(value)
    except ValueError:
        return value


def _types(tools: str, name: str) -> dict[str, Sequence[str]]:
    """Return the types of each parameter of a function that the schema names."""
    for tool in json.loads(tools) if tools else []:
        function = tool.get("function") or tool
        if function.get("name") == name:
            properties = (function.get("parameters") or {}).get("properties") or {}
            kinds = {key: value.get("type") for key, value in properties.items() if isinstance(value, Mapping)}
            return {key: [kind] if isinstance(kind, str) else kind for key, kind in kinds.items() if kind}
    return {}


def python_calls(text: str) -> list[Item]:
    """Return the calls of a text that is a Python list of calls with named arguments alone; [] for other texts."""
    text = text.strip()
    if not (text.startswith("[") and text.endswith(")]")) or len(text) > MAX_LITERAL:
        return []
    at, end, items = 1, len(text) - 1, []
    while match := _PYTHON_NAME.match(text, at, end):
        close = _closing(text, match.end() - 1)
        arguments = _named_arguments(text[match.end() : close]) if 0 < close < end else None
        if arguments is None:
            return []
        items.append({"name": match[1], "arguments": arguments})
        at = close + 1
        if not text[at:end].strip():
            return items
        comma = re.compile(r"\s*,").match(text, at, end)
        if comma is None:
            return []
        at = comma.end()
    return []


def _closing(text: str, start: int) -> int:
    """Return the place of the bracket that closes the one at `start`, minding quoted strings; -1 without one."""
    depth, at = 0, start
    while at < len(text):
        sign = text[at]
        if sign in "\"'":
            at += 1
            while at < len(text) and text[at] != sign:
                at += 2 if text[at] == "\\" else 1
        elif sign in "([{":
            depth += 1
        elif sign in ")]}":
            depth -= 1
            if depth == 0:
                return at
        at += 1
    return -1


def _named_arguments(text: str) -> Item | None:
    """Return the named arguments of a call, whose values must be literals; None for any other text."""
    if not _is_shallow(text):
        return None
    try:
        call = ast.parse(f"f({text.strip()})", mode="eval").body
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or call.args:
            return None
        names = [keyword.arg for keyword in call.keywords]
        if None in names or len(set(names)) < len(names):
            return None
        return {str(keyword.arg): ast.literal_eval(_with_constants(keyword.value)) for keyword in call.keywords}
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None


class _Constants(ast.NodeTransformer):
    """JSON's true, false and null, which such lists mix with Python's."""

    def visit_Name(self, node: ast.Name) -> ast.AST:
        values = {"true": True, "false": False, "null": None}
        return ast.copy_location(ast.Constant(values[node.id]), node) if node.id in values else node


def _with_constants(node: ast.expr) -> ast.expr:
    return _Constants().visit(node)  # type: ignore[no-any-return]


def python_value(text: str) -> Any:
    """Return the value of a Python literal, None for other texts and large or deeply nested ones. Executes nothing."""
    if not _is_shallow(text, least=1):
        return None
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None


def _is_shallow(text: str, least: int = 0) -> bool:
    """Return whether a text is short and its brackets are nested between `least` and MAX_DEPTH times."""
    depths = list(_depths(text)) if len(text) <= MAX_LITERAL else []
    return bool(depths) and least <= max(depths) <= MAX_DEPTH


def _depths(text: str) -> Iterator[int]:
    depth = 0
    yield depth
    for sign in text:
        depth += (sign in "[{(") - (sign in ")}]")
        yield depth
