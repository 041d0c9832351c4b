"""How a model's template writes calls, and the grammar of calls in this form whose arguments fit their schemas.

The form is read from renderings of calls with a placeholder for the name. A form has a grammar if arguments are written
as JSON, as most are; the tags of Qwen Coder are not.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llguidance import LLTokenizer

from kamerton.data.example import DataExample, Message, ToolCall
from kamerton.data.read.conversations.call_text import MISTRAL, PYTHON
from kamerton.server.generation.grammar import json_rule
from kamerton.server.generation.model_cache import Served

_NAME, _ID = "kamerton_function", "kamerton1"  # placeholders; ids of Mistral have nine letters and digits
_ARGUMENTS = {"kamerton": 1}
_TAGS = ("<tool_call>", MISTRAL, PYTHON, "to=functions.")
_SPECIAL = 0xE000  # special tokens within texts are characters of the private use area from here on


@dataclass(frozen=True, slots=True)
class CallForm:
    """The text before the first arguments, between those of two calls (None if an answer has one call), and after them.

    The names of functions and the ids of calls are placeholders, and special tokens characters, which `tokens` lists.
    """

    before: str
    between: str | None
    after: str
    tokens: tuple[int, ...]
    names: tuple[str, ...]

    def tag(self) -> str | None:
        """Return the text with which a call begins, wherever it occurs in an answer; None for forms without one."""
        before = self._plain(self.before)
        return next((tag for tag in _TAGS if tag in before), None)

    def rules(self, schemas: Mapping[str, tuple[Any, bool]], *, single: bool, tag: str | None = None) -> str:
        """Return the rule `calls`: one or more calls, each of a function in `schemas` with arguments that fit.

        A schema comes with whether unsupported keywords are ignored. With `single` there is one call. With `tag` the
        rule begins after it, and has one call unless the form writes several after one tag.
        """
        before = self.before if tag is None else self._after_tag(tag)
        repeated = tag is not None and self.between is not None and tag in self._plain(self.between)
        between = None if single or repeated else self.between
        lines = [f"calls: first {'more* ' if between else ''}{self._items(self.after)}"]
        for rule, text in (("first", before), ("more", between)):
            if text is None:
                continue
            lines.append(f"{rule}: " + " | ".join(f"{rule}_{i}" for i in range(len(schemas))))
            begin, _, end = text.partition(_NAME)
            for i, name in enumerate(schemas):
                lines.append(f"{rule}_{i}: {self._items(begin)} {_literal(name)} {self._items(end)} arguments_{i}")
        for i, (schema, lenient) in enumerate(schemas.values()):
            lines.append(f"arguments_{i}: {json_rule(schema, compact=True, lenient=lenient)}")
        return "\n".join(lines) + "\n"

    def _plain(self, text: str) -> str:
        """Return a text with the strings of its special tokens."""
        return "".join(self.names[ord(c) - _SPECIAL] if self._is_special(c) else c for c in text)

    def _after_tag(self, tag: str) -> str:
        """Return the part of `before` that follows the tag."""
        for size in range(len(self.before) + 1):
            if tag in self._plain(self.before[:size]):
                return self.before[size:]
        raise ValueError(f"{tag} does not occur")

    def _is_special(self, character: str) -> bool:
        return 0 <= ord(character) - _SPECIAL < len(self.tokens)

    def _items(self, text: str) -> str:
        """Return the items of a rule for a text."""
        items = []
        for part in _split(text, self._is_special):
            if self._is_special(part[:1]):
                items.append(f"<[{self.tokens[ord(part) - _SPECIAL]}]>")
            else:
                items.append("/[A-Za-z0-9]{9}/" if part == _ID else _literal(part))
        return " ".join(items)


def call_form(served: Served, tokenizer: LLTokenizer, turns: Sequence[Message], tools: str) -> CallForm | None:
    """Return the form of calls that answer these turns; None if their arguments are not written as JSON."""
    special: dict[int, str] = {}

    def render(*arguments: dict[str, Any]) -> str:
        calls = tuple(ToolCall(_NAME, json.dumps(each), _ID) for each in arguments)
        text = ""
        run: list[int] = []
        for token in served.stretches.completion_of(DataExample(tuple(turns), "", tool_calls=calls, tools=tools)):
            if token in served.ends:
                break
            if tokenizer.is_special_token(token):
                special.setdefault(token, served.tokenizer.convert_ids_to_tokens(token))
                text += tokenizer.decode_bytes(run).decode() + chr(_SPECIAL + list(special).index(token))
                run = []
            else:
                run.append(token)
        return text + tokenizer.decode_bytes(run).decode()

    try:
        texts = _around(render(_ARGUMENTS))
        if len(texts) != 2 or render({}) != f"{texts[0]}{{}}{texts[1]}":
            return None
    except Exception:  # a template is a program: it may raise anything
        return None
    before, after = texts
    try:
        several = _around(render(_ARGUMENTS, _ARGUMENTS))
    except Exception:
        several = []
    between = several[1] if len(several) == 3 and (several[0], several[2]) == (before, after) else None
    if before.count(_NAME) != 1 or _NAME in after or (between is not None and between.count(_NAME) != 1):
        return None
    return CallForm(before, between, after, tuple(special), tuple(special.values()))


def _around(text: str) -> list[str]:
    """Return the texts before, between and after the JSON of `_ARGUMENTS`."""
    parts, at = [], 0
    while (key := text.find('"kamerton"', at)) >= 0 and (begin := text.rfind("{", at, key)) >= 0:
        value, end = json.JSONDecoder().raw_decode(text, begin)
        if value != _ARGUMENTS:
            return []
        parts.append(text[at:begin])
        at = end
    return [*parts, text[at:]]


def _split(text: str, is_special: Callable[[str], bool]) -> list[str]:
    """Return the pieces of a text: special tokens, the placeholder of an id, and what is between them."""
    pieces = [""]
    for character in text.replace(_ID, "\0"):
        if is_special(character) or character == "\0":
            pieces += [_ID if character == "\0" else character, ""]
        else:
            pieces[-1] += character
    return [piece for piece in pieces if piece]


def _literal(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
