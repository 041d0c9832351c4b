"""Overrides that Hydra's grammar cannot read: the fault, and what to type instead."""

from __future__ import annotations

import os
import re

from hydra.errors import HydraException

from kamerton.config.origin import COMMAND_LINE
from kamerton.config.places import name_fix
from kamerton.errors import Fault
from kamerton.mask import mask_text
from kamerton.shell import setting
from kamerton.words import did_you_mean

_KEY = re.compile(r"(\+\+|\+|~)?[\w./@:$-]+")
_CALL = re.compile(r"(\w+)\s*\(")
_USES = {
    "choice": "choice(a,b,c)",
    "interval": "interval(low,high), two numbers",
    "range": "range(start,stop,step), numbers",
    "tag": "tag(log, interval(low,high))",
    "shuffle": "shuffle(a,b,c)",
    "sort": "sort(a,b,c), values that have an order",
    "glob": "glob(pattern)",
    "int": "int(value)",
    "float": "float(value)",
    "str": "str(value)",
    "bool": "bool(value)",
}


def syntax_fault(text: str, error: HydraException) -> Fault:
    """The fault of an override that raised `error` when it was parsed."""
    lines = str(error).removeprefix("LexerNoViableAltException: ").splitlines()
    reason = lines[1] if lines[0].startswith("Error parsing override") else lines[0]
    message = reason
    if reason == text:
        signs = "".join(dict.fromkeys(sign for sign in text if not sign.isascii()))
        message = f"{signs!r} must be quoted" if signs else "a character in it has a special meaning"
    shown = mask_text(f"cannot read {text!r}: {message}")
    return Fault("config.syntax", shown, mask_text(_fix(text)), COMMAND_LINE)


def _fix(text: str) -> str:
    key, is_pair, value = text.partition("=")
    if not is_pair or not _KEY.fullmatch(key):
        # os.path.isfile raises no error for names that are too long
        usual = "key=value, in quotes of the shell if the value has spaces: 'key=a b'"
        return f"write {setting('data.path', text) if os.path.isfile(text) else usual}"
    if call := _CALL.match(value):
        return f"write {_USES[call[1]]}" if call[1] in _USES else did_you_mean(call[1], _USES)
    if value.startswith("["):
        return "write a list as [a,b], and quote a text with other signs in it: ['a=b',c]"
    if value.startswith("{"):
        return "write a mapping as {key: value}, and quote a text with other signs in it: {key: 'a=b'}"
    if "${" in value:
        return "write an interpolation as ${other.key} or ${oc.env:NAME}, in single quotes of the shell"
    if value[:1] in ("'", '"'):
        return f"end the text with the {value[0]} that it begins with"
    if "," in value:
        return f"write {key}=a,b for several values, or {setting(key, value)} for one text"
    key = key.replace("/", "_") if "." in key and "@" not in key else key  # groups alone have a slash: a/b=c
    is_folder = key in ("name", "run_id") and not value.isascii()
    return name_fix(key, value) if is_folder else f"write {setting(key, value)}"
