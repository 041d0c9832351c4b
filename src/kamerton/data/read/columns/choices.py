"""Multiple choice: the choices of a row as a lettered list, and the letter of its answer."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from string import ascii_uppercase

from kamerton.data.read.nested import unpacked
from kamerton.data.template import ANSWERS

TEXT_KEYS = ("text", "texts", "choices", "options")
LABEL_KEYS = ("label", "labels", "key", "keys")
MAX_LABEL = 2  # characters of a label such as A or (1)


@dataclass(frozen=True, slots=True)
class Answer:
    """How an answer names its choice: one of `ANSWERS`."""

    kind: str


@dataclass(frozen=True, slots=True)
class Option:
    """A choice; `label` is its own letter or number, "" without one."""

    text: str
    label: str = ""


def options_of(values: Sequence[object], names: Sequence[str]) -> list[Option]:
    """Return the choices in a column, or in several columns (empty ones at the end are left out).

    A column is a list of texts, a list of objects with a text and a label, an object of both lists, one of texts by
    label, or one of flags by text. Columns are labelled by the ends of their names. An empty list for other values.
    """
    if len(values) > 1:
        labels = endings(names)
        options = [Option(_text(value), label) for value, label in zip(values, labels, strict=True)]
        while options and not options[-1].text.strip():
            options.pop()
        return options
    value = unpacked(values[0])
    if isinstance(value, Mapping):
        if _are_flags(list(value.values())) and all(len(str(text)) > MAX_LABEL for text in value):
            return [Option(str(text)) for text in value]  # the flag of each text (TruthfulQA)
        texts = next((value[key] for key in TEXT_KEYS if isinstance(value.get(key), list)), None)
        if texts is None:
            return [Option(_text(text), str(label)) for label, text in value.items() if text is not None]
        own = next((value[key] for key in LABEL_KEYS if isinstance(value.get(key), list)), [""] * len(texts))
        return [Option(_text(text), _text(label)) for text, label in zip(texts, own, strict=False)]
    if isinstance(value, list):
        return [_option(item) for item in value]
    return []


def _option(item: object) -> Option:
    if not isinstance(item, Mapping):
        return Option(_text(item))
    text = next((item[key] for key in ("text", "value", "content", "option") if key in item), None)
    label = next((item[key] for key in LABEL_KEYS if key in item), "")
    return Option(_text(text), _text(label))


def _text(value: object) -> str:
    return value if isinstance(value, str) else "" if value is None else str(value)


def endings(names: Sequence[str]) -> list[str]:
    """Return what is left of names without the beginning that they share: `A`, `B`, or `1`, `2`."""
    shared = 0
    while len({name[: shared + 1] for name in names}) == 1 and all(len(name) > shared + 1 for name in names):
        shared += 1
    return [name[shared:] for name in names]


def lettered(options: Sequence[Option]) -> str | None:
    """Return the choices as lines `A. text`; None if there are too few, too many, or one is blank."""
    if not 2 <= len(options) <= len(ascii_uppercase) or not all(option.text.strip() for option in options):
        return None
    pairs = list(zip(ascii_uppercase, (option.text.strip() for option in options), strict=False))
    if all(re.match(rf"\(?{letter}[).:]", text) for letter, text in pairs):  # with letters of their own
        pairs = [(letter, text.removeprefix("(")[2:].strip() or text) for letter, text in pairs]
    return "\n".join(f"{letter}. {text}" for letter, text in pairs)


def letter_of(answer: Answer, value: object, options: Sequence[Option]) -> str | None:
    """Return the letter of the choice that the answer names; None if it names none, or several."""
    if answer.kind == "choice":
        matches = [i for i, option in enumerate(options) if option.text.strip() == str(value).strip()]
    elif answer.kind == "letter":
        matches = _by_label(value, options)
    elif answer.kind == "flags":
        flags = flags_of(value)
        matches = [i for i, flag in enumerate(flags) if flag] if len(flags) == len(options) else []
    else:
        number = _number(value)
        position = None if number is None else number - int(answer.kind == "index1")
        matches = [position] if position is not None and 0 <= position < len(options) else []
    return ascii_uppercase[matches[0]] if len(matches) == 1 else None


def flags_of(value: object) -> list[bool]:
    """Return the flags of choices, 1 or true for the right ones: a list, or the values or labels of an object.

    An empty list for other values.
    """
    value = unpacked(value)
    if isinstance(value, Mapping):
        value = next((value[key] for key in LABEL_KEYS if isinstance(value.get(key), list)), [*value.values()])
    return [bool(flag) for flag in value] if isinstance(value, list) and _are_flags(value) else []


def _are_flags(values: list[object]) -> bool:
    return len(values) > 1 and all(isinstance(value, int) and value in (0, 1) for value in values)


def _by_label(value: object, options: Sequence[Option]) -> list[int]:
    text = str(value).strip().strip("().:").upper()
    labelled = [i for i, option in enumerate(options) if option.label and option.label.strip("().:").upper() == text]
    if labelled or len(text) != 1 or text not in ascii_uppercase:
        return labelled
    position = ascii_uppercase.index(text)
    return [position] if position < len(options) else []


def _number(value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    text = str(value).strip().removesuffix(".0")
    return int(text) if re.fullmatch(r"\d{1,3}", text) else None


def answer_kinds(rows: Sequence[tuple[object, Sequence[Option]]]) -> list[str]:
    """Return the kinds of answer that give one choice in each row (answer and choices); of equal ones the first."""
    results: dict[tuple[str | None, ...], str] = {}
    for kind in ANSWERS:
        letters = tuple(letter_of(Answer(kind), value, options) for value, options in rows)
        if rows and None not in letters:
            results.setdefault(letters, kind)
    return list(results.values())
