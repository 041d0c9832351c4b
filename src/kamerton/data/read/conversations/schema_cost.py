"""Schemas with references may take exponential time and memory to check: they are recognised before that."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

MOST_CHECKS = 5_000  # subschemas that are applied to one place of a value: they take under a second
REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")
INNER = (  # keywords whose subschemas are applied to what is in a value, not to the value itself
    *("properties", "patternProperties", "additionalProperties", "unevaluatedProperties", "propertyNames"),
    *("items", "prefixItems", "additionalItems", "unevaluatedItems", "contains"),
)
NAMED = ("properties", "patternProperties", "dependentSchemas")  # keywords with subschemas by name
NO_SCHEMAS = ("$defs", "definitions", "enum", "const", "default", "examples", "required", "type")


class _Costly(Exception):  # noqa: N818 (a result)
    pass


def has_references(schema: Any) -> bool:
    """Return whether a schema refers to schemas, itself or others."""
    if isinstance(schema, Mapping):
        return any(name in schema for name in REFERENCES) or any(map(has_references, schema.values()))
    return isinstance(schema, list) and any(map(has_references, schema))


def is_costly(schema: Any, value: Any) -> bool:
    """Return whether a schema may be applied to a value in more than `MOST_CHECKS` ways, or in an unknown number."""
    counts: dict[tuple[int, int], int] = {}

    def count(node: Any, depth: int) -> int:
        """Return how many subschemas are applied to a value that is nested `depth` deep, and to one in it each."""
        if not isinstance(node, Mapping):
            return 1
        key = id(node), depth
        if key not in counts:
            counts[key] = 0  # of a reference that leads to itself
            total = 1
            for name, item in node.items():
                if name in REFERENCES:
                    total += count(_target(schema, item), depth)
                elif name not in NO_SCHEMAS and (depth or name not in INNER):
                    total += sum(count(inner, depth - (name in INNER)) for inner in _subschemas(name, item))
                if total > MOST_CHECKS:
                    raise _Costly
            counts[key] = total
        return counts[key]

    try:
        count(schema, _depth(value))
    except (_Costly, RecursionError):
        return True
    return False


def _subschemas(name: str, item: Any) -> Iterable[Any]:
    """Return the subschemas of a keyword."""
    if isinstance(item, Mapping):
        return item.values() if name in NAMED else [item]
    return item if isinstance(item, list) else []


def _target(schema: Any, reference: Any) -> Any:
    """Return what a JSON pointer within the schema leads to; `_Costly` for other references, which are rare."""
    if not isinstance(reference, str) or not (reference == "#" or reference.startswith("#/")):
        raise _Costly
    node = schema
    for part in reference.split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        if isinstance(node, Mapping):
            node = node.get(name)
        else:
            node = node[int(name)] if isinstance(node, list) and name.isdecimal() and int(name) < len(node) else None
    return node


def _depth(value: Any) -> int:
    if not isinstance(value, dict | list):
        return 0
    return 1 + max(map(_depth, value.values() if isinstance(value, dict) else value), default=0)
