"""Which names stand for a hosted model: gpt-3.5-turbo, o4-mini, ft:…, chatgpt-…, or openai/NAME for any other."""

from __future__ import annotations

import re
from pathlib import Path

_HOSTED = re.compile(r"(gpt-|chatgpt-|ft:|o[134](-|$))[^/]*")
_ON_THE_HUB = "openai/gpt-oss"  # open weights, of the hub's user that has the same name


def hosted_name(name: str) -> str | None:
    """The model's name at its endpoint; None for one of the hub, a folder, or an option of the group `model`."""
    if Path(name).expanduser().exists():
        return None
    if name.startswith("openai/") and not name.startswith(_ON_THE_HUB):
        return name.removeprefix("openai/")
    return name if _HOSTED.fullmatch(name) else None
