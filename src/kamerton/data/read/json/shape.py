"""The shape of JSON values: which of them are records, and where lists of records are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from kamerton.data.options import Columns
from kamerton.data.read.columns.schema import CHAT_NAMES, COMPLETION_NAMES, PROMPT_NAMES

MAX_DEPTH = 6
TURN_KEYS = {"role", "from"}
MISSING = object()  # in place of the records of an object that has none at their path


def is_turns(value: object) -> bool:
    """Return whether a value is a list of chat turns."""
    return isinstance(value, list) and bool(value) and all(isinstance(t, dict) and TURN_KEYS & set(t) for t in value)


def is_scalar(value: object) -> bool:
    """Return whether a value is a text, a number, a boolean or null."""
    return value is None or isinstance(value, str | int | float)


def known_names(value: Mapping[str, Any], columns: Columns) -> list[str]:
    """Return the keys that hold a prompt, a completion or turns, by the configured or usual names of columns."""
    configured = [name for name in asdict(columns).values() if isinstance(name, str) and name in value]
    usual = [name for name in (*PROMPT_NAMES, *COMPLETION_NAMES) if name in value]
    return [
        *configured,
        *(name for name in usual if is_scalar(value[name]) or is_turns(value[name])),
        *(name for name in CHAT_NAMES if is_turns(value.get(name))),
    ]


def has_usual_name(value: Mapping[str, Any], columns: Columns) -> bool:
    """Return whether an object has a key that names a prompt, a completion or turns, whatever its value."""
    configured = [name for name in asdict(columns).values() if isinstance(name, str)]
    return any(name in value for name in (*PROMPT_NAMES, *COMPLETION_NAMES, *CHAT_NAMES, *configured))


def is_record(value: Mapping[str, Any], columns: Columns) -> bool:
    """Return whether an object is certainly a record: it has turns, or both a prompt and a completion."""
    names = known_names(value, columns)
    return len(names) > 1 or any(is_turns(value[name]) for name in names)


def record_paths(value: object, columns: Columns, path: str = "", depth: int = 0) -> Iterator[tuple[str, bool]]:
    """Yield the path of each list of objects in a value, and whether its objects have a usual column.

    The first object of a list stands for all.
    """
    if isinstance(value, list):
        if not value or not all(isinstance(item, dict) for item in value) or is_turns(value):
            return
        yield path, bool(known_names(value[0], columns))
        value, path = value[0], f"{path}[]"
    if isinstance(value, dict) and depth < MAX_DEPTH:
        for key, item in value.items():
            yield from record_paths(item, columns, f"{path}.{key}" if path else key, depth + 1)


def path_steps(path: str) -> list[str]:
    """Return the keys of a path such as `data[].paragraphs[].qas[]`; lists need no mark."""
    return [step for step in path.replace("[]", "").split(".") if step]


def nested_records(value: Any, steps: list[str], carried: dict[str, Any]) -> Iterator[Any]:
    """Yield the records at the keys `steps`, through all lists on the way; `MISSING` for an object without the key.

    Texts and numbers of the objects on the way become fields of the records, as `outer.NAME` if a record has the name
    itself.
    """
    if not steps:
        if isinstance(value, dict) and carried:
            value = {**{(f"outer.{name}" if name in value else name): item for name, item in carried.items()}, **value}
        yield value
        return
    for item in value if isinstance(value, list) else [value]:
        inner = item.get(steps[0]) if isinstance(item, dict) else None
        if inner is None:
            yield MISSING
            continue
        around = {name: other for name, other in item.items() if name != steps[0] and is_scalar(other)}
        for record in inner if isinstance(inner, list) else _records_of(inner) if len(steps) == 1 else [inner]:
            yield from nested_records(record, steps[1:], {**carried, **around})


def _records_of(value: Any) -> Iterator[Any]:
    """Yield the records of an object at the end of a path: those by id, of a table, or itself."""
    if not isinstance(value, dict):
        yield value
    elif is_numbered(value) or are_columns(value):
        yield from table_rows(value)
    elif value and all(isinstance(item, dict) for item in value.values()):
        yield from (with_id(key, item) for key, item in value.items())
    else:
        yield value


def with_id(key: str, record: dict[str, Any]) -> dict[str, Any]:
    """Return a record with its key as the field `id`, or `outer.id` if it has another id itself."""
    return {"id" if str(record.get("id", key)) == key else "outer.id": key, **record}


def with_intent(value: Any, intent: str) -> Any:
    """Return a text in parts as a row with its intent and its entities; other values unchanged."""
    parts = value.get("data") if isinstance(value, dict) else None
    if not isinstance(parts, list) or not all(isinstance(part, dict) for part in parts):
        return value
    if not all(isinstance(part.get("text"), str) for part in parts):
        return value
    entities = [{"text": part["text"], "label": part["entity"]} for part in parts if part.get("entity")]
    return {"text": "".join(part["text"] for part in parts), "intent": intent, "entities": entities}


def is_numbered(value: Mapping[str, Any]) -> bool:
    """Return whether an object holds columns whose values are numbered, as pandas writes tables."""
    first = next(iter(value.values()), None)
    if not isinstance(first, dict) or not first or all(name.isdecimal() for name in value):
        return False
    return all(isinstance(column, dict) and column.keys() == first.keys() for column in value.values()) and all(
        name.isdecimal() for name in first
    )


def are_columns(value: Mapping[str, Any]) -> bool:
    """Return whether an object holds columns, lists of which one has texts or numbers, perhaps beside single values."""
    lists = [item for item in value.values() if isinstance(item, list)]
    return (
        any(column and is_scalar(column[0]) for column in lists)
        and all(is_scalar(item) or isinstance(item, list) for item in value.values())
        and not any(isinstance(item, dict) for column in lists for item in column)
    )


def table_rows(value: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the rows of a table that is held by columns; single values are the same in all rows."""
    if is_numbered(value):
        value = {name: list(column.values()) for name, column in value.items()}
    elif isinstance(value.get("columns"), list) and isinstance(value.get("data"), list):
        yield from (dict(zip(value["columns"], row, strict=True)) for row in value["data"])
        return
    single = {name: item for name, item in value.items() if not isinstance(item, list)}
    columns = {name: item for name, item in value.items() if isinstance(item, list)}
    for row in zip(*columns.values(), strict=True):
        yield {**single, **dict(zip(columns, row, strict=True))}
