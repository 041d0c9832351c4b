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


def json_rule(schema: dict[str, Any], *, compact: bool = False, lenient: bool = False) -> str:
    """Return the expression of the JSON values that fit a schema; `compact`: on one line, as templates write arguments.

    With `lenient` unsupported keywords are ignored.
    """
    spaces: dict[str, Any] = {"whitespace_pattern": _WHITESPACE}
    if compact:
        spaces = {"whitespace_flexible": False, "item_separator": ", ?", "key_separator": ": ?"}
    return "%json " + _with_options(schema, {**spaces, "lenient": lenient})


def json_grammar(schema: dict[str, Any], *, spaced: bool, calls: str = "") -> str:
    """Return the grammar of the JSON values that fit a schema; `spaced`: after up to eight characters of whitespace.

    With `calls`, rules of which one has this name, an answer may be calls instead.
    """
    start = r"start: /[ \r\n\t]{0,8}/ content" if spaced else "start: content"
    return (
        f"%llguidance {{}}\n{start}\ncontent: value{' | calls' if calls else ''}\nvalue: {json_rule(schema)}\n{calls}"
    )


def calls_grammar(calls: str) -> str:
    """Return the grammar whose answers are `calls`, rules of which one has this name."""
    return f"%llguidance {{}}\nstart: calls\n{calls}"


def schema_problem(schema: dict[str, Any], *, lenient: bool = False) -> tuple[str, str] | None:
    """Return where a schema is invalid or unsupported, such as "properties.a", and why; None if it can be used.

    The place is "" for the schema itself. With `lenient` unsupported keywords are ignored.
    """
    try:
        jsonschema_rs.meta.validate(schema)
    except jsonschema_rs.ValidationError as error:
        return ".".join(map(str, error.instance_path)), f"invalid JSON schema: {error.message}"
    except (ValueError, jsonschema_rs.ReferencingError) as error:  # an unknown `$schema`
        return "$schema", str(error).splitlines()[0]
    problem = _problem(schema, lenient=lenient)
    return None if problem is None else (_place(schema, problem, lenient=lenient), problem)


def _with_options(schema: dict[str, Any], options: dict[str, Any]) -> str:
    """Return the text of a schema with llguidance's options, instead of those that it may have itself."""
    return json.dumps({**schema, "x-guidance": options})


def _problem(schema: dict[str, Any], *, lenient: bool) -> str | None:
    grammar = LLMatcher.grammar_from_json_schema(_with_options(schema, {"lenient": lenient}))
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


def _place(schema: dict[str, Any], problem: str, *, lenient: bool) -> str:
    """Return the place of the innermost schema that has the problem by itself."""
    shared: dict[str, Any] = {key: schema[key] for key in ("$defs", "definitions") if key in schema}
    path: list[str] = []
    inner = schema
    while True:
        for place, child in _children(inner):
            if isinstance(child, dict) and _problem({**shared, **child}, lenient=lenient) == problem:
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
