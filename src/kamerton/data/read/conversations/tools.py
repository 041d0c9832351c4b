"""Definitions of functions: in any provider's form, kept in OpenAI's, with a validator of each function's arguments."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from kamerton.data.read.conversations.calls import parse_json, write_json
from kamerton.data.read.conversations.schema_cost import has_references
from kamerton.data.read.text import SURROGATES
from kamerton.errors import Fault

TOOLS = ("tools", "functions")  # names of columns
SCHEMAS = ("parameters", "input_schema", "inputSchema", "parametersJsonSchema")  # OpenAI, Anthropic, MCP, Gemini
DECLARATIONS = ("functionDeclarations", "function_declarations")
PYTHON_TYPES = {
    **dict.fromkeys(("str", "string"), "string"),
    **dict.fromkeys(("int", "integer"), "integer"),
    **dict.fromkeys(("float", "number"), "number"),
    **dict.fromkeys(("bool", "boolean"), "boolean"),
    **dict.fromkeys(("list", "array", "tuple", "set"), "array"),
    **dict.fromkeys(("dict", "object"), "object"),
}
FORM = '[{"type": "function", "function": {"name": ..., "description": ..., "parameters": {...}}}]'


@dataclass(frozen=True, slots=True)
class Tools:
    """The functions of a row: `text` is the JSON of their definitions in OpenAI's form, "" without any.

    `validators` has for each function a validator of its arguments (jsonschema_rs), None if any are allowed; `schemas`
    has their schemas, and `referring` the functions whose schemas have references.
    """

    text: str = ""
    validators: Mapping[str, Any] = field(default_factory=dict)
    schemas: Mapping[str, Any] = field(default_factory=dict)
    referring: frozenset[str] = frozenset()
    faults: tuple[Fault, ...] = ()


NO_TOOLS = Tools()


def read_tools(value: object, column: str) -> Tools:
    """Return the definitions in a column: a list, an object with one, or JSON text of either; parsed once per text."""
    if value is None or value in ("", [], {}):
        return NO_TOOLS
    if isinstance(value, str):
        return _parse(value, column)
    try:
        return _parse(json.dumps(value), column)
    except (TypeError, ValueError, RecursionError) as error:
        return _refused(str(error), column)


@lru_cache(maxsize=256)
def _parse(text: str, column: str) -> Tools:
    if not text.strip() or text.strip() in ("null", "None"):
        return NO_TOOLS
    try:
        definitions = openai_definitions(parse_json(text))
        kept = write_json(definitions) if definitions else ""
    except (ValueError, RecursionError) as error:
        return _refused(str(error), column)
    if SURROGATES.search(kept):
        message = f"{column} contains half of a surrogate pair"
        return Tools(faults=(Fault("half-surrogate", message, "write whole characters", column=column),))
    validators, faults = {}, []
    for definition in definitions:
        name, schema = definition["function"]["name"], definition["function"].get("parameters")
        validators[name], problem = compile_schema(schema)
        if problem:
            message = f"the parameters of {name} are not a JSON schema: {problem}"
            fix = "correct the schema; or, to keep it and not check arguments, data.policy.tools-schema=warn"
            faults.append(Fault("tools-schema", message, fix, column=column))
    schemas = {definition["function"]["name"]: definition["function"].get("parameters") for definition in definitions}
    referring = frozenset(name for name, schema in schemas.items() if has_references(schema))
    return Tools(kept, validators, schemas, referring, tuple(faults))


def openai_definitions(value: Any) -> list[dict[str, Any]]:
    """Return the definitions of functions in a value of JSON, in OpenAI's form. Raises ValueError."""
    definitions = [_definition(item) for item in _items(value)]
    names = [str(definition["function"]["name"]) for definition in definitions]
    repeated = next((name for name, count in Counter(names).items() if count > 1), None)
    if repeated is not None:
        raise ValueError(f"{repeated} is defined twice")
    return definitions


def _refused(problem: str, column: str) -> Tools:
    message = f"{column} does not define functions: {problem}"
    fix = f"write {FORM}; or, if it holds something else, 'data.columns.metadata=[{column}]'"
    return Tools(faults=(Fault("bad-tools", message, fix, column=column),))


def compile_schema(schema: Any) -> tuple[Any, str]:
    """Return a validator of a JSON schema (None for no schema) and the problem of a malformed one; fetches nothing."""
    import jsonschema_rs

    if schema is None or schema == {}:
        return None, ""
    try:
        return jsonschema_rs.validator_for(schema, offline=True), ""
    except (ValueError, TypeError, RecursionError) as error:  # of jsonschema_rs: ValidationError, ReferencingError
        return None, str(error).splitlines()[0]


