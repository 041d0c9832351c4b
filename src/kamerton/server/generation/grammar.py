"""Grammars of answers, in llguidance's format: JSON that fits a schema."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
from llguidance import LLMatcher

# At each place where JSON allows whitespace: one space, or a line break with indentation. A model cannot fill its
# answer with spaces, which models do that are forced to write JSON that they do not expect.
_WHITESPACE = r" |\n {0,40}|\n\t{0,20}"
_SINGLE = ("not", "items", "contains", "additionalProperties", "propertyNames", "if", "then", "else")
_LISTS = ("anyOf", "allOf", "oneOf", "prefixItems")
_UNSUPPORTED = "Unimplemented keys: "
_NAMED = ("properties", "patternProperties", "dependentSchemas", "$defs", "definitions")


def json_rule(schema: dict[str, Any]) -> str:
    """Return the expression of the JSON values that fit a schema."""
    return "%json " + _with_options(schema)


def json_grammar(schema: dict[str, Any], *, spaced: bool) -> str:
    """Return the grammar of the JSON values that fit a schema; `spaced`: after up to eight characters of whitespace."""
    start = r"start: /[ \r\n\t]{0,8}/ value" if spaced else "start: value"
    return f"%llguidance {{}}\n{start}\nvalue: {json_rule(schema)}\n"


def schema_problem(schema: dict[str, Any]) -> tuple[str, str] | None:
    """Return where a schema is invalid or unsupported, such as "properties.a", and why; None if it can be used.

    The place is "" for the schema itself.
    """
    try:
        jsonschema_rs.meta.validate(schema)
    except jsonschema_rs.ValidationError as error:
        return ".".join(map(str, error.instance_path)), f"invalid JSON schema: {error.message}"
    except (ValueError, jsonschema_rs.ReferencingError) as error:  # an unknown `$schema`
        return "$schema", str(error).splitlines()[0]
    problem = _problem(schema)
    return None if problem is None else (_place(schema, problem), problem)


def _with_options(schema: dict[str, Any]) -> str:
    return json.dumps({**schema, "x-guidance": {"whitespace_pattern": _WHITESPACE}})


def _problem(schema: dict[str, Any]) -> str | None:
    grammar = LLMatcher.grammar_from_json_schema(_with_options(schema))
    failed, messages = LLMatcher.validate_grammar_with_warnings(grammar)
    if not failed:
        return None
    lines = [line.strip() for line in messages[0].splitlines()]
    lines = [line for line in lines if not line.startswith("while processing")]  # the place of a $ref
    if lines[0].startswith(_UNSUPPORTED):
        keywords = sorted(json.loads(lines[0].removeprefix(_UNSUPPORTED)))
        return f"unsupported {'keyword' if len(keywords) == 1 else 'keywords'} {', '.join(keywords)}"
    # Above the error of a regular expression it is shown with the character marked.
    return next((line.removeprefix("error: ") for line in lines if line.startswith("error: ")), lines[0])


def _place(schema: dict[str, Any], problem: str) -> str:
    """Return the place of the innermost schema that has the problem by itself."""
    shared: dict[str, Any] = {key: schema[key] for key in ("$defs", "definitions") if key in schema}
    path: list[str] = []
    inner = schema
    while True:
        for place, child in _children(inner):
            if isinstance(child, dict) and _problem({**shared, **child}) == problem:
                path += place
                inner = child
                break
        else:
            return ".".join(path)


def _children(schema: dict[str, Any]) -> Iterator[tuple[list[str], Any]]:
    """Yield the schemas directly within a schema, with their places."""
    for key, value in schema.items():
        if key in _SINGLE:
            yield [key], value
        elif key in _LISTS and isinstance(value, list):
            yield from (([key, str(i)], item) for i, item in enumerate(value))
        elif key in _NAMED and isinstance(value, dict):
            yield from (([key, name], item) for name, item in value.items())
