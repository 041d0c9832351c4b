"""Settings that a fault prints for pasting, read as Hydra reads them and applied to the options of data."""

from __future__ import annotations

import re
import shlex
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser

from kamerton.data.options import Columns


def settings_of(fix: str) -> list[list[str]]:
    """The settings `data.KEY=VALUE` of each way that a fix offers, as a shell would pass them."""
    ways = []
    for way in re.split(r"; or |, or | or, |; if it is", fix):
        try:
            words = shlex.split(way)
        except ValueError:  # an apostrophe in the words around the settings
            words = way.split()
        if settings := [word.rstrip(",;") for word in words if re.match(r"data\.[\w.-]+=", word)]:
            ways.append(settings)
    return ways


def data_options(settings: list[str]) -> dict[str, Any]:
    """The arguments of `DataOptions` for these settings."""
    options: dict[str, Any] = {}
    columns: dict[str, Any] = {}
    for setting in settings:
        override = OverridesParser.create().parse_override(setting)
        key = override.key_or_group.removeprefix("data.").split(".")
        value = override.value()
        if key[0] == "columns":
            columns |= {key[1]: value} if len(key) > 1 else value
        elif key[0] == "policy":
            options.setdefault("policy", {})[key[1]] = value
        else:
            options[key[0]] = value
    return options | ({"columns": Columns(**columns)} if columns else {})
