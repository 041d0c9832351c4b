"""Parameters of a function that are a list of names with Python's types, as in xLAM's data, as a JSON schema."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

TYPES = {
    **dict.fromkeys(("str", "string"), "string"),
    **dict.fromkeys(("int", "integer"), "integer"),
    **dict.fromkeys(("float", "number"), "number"),
    **dict.fromkeys(("bool", "boolean"), "boolean"),
    **dict.fromkeys(("list", "array", "tuple", "set"), "array"),
    **dict.fromkeys(("dict", "object"), "object"),
}


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
    kind = TYPES.get(match[1].lower()) if match else None
    if match is None or kind is None:
        return {}
    items = _type_schema(match[2]) if kind == "array" and match[2] and "," not in match[2] else {}
    return {"type": kind} | ({"items": items} if items else {})
