"""Checking and cleaning one text: is it there, is it a text, is it the text that was meant."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from kamerton.errors import Fault

Action = Callable[[str], str]  # fault code -> error, drop, fix or warn

# C0 and C1 controls but tab and line ends, lost characters, byte-order marks, direction overrides, invisible
# operators. The joiners U+200C and U+200D stay: emoji and several scripts need them.
CONTROLS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200b\u2028-\u202e\u2060-\u2069\ufeff\ufffd-\uffff]")
SURROGATES = re.compile("[\ud800-\udfff]")
KINDS = {bool: "a boolean", int: "a number", float: "a number", list: "a list", dict: "an object", bytes: "bytes"}


@dataclass(frozen=True, slots=True)
class Check:
    """What is wrong with a text (None: nothing), and the text mended."""

    code: str
    find: Callable[[str], str | None]
    mend: Callable[[str], str]
    fix: str


def checked(value: object, column: str, action: Action) -> tuple[str | None, list[Fault]]:
    """Return the text, mended where the policy says fix, and all that is wrong with it; None where no text can be had."""
    faults: list[Fault] = []
    if value is None:
        return None, [
            Fault("missing-field", f"there is no {column}", f"fill in {column}, or remove the row", column=column)
        ]
    if not isinstance(value, str):
        faults.append(_not_a_string(value, column))
        if not isinstance(value, int | float) or action("not-a-string") != "fix":
            return None, faults
        value = str(value)
    if value.isascii() and value.isprintable() and value and value[0] != " " and value[-1] != " ":
        return value, faults  # what nearly every text is
    if SURROGATES.search(value):
        message = f"{column} holds half of a surrogate pair"
        return None, [*faults, Fault("half-surrogate", message, "write whole characters", column=column)]
    for check in CHECKS:
        found = check.find(value)
        if found is not None:
            faults.append(Fault(check.code, f"{column} {found}", check.fix, column=column))
            if action(check.code) == "fix":
                value = check.mend(value)
    if not value or value.isspace():
        fix = f"fill in {column}, or remove the row"
        return None, [*faults, Fault("empty-field", f"{column} is empty", fix, column=column)]
    return value, faults


def _not_a_string(value: object, column: str) -> Fault:
    kind = KINDS.get(type(value), f"a {type(value).__name__}")
    message, fix = f"{column} is {kind}, not a string", f"write {column} as a text"
    if isinstance(value, int | float):
        return Fault("not-a-string", message, f"{fix}, or set data.policy.not-a-string=fix", column=column)
    return Fault("not-text", message, fix, column=column)


def _controls(text: str) -> str | None:
    found = CONTROLS.search(text)
    if found is None:
        return None
    character = found.group()
    if character == "\ufffd":
        return f"has lost a character (U+FFFD at character {found.start() + 1})"
    return f"holds the control character U+{ord(character):04X} (character {found.start() + 1})"


def _mojibake(text: str) -> str | None:
    if text.isascii():
        return None
    repaired = _repaired(text)
    if repaired == text:
        return None
    at = next((i for i, (a, b) in enumerate(zip(text, repaired, strict=False)) if a != b), len(repaired))
    return f"was decoded with the wrong encoding ({text[at : at + 8]!r}, meant {repaired[at : at + 6]!r})"


@lru_cache(maxsize=4096)
def _repaired(text: str) -> str:
    import ftfy

    return ftfy.fix_encoding(text)


def _not_nfc(text: str) -> str | None:
    return None if unicodedata.is_normalized("NFC", text) else "has characters in decomposed form (not NFC)"


def _outer_whitespace(text: str) -> str | None:
    bare = text.strip()
    return "has spaces around it" if bare and bare != text else None


CHECKS = (
    Check("mojibake", _mojibake, _repaired, "repair the encoding, or set data.policy.mojibake=fix"),
    Check(
        "control-characters",
        _controls,
        lambda text: CONTROLS.sub("", text),
        "remove it, or set data.policy.control-characters=fix",
    ),
    Check(
        "not-nfc",
        _not_nfc,
        lambda text: unicodedata.normalize("NFC", text),
        "normalise it, or set data.policy.not-nfc=fix",
    ),
    Check("outer-whitespace", _outer_whitespace, str.strip, "strip it, or set data.policy.outer-whitespace=fix"),
)
