"""Definitions of functions: every form is kept in OpenAI's, and unusable ones are faults."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kamerton.data.options import Columns
from kamerton.data.read.columns.fields import to_fields
from kamerton.data.read.columns.layout import Layout
from kamerton.data.read.columns.schema import find_layout
from kamerton.data.read.conversations.tools import read_tools
from kamerton.errors import Fault

WEATHER = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}


def read(tools: Any) -> tuple[Any, list[Fault]]:
    record = {"prompt": "p", "completion": "c", "tools": tools}
    layout = find_layout(record, Columns())
    assert isinstance(layout, Layout)
    return to_fields(record, layout, lambda code: "error")


@pytest.mark.parametrize(
    ("tools", "code", "words"),
    [
        ("[{", "bad-tools", "Expecting"),
        (["get_weather"], "bad-tools", "Expecting value"),
        ([{"type": "function", "function": {"description": "Weather."}}], "bad-tools", "no name"),
        ([{"type": "web_search_preview"}], "bad-tools", "'web_search_preview' has no definition"),
        ([WEATHER, WEATHER], "bad-tools", "get_weather is defined twice"),
        ([{"name": "f", "parameters": {"type": "thing"}}], "tools-schema", "f are not a JSON schema"),
        ([{"name": "f", "parameters": {"$ref": "https://example.com/schema.json"}}], "tools-schema", "f are not"),
        ([{"name": "f", "parameters": {"$ref": "file:///etc/hostname"}}], "tools-schema", "f are not"),
    ],
)
def test_definitions_that_cannot_be_used(tools: Any, code: str, words: str) -> None:
    fields, (fault,) = read(tools)
    assert fields is None
    assert (fault.code, fault.column) == (code, "tools")
    assert words in fault.message


PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}}
FORMS = {
    "openai": [{"type": "function", "function": {"name": "f", "description": "F.", "parameters": PARAMETERS}}],
    "text": json.dumps(
        [{"type": "function", "function": {"name": "f", "description": "F.", "parameters": PARAMETERS}}]
    ),
    "texts": [json.dumps({"name": "f", "description": "F.", "parameters": PARAMETERS})],
    "responses": [{"type": "function", "name": "f", "description": "F.", "parameters": PARAMETERS}],
    "anthropic": [{"name": "f", "description": "F.", "input_schema": PARAMETERS}],
    "one": {"name": "f", "description": "F.", "parameters": PARAMETERS},
    "bedrock": {"tools": [{"toolSpec": {"name": "f", "description": "F.", "inputSchema": {"json": PARAMETERS}}}]},
    "gemini": [
        {
            "functionDeclarations": [
                {
                    "name": "f",
                    "description": "F.",
                    "parameters": {"type": "OBJECT", "properties": {"city": {"type": "STRING"}}},
                }
            ]
        }
    ],
    "columns": [{"name": "f", "description": "F.", "parameters": PARAMETERS | {"required": None}}],
}


@pytest.mark.parametrize("form", FORMS)
def test_definitions_in_any_form_are_kept_in_openais(form: str) -> None:
    assert json.loads(read_tools(FORMS[form], "tools").text) == FORMS["openai"]


def test_a_column_of_other_tools_may_be_metadata() -> None:
    record = {"prompt": "p", "completion": "c", "tools": "hammer, saw"}
    layout = find_layout(record, Columns())
    assert isinstance(layout, Layout)
    _, (fault,) = to_fields(record, layout, lambda code: "error")
    assert "'data.columns.metadata=[tools]'" in fault.fix
    layout = find_layout(record, Columns(metadata=["tools"]))
    assert isinstance(layout, Layout)
    assert to_fields(record, layout, lambda code: "error")[1] == []


def test_one_text_of_definitions_is_compiled_once() -> None:
    assert read_tools(json.dumps([WEATHER]), "tools") is read_tools(json.dumps([WEATHER]), "tools")


def test_parameters_with_pythons_types_become_a_schema() -> None:
    parameters = {
        "cities": {"type": "List[str]", "description": "Names."},
        "days": {"type": "int, optional", "default": 3},
        "type": {"type": "Union[str, int]"},
    }
    (tool,) = json.loads(read_tools([{"name": "f", "parameters": parameters}], "tools").text)
    assert tool["function"]["parameters"] == {
        "type": "object",
        "properties": {
            "cities": {"type": "array", "items": {"type": "string"}, "description": "Names."},
            "days": {"type": "integer", "default": 3},
            "type": {},
        },
        "required": ["cities", "type"],
    }
