"""Texts of graders with parts to fill in: `{{sample.output_text}}`, `{{item.FIELD}}` and others.

`sample.output_text` is the completion, `sample.output_json.KEY` a part of it read as JSON, `sample.output_tools` its
calls of functions as `message.tool_calls` of OpenAI's API has them, `item.FIELD` a field of the row. Source: OpenAI's
guide to graders, https://developers.openai.com/api/docs/guides/graders.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

MAX_TEXT = 50_000  # characters of a filled text: a part may occur many times, and similarity is quadratic
_PART = re.compile(r"\{\{((?:(?!\{\{|\}\}).)*)\}\}", re.DOTALL)  # linear in the length of the text
_PATH = re.compile(r"\s*(sample|item)((?:\.\w+|\[\d+\])+)\s*")

Item = Mapping[str, Any]
ToolCalls = Sequence[Mapping[str, Any]] | None  # of an answer; None if they are unknown
SAMPLE = ("output_text", "output_json", "output_tools")


def item_of(prompt: str, reference: str | None, metadata: Mapping[str, Any]) -> Item:
    """Return the fields of a row that texts may name: its metadata, and unless it has such fields `prompt`,
    `completion` (if it has a reference) and `metadata`, the object that the reader has flattened.
    """
    inner = {name.removeprefix("metadata."): value for name, value in metadata.items()}
    completion = {} if reference is None else {"completion": reference}
    return {"prompt": prompt, **completion, "metadata": inner, **metadata}


def unknown_parts(template: str) -> Iterator[str]:
    """Yield the parts of a text that name nothing, without their brackets."""
    for text in _PART.findall(template):
        path = _PATH.fullmatch(text)
        if path is None or (path[1] == "sample" and _keys(path[2])[0] not in SAMPLE):
            yield text


def item_paths(template: str) -> list[tuple[str, ...]]:
    """Return the keys below `item` that a text names: a field, and what is read in it."""
    paths = [_PATH.fullmatch(text) for text in _PART.findall(template)]
    return [tuple(_keys(path[2])) for path in paths if path and path[1] == "item"]


def names_sample(template: str, part: str) -> bool:
    """Return whether a text names one of the parts `SAMPLE` of an answer."""
    paths = (_PATH.fullmatch(text) for text in _PART.findall(template))
    return any(path[1] == "sample" and _keys(path[2])[0] == part for path in paths if path)


def has_path(item: Item, path: tuple[str, ...]) -> bool:
    """Return whether a row has a field and what is read in it; null is a value of neither."""
    return _descend(item, path) is not None


def fill(template: str, completion: str, item: Item, tool_calls: ToolCalls = None) -> str:
    """Return a text with its parts; what an answer in JSON or its calls do not have is "".

    Raises `ValueError` if the row lacks a field, if calls are named and unknown, and for more than `MAX_TEXT`
    characters.
    """
    size = len(template)

    def value(match: re.Match[str]) -> str:
        nonlocal size
        path = _PATH.fullmatch(match[1])
        assert path is not None
        first, *keys = _keys(path[2])
        if path[1] == "item":
            found = _descend(item, (first, *keys))
            if found is None:
                raise ValueError(f"the row has no field {'.'.join((first, *keys))!r}, which the grader reads")
        elif first == "output_tools":
            if tool_calls is None:
                raise ValueError("the calls of the answer are unknown, and the grader reads sample.output_tools")
            found = _descend(tool_calls or None, keys)  # OpenAI's API has null for an answer without calls
        else:
            found = completion if first == "output_text" else _descend(_json(completion), keys)
        text = found if isinstance(found, str) else "" if found is None else json.dumps(found, ensure_ascii=False)
        size += len(text)
        if size > MAX_TEXT:
            raise ValueError(f"the grader would compare a text of more than {MAX_TEXT:,} characters")
        return text

    return _PART.sub(value, template)


def _keys(path: str) -> list[str]:
    return re.findall(r"\w+", path)


def _descend(value: Any, keys: tuple[str, ...] | list[str]) -> Any:
    """Return the part of a JSON value below `keys`; None if it has none."""
    for key in keys:
        if isinstance(value, Mapping):
            value = value.get(key)
        elif isinstance(value, list) and key.isdecimal() and len(key) < 10 and int(key) < len(value):
            value = value[int(key)]
        else:
            return None
    return value


def is_json(text: str) -> bool:
    """Return whether a text is JSON."""
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _json(text: str) -> Any:
    return json.loads(text) if is_json(text) else None
