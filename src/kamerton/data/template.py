"""Templates over the columns of a row, as in `{context?}` and `{question}`: parsing, checking and filling.

A field is `{name}`, with optional lookups (`{answers.text[0]}`), a filter (`{choices:letters}`) and `?` if it may be
empty: a paragraph whose fields are all optional and empty is left out. Double braces are braces; a backslash with n, t
or a backslash is a line break, a tab and a backslash. Nothing is executed: a lookup only reads keys of objects and
items of lists.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property, lru_cache

from kamerton.errors import Fault

Path = tuple[str | int, ...]  # a column, then keys and positions
ANSWERS = {  # filters of an answer → what it is
    "letter": "the letter",
    "choice": "the text",
    "index0": "the position from 0",
    "index1": "the position from 1",
    "flags": "the list of 0 and 1",
}
JOINS = {"lines": "\n", "list": ", ", "words": " "}
FILTERS = (*JOINS, "json", "letters", *ANSWERS)
_TOKEN = re.compile(r"\{\{|\}\}|\\[nt\\]|\{([^{}]*)\}|[{}]|[^{}\\]+|\\")
_ESCAPES = {"{{": "{", "}}": "}", r"\n": "\n", r"\t": "\t", "\\\\": "\\"}
_LOOKUPS = re.compile(r"(?:\.[^.\[\]]+|\[\d+\])+")
_LOOKUP = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]")


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a template as it is written, between its braces."""

    source: str


@dataclass(frozen=True)
class BoundField:
    """A field with the columns that it reads; only `letters` reads several."""

    source: str
    paths: tuple[Path, ...]
    filter: str = ""
    optional: bool = False

    @cached_property
    def name(self) -> str:
        """The field without its filter and mark, for messages."""
        return ",".join(path_text(path) for path in self.paths)


@dataclass(frozen=True)
class Template:
    """A template bound to the columns of a file. `paragraphs` are texts and fields, joined by blank lines."""

    source: str
    paragraphs: tuple[tuple[str | BoundField, ...], ...]
    choices: BoundField | None = None  # the choices whose letter the completion is

    @cached_property
    def fields(self) -> tuple[BoundField, ...]:
        return tuple(part for paragraph in self.paragraphs for part in paragraph if not isinstance(part, str))

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """The columns that the template reads, each once."""
        return tuple(dict.fromkeys(str(path[0]) for field in self.fields for path in field.paths))

    @property
    def required(self) -> tuple[str, ...]:
        """The columns of the fields that may not be empty."""
        fields = [field for field in self.fields if not field.optional]
        return tuple(dict.fromkeys(str(path[0]) for field in fields for path in field.paths[:1]))


@lru_cache(maxsize=256)
def parse(source: str) -> tuple[str | Field, ...] | str:
    """Return the texts and fields of a template, or in words why it is invalid."""
    parts: list[str | Field] = []
    for token in _TOKEN.finditer(source):
        text, inner = token[0], token[1]
        if inner is not None:
            if not inner.strip("?: "):
                return "a field has no name"
            parts.append(Field(inner))
        elif text in ("{", "}"):
            return f"the brace at character {token.start() + 1} belongs to no field"
        elif parts and isinstance(parts[-1], str):
            parts[-1] += _ESCAPES.get(text, text)
        else:
            parts.append(_ESCAPES.get(text, text))
    return tuple(parts)


def check_template(source: str, key: str) -> list[Fault]:
    """Return the fault of an invalid template, without any file."""
    parsed = parse(source)
    if isinstance(parsed, str):
        message = f"{key} is {source!r}: {parsed}"
        return [Fault("bad-value", message, "name a column as {name}, and write braces as {{ and }}", column=key)]
    return []


def bind(source: str, present: Collection[str], key: str, choices: BoundField | None = None) -> Template | Fault:
    """Return the template for rows with these columns, or the fault of its first unknown column.

    `choices` is the field whose choices the answer filters look at.
    """
    parsed = parse(source)
    assert not isinstance(parsed, str), parsed  # checked before any file is read
    paragraphs: list[list[str | BoundField]] = [[]]
    for part in parsed:
        if isinstance(part, str):
            first, *rest = part.split("\n\n")
            paragraphs[-1].append(first)
            paragraphs += [[text] for text in rest]
            continue
        field = bind_field(part.source, present)
        if isinstance(field, str):
            return _unknown_fault(field, part, present, key)
        paragraphs[-1].append(field)
    bound = Template(source, tuple(tuple(filter(None, paragraph)) for paragraph in paragraphs), choices)
    answers = [field.source for field in bound.fields if field.filter in ANSWERS]
    if answers and choices is None:
        message = f"{{{answers[0]}}} in {key} is the letter of a choice, and data.prompt lists no choices"
        return Fault("bad-value", message, "add the choices to data.prompt: {choices:letters}", column=key)
    return bound


def bind_field(source: str, present: Collection[str]) -> BoundField | str:
    """Return the field with its columns; the name of the unknown column if a column is missing."""
    if source in present:
        return BoundField(source, ((source,),))
    name, optional = (source[:-1], True) if source.endswith("?") else (source, False)
    if name in present:
        return BoundField(source, ((name,),), "", optional)
    before, colon, word = name.rpartition(":")
    filter_name = word.strip() if colon and word.strip() in FILTERS else ""
    if filter_name:
        name = before
    paths = []
    for part in name.split(",") if filter_name == "letters" and name not in present else [name]:
        path = _bind_path(part.strip(), present)
        if path is None:
            return re.split(r"[.\[]", part.strip())[0] or part
        paths.append(path)
    return BoundField(source, tuple(paths), filter_name, optional)


def _bind_path(text: str, present: Collection[str]) -> Path | None:
    """Return the longest column that the text begins with, and the lookups in the rest."""
    for end in range(len(text), 0, -1):
        rest = text[end:]
        if text[:end] in present and (not rest or _LOOKUPS.fullmatch(rest)):
            return (text[:end], *(key or int(index) for key, index in _LOOKUP.findall(rest)))
    return None


def optional_columns(source: str, present: Collection[str]) -> list[str]:
    """Return the columns of optional fields of a template that are not among `present`."""
    parsed = parse(source)
    fields = [part.source for part in parsed if isinstance(part, Field)]
    missing = [bind_field(field, present) for field in fields if field.endswith("?")]
    return [name for name in missing if isinstance(name, str)]


def _unknown_fault(name: str, field: Field, present: Collection[str], key: str) -> Fault:
    columns = list(present)
    if name in present:
        message = f"{{{field.source}}} in {key} begins with the column {name!r}, and what follows is no key or position"
        fix = f"write a key as {{{name}.key}}, a position, from 0, as {{{name}[0]}}"
        return Fault("unknown-column", message, fix, column=name)
    near = difflib.get_close_matches(name.lower(), [column.lower() for column in columns], n=1, cutoff=0.5)
    fix = f"name one of them as {{name}} in {key}; write braces of the text as {{{{ and }}}}"
    if near:
        closest = next(column for column in columns if column.lower() == near[0])
        fix = f"write {{{field.source.replace(name, closest, 1)}}} in {key}"
    listed = ", ".join(column[:40] for column in columns[:12]) or "none"
    return Fault("unknown-column", f"there is no column {name!r} (columns: {listed})", fix, column=name)


def quoted_braces(text: str) -> str:
    """Return a text as a template without fields."""
    return text.replace("\\", "\\\\").replace("{", "{{").replace("}", "}}").replace("\n", "\\n").replace("\t", "\\t")


def path_text(path: Path) -> str:
    return str(path[0]) + "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path[1:])
