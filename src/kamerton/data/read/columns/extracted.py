"""Texts with what is to be found in them: entities, relations, tags. A fault with the settings that write them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kamerton.data.read.columns.kinds import snake_case
from kamerton.data.read.columns.named import ANSWER_NAMES, LABELS, Columns
from kamerton.data.read.columns.propose import template_settings, unclear
from kamerton.data.read.nested import is_printed, unpacked
from kamerton.data.read.text import is_blank
from kamerton.errors import Fault
from kamerton.shell import setting
from kamerton.words import listed

TEXTS = ("text", "sentence", "content", "passage", "input")
PLAIN_TEXTS = ("text", "sentence", "input")  # names that are found without a setting, if there is no prompt
FOUND = (
    *("result_list", "entities", "entity_list", "entity", "relations", "relation", "relation_list", "triples"),
    *("triplets", "spo_list", "events", "event_list", "spans"),
)
CLASSES = (*LABELS, "labels", "category", "categories", "class", "intent", "emotion", "emotions", "tags", "topics")


def extracted(columns: Columns) -> Fault | None:
    """Return the fault of texts with lists of what they mention, as UIE and exports of annotations have them."""
    text, lists = columns.find(TEXTS), _lists(columns)
    if text is None or not lists or not isinstance(columns.sample(text), str):
        return None
    if columns.find((*LABELS, *ANSWER_NAMES, "intent", "class")):
        return None
    asked = columns.names.get("prompt")
    prompt = f"{{{text}}}" + (f"\\n\\n{{{asked}}}" if asked and asked != text else "")
    template = None if snake_case(text) in PLAIN_TEXTS and asked is None else prompt
    ways = [(template_settings(template, field), meaning) for field, meaning in _fields(lists)]
    if asked is None:
        ways.append((setting("data.columns.text", text), "trains on the texts alone"))
    message = f"the texts have lists of what they mention ({listed(list(lists))})"
    return unclear(message, ways, next(iter(lists)))


def _lists(columns: Columns) -> dict[str, Mapping[str, object]]:
    """Return the first item of each column with a list of objects."""
    items = {}
    for name in columns.filled(FOUND):
        value = unpacked(columns.sample(name))
        if isinstance(value, list) and all(isinstance(item, Mapping) for item in value):
            items[name] = value[0]
    return items


def _fields(lists: Mapping[str, Mapping[str, object]]) -> list[tuple[str, str]]:
    """Return the templates that write the lists, each with its meaning."""
    every = "\\n".join(f"{name}: {{{name}:json}}" for name in lists)
    if len(lists) > 1:
        alone = [name for name, item in lists.items() if not {"from_id", "to_id"} & set(item)]
        return [(every, "writes them as JSON"), *((f"{{{name}:json}}", f"{name} alone") for name in alone[:2])]
    ((name, item),) = lists.items()
    as_json = f"{{{name}:json}}", "writes them as JSON"
    if "text" not in item or {"label", "type", "labels"} & set(item):
        return [as_json]
    return [(f"{{{name}.text:json}}", "writes the texts that are found as a list of JSON, without places"), as_json]


def tagged_words(columns: Columns) -> Fault | None:
    """Return the fault of words with a tag each."""
    words = columns.find(("tokens", "words"))
    tags = [name for key, name in columns.names.items() if key in ("tags", "labels") or key.endswith("_tags")]
    tags.sort(key=lambda name: "ner" not in name)
    if words is None or not tags or not isinstance(unpacked(columns.sample(words)), list):
        return None
    settings = template_settings(f"{{{words}:words}}", f"{{{tags[0]}:list}}")
    return unclear("the rows are words with a tag each", [(settings, f"writes {tags[0]} with commas")], words)


def printed_labels(columns: Columns) -> Fault | None:
    """Return the fault of labels that are lists as Python prints them, which would be learnt with their brackets."""
    text, label = columns.find(TEXTS), columns.find(CLASSES)
    values = _values(columns, label)
    if text is None or label is None or not values or not all(map(is_printed, values)):
        return None
    lists = [unpacked(value) for value in values]
    if not all(isinstance(items, list) and all(isinstance(item, str | int) for item in items) for items in lists):
        return None
    template = None if snake_case(text) in PLAIN_TEXTS else f"{{{text}}}"
    ways = [
        (template_settings(template, f"{{{label}:list}}"), "writes them with commas"),
        (setting("data.columns.completion", label), "writes the brackets as well"),
    ]
    return unclear(f"{label} has lists as Python prints them ({str(values[0])[:40]})", ways, label)


def _values(columns: Columns, name: str | None) -> Sequence[object]:
    return [record[name] for record in columns.head if not is_blank(record.get(name))] if name else []
