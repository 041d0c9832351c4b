"""Schemas that would take exponential time or memory are recognised; those of real functions are not."""

from __future__ import annotations

from typing import Any

import pytest

from kamerton.data.read.conversations.schema_cost import has_references, is_costly


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = {"x": value}
    return value


def branches(count: int) -> dict[str, Any]:
    again = {"type": "object", "properties": {"x": {"$ref": "#/$defs/a"}}}
    return {"$defs": {"a": {"anyOf": [again] * count}}, "$ref": "#/$defs/a"}


def chain(length: int) -> dict[str, Any]:
    links = {f"a{i}": {"oneOf": [{"$ref": f"#/$defs/a{i + 1}"}] * 2} for i in range(length)}
    return {"$defs": {**links, f"a{length}": {"type": "string"}}, "$ref": "#/$defs/a0"}


COSTLY = {
    "branches": branches(20),
    "chain": chain(40),
    "anchor": {"$defs": {"a": {"$anchor": "x", "anyOf": [{"$ref": "#x"}]}}, "$ref": "#x"},
}
CHEAP = {
    "tree": branches(1),
    "few branches at the depth of the value": branches(2),
    "short chain": chain(10),
    "loop": {"$ref": "#"},
    "loop of two": {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"},
    "nowhere": {"$ref": "#/nowhere/0"},
    "names like keywords": {"properties": {"$ref": {"type": "string"}, "anyOf": {"$ref": "#/properties/$ref"}}},
}


@pytest.mark.parametrize("name", [*COSTLY, *CHEAP])
def test_the_cost_of_a_schema_is_that_of_its_references(name: str) -> None:
    schema = {**COSTLY, **CHEAP}[name]
    assert has_references(schema)
    assert is_costly(schema, nested(6)) == (name in COSTLY)


def test_a_deeper_value_costs_more() -> None:
    assert not is_costly(branches(3), nested(4))
    assert is_costly(branches(3), nested(20))
    assert not has_references({"properties": {"x": {"enum": ["a"]}}})
