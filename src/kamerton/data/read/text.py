"""Checking and cleaning a text: missing or wrong type, wrong encoding, invisible characters, surrounding spaces."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from kamerton.errors import Fault

Action = Callable[[str], str]  # fault code -> error, drop, fix or warn

# C0 and C1 controls except tab and line ends, replacement characters, byte-order marks, direction overrides, invisible
# operators. The joiners U+200C and U+200D are allowed: emoji and several scripts need them.
CONTROLS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200b\u2028-\u202e\u2060-\u2069\ufeff\ufffd-\uffff]")
SURROGATES = re.compile("[\ud800-\udfff]")
KINDS = {bool: "a boolean", int: "a number", float: "a number", list: "a list", dict: "an object", bytes: "bytes"}


@dataclass(frozen=True, slots=True)
class Check:
    """A check of texts: `find` returns the fault's message or None, `repair` the corrected text."""

    code: str
    find: Callable[[str], str | None]
    repair: Callable[[str], str]
    fix: str


def check_text(value: object, column: str, action: Action) -> tuple[str | None, list[Fault]]:
    """Return the text, repaired if the policy is to fix it (None if it cannot be used), and the faults."""
    faults: list[Fault] = []
    if value is None:
        fix = f"fill in {column}, or remove the row"
        return None, [Fault("missing-field", f"there is no {column}", fix, column=column)]
    if not isinstance(value, str):
        faults.append(_type_fault(value, column))
        if faults[0].code == "not-text" or action("not-a-string") != "fix":
            return None, faults
        value = str(value)
    if value.isascii() and value.isprintable() and value and value[0] != " " and value[-1] != " ":
        return value, faults  # nearly all texts
    if SURROGATES.search(value):
        message = f"{column} contains half of a surrogate pair"
        return None, [*faults, Fault("half-surrogate", message, "write whole characters", column=column)]
    for check in CHECKS:
        problem = check.find(value)
        if problem is not None:
            faults.append(Fault(check.code, f"{column} {problem}", check.fix, column=column))
            if action(check.code) == "fix":
                value = check.repair(value)
    if not value or value.isspace():
        fix = f"fill in {column}, or remove the row"
        return None, [*faults, Fault("empty-field", f"{column} is empty", fix, column=column)]
    return value, faults


def _type_fault(value: object, column: str) -> Fault:
    """Return the fault of a value that is not a string."""
    kind = KINDS.get(type(value), f"a {type(value).__name__}")
    message, fix = f"{column} is {kind}, not a string", f"write {column} as a text"
    if isinstance(value, int | float):
        return Fault("not-a-string", message, f"{fix}, or set data.policy.not-a-string=fix", column=column)
    return Fault("not-text", message, fix, column=column)


def _find_control(text: str) -> str | None:
    match = CONTROLS.search(text)
    if match is None:
        return None
    character = match.group()
    if character == "\ufffd":
        return f"has lost a character (U+FFFD at character {match.start() + 1})"
    return f"contains the control character U+{ord(character):04X} (character {match.start() + 1})"


def _find_mojibake(text: str) -> str | None:
    if text.isascii():
        return None
    repaired = _repair_encoding(text)
    if repaired == text:
        return None
    at = next((i for i, (a, b) in enumerate(zip(text, repaired, strict=False)) if a != b), len(repaired))
    return f"was decoded with the wrong encoding ({text[at : at + 8]!r}, meant {repaired[at : at + 6]!r})"


@lru_cache(maxsize=4096)
def _repair_encoding(text: str) -> str:
    import ftfy

    return ftfy.fix_encoding(text)


CHECKS = (
    Check("mojibake", _find_mojibake, _repair_encoding, "repair the encoding, or set data.policy.mojibake=fix"),
    Check(
        "control-characters",
        _find_control,
        lambda text: CONTROLS.sub("", text),
        "remove it, or set data.policy.control-characters=fix",
    ),
    Check(
        "not-nfc",
        lambda text: None if unicodedata.is_normalized("NFC", text) else "has characters in decomposed form (not NFC)",
        lambda text: unicodedata.normalize("NFC", text),
        "normalise it, or set data.policy.not-nfc=fix",
    ),
    Check(
        "outer-whitespace",
        lambda text: "has spaces around it" if text.strip() not in ("", text) else None,
        str.strip,
        "strip it, or set data.policy.outer-whitespace=fix",
    ),
)


def is_blank(value: object) -> bool:
    """Return whether a value is missing: null, NaN, blank, or a list or object of such values."""
    if isinstance(value, str):
        return not value.strip()
    if isinstance(value, Mapping):
        return all(map(is_blank, value.values()))
    if isinstance(value, Sequence):
        return all(map(is_blank, value))
    return value is None or value != value  # noqa: PLR0124 - NaN
