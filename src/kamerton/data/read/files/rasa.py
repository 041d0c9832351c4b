"""Training examples of intents in Rasa's YAML: a text for each line of `examples`, its entities in brackets."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from kamerton.errors import Fault

ENTITY = re.compile(r"\[([^\[\]]+)\](?:\(([^()]+)\)|(\{[^{}]*\}))")  # [Oslo](city), [Oslo]{"entity": "city"}
OTHERS = ("synonym", "regex", "lookup")  # entries that are no examples
Row = tuple[int, dict[str, Any] | Fault]


def rasa_rows(text: str, name: str) -> list[Row] | None:
    """Return the texts of a YAML document with their intents; None if it has none.

    A warning counts the other parts of the document.
    """
    import yaml

    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError):
        return None
    sections = _fields(root)
    entries = getattr(sections.get("nlu"), "value", None)
    if not isinstance(entries, list):
        return None
    left = [key for key in sections if key not in ("version", "nlu")]
    rows: list[Row] = []
    for entry in entries:
        fields = _fields(entry)
        examples, intent = fields.get("examples"), getattr(fields.get("intent"), "value", None)
        if not isinstance(intent, str) or examples is None:
            left += [f"nlu {key}" for key in fields if key in OTHERS] or ["an entry of nlu"]
            continue
        rows += [(line, _row(said, intent)) for line, said in _examples(examples)]
    if not rows:
        return None
    if left:
        message = f"not read in this file: {', '.join(dict.fromkeys(left))}"
        rows.append((0, Fault("not-read", message, "nothing, if that is intended", name, severity="warning")))
    return rows


def _fields(node: Any) -> dict[str, Any]:
    """Return the values of a mapping by their keys; {} for other nodes."""
    pairs = node.value if getattr(node, "id", "") == "mapping" else []
    return {str(key.value): value for key, value in pairs}


def _examples(node: Any) -> Iterator[tuple[int, str]]:
    """Yield the examples of an intent with their lines: lines that begin with a dash, or objects with a text."""
    if node.id == "sequence":
        for item in node.value:
            said = _fields(item).get("text", item)
            if isinstance(said.value, str):
                yield said.start_mark.line + 1, said.value.strip().removeprefix("- ").strip()
        return
    first = node.start_mark.line + (2 if node.style in ("|", ">") else 1)
    for place, line in enumerate(str(node.value).split("\n")):
        if line.strip():
            yield first + place, line.strip().removeprefix("-").strip()


def _row(said: str, intent: str) -> dict[str, Any]:
    entities = []
    for match in ENTITY.finditer(said):
        try:
            label = match[2] or json.loads(match[3]).get("entity")
        except (ValueError, AttributeError):
            continue
        entities.append({"text": match[1], "label": label})
    return {"text": ENTITY.sub(r"\1", said), "intent": intent, "entities": entities}