def _items(value: Any) -> list[Any]:
    """Return the single definitions in a list or an object, with those that Gemini groups."""
    if isinstance(value, str):
        value = parse_json(value)
    if isinstance(value, Mapping):
        value = value["tools"] if isinstance(value.get("tools"), list) else [value]
    if not isinstance(value, list):
        raise ValueError(f"it is {value!r}"[:60])
    items: list[Any] = []
    for item in value:
        item = parse_json(item) if isinstance(item, str) else item
        if not isinstance(item, Mapping):
            raise ValueError(f"{str(item)[:40]!r} is not an object")
        declared = next((item[key] for key in DECLARATIONS if isinstance(item.get(key), list)), None)
        items += [item] if declared is None else [_lower_types(declaration) for declaration in declared]
    return items


def _definition(item: Any) -> dict[str, Any]:
    """Return a definition in OpenAI's form."""
    if not isinstance(item, Mapping):
        raise ValueError(f"{str(item)[:40]!r} is not an object")
    function = item.get("function", item.get("toolSpec", item))
    if not isinstance(function, Mapping):
        raise ValueError(f"the function is {str(function)[:40]!r}, not an object")
    name = function.get("name")
    if (
        not isinstance(name, str)
        or not name.strip()
        or (function is item and item.get("type", "function") != "function")
    ):
        kind = item.get("type", "function")
        raise ValueError(
            "a function has no name" if kind == "function" else f"a tool of type {kind!r} has no definition"
        )
    inner = {key: value for key, value in function.items() if key not in ("type", *SCHEMAS) and value is not None}
    schema = next((function[key] for key in SCHEMAS if function.get(key) is not None), None)
    if isinstance(schema, Mapping) and set(schema) == {"json"}:  # Bedrock
        schema = schema["json"]
    if schema is not None:
        inner["parameters"] = _with_json_types(schema_of_parameters(_without_nulls(schema)))
    return {"type": "function", "function": inner}


def _without_nulls(schema: Any) -> Any:
    """Return a schema without null values, which columns of a table have for keys of other rows."""
    if isinstance(schema, Mapping):
        kept = ("default", "const")
        return {key: _without_nulls(value) for key, value in schema.items() if value is not None or key in kept}
    return [_without_nulls(value) for value in schema] if isinstance(schema, list) else schema


def _with_json_types(schema: Any) -> Any:
    """Return a schema with the types of JSON schemas for those of Python, as `object` for `dict` (BFCL)."""
    if isinstance(schema, list):
        return [_with_json_types(value) for value in schema]
    if not isinstance(schema, Mapping):
        return schema
    kept = ("default", "const", "enum", "examples")
    result = {key: value if key in kept else _with_json_types(value) for key, value in schema.items()}
    kind = result.get("type")
    if kind == "any":
        del result["type"]
    elif isinstance(kind, str):
        result["type"] = PYTHON_TYPES.get(kind, kind)
    return result


def _lower_types(schema: Any) -> Any:
    """Return a declaration of Gemini with the types of JSON schemas, such as `string` for `STRING`."""
    if isinstance(schema, Mapping):
        return {
            key: value.lower() if key == "type" and isinstance(value, str) and value.isupper() else _lower_types(value)
            for key, value in schema.items()
        }
    return [_lower_types(value) for value in schema] if isinstance(schema, list) else schema


def schema_of_parameters(value: Any) -> Any:
    """Return the JSON schema of parameters given as `{name: {"type": "int", "description": ...}}`; a schema unchanged.

    A parameter with a default, or whose type says `optional`, is not required.
    """
    if not isinstance(value, Mapping) or not value or not all(map(_is_parameter, value.values())):
        return value
    properties, required = {}, []
    for name, about in value.items():
        kind = about.get("type")
        text = kind if isinstance(kind, str) else ""
        rest = {key: inner for key, inner in about.items() if key not in ("type", "required")}
        properties[name] = _type_schema(re.sub(r",\s*(optional|default\b).*$", "", text, flags=re.IGNORECASE)) | rest
        if about.get("required", "default" not in about and "optional" not in text.lower()):
            required.append(name)
    return {"type": "object", "properties": properties, "required": required}


def _is_parameter(about: Any) -> bool:
    """Return whether a value describes one parameter."""
    return isinstance(about, Mapping) and isinstance(about.get("type", about.get("description")), str)


def _type_schema(text: str) -> dict[str, Any]:
    """Return the schema of a type such as `int` or `List[str]`; of other types, one that allows anything."""
    match = re.fullmatch(r"\s*(\w+)\s*(?:\[(.*)\])?\s*", text)
    kind = PYTHON_TYPES.get(match[1].lower()) if match else None
    if match is None or kind is None:
        return {}
    items = _type_schema(match[2]) if kind == "array" and match[2] and "," not in match[2] else {}
    return {"type": kind} | ({"items": items} if items else {})
