"""Sections of a configuration that may still be wrong."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def mapping_at(values: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """The section `key`, or an empty one where there is none or something else: that it is wrong is said elsewhere."""
    found = values.get(key)
    return found if isinstance(found, Mapping) else {}
