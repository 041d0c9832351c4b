"""Limits on prompts that both the server and the worker process check."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

CONTEXT = 4096  # tokens of prompt and answer together, even if a model has more positions
CHARACTERS = 16  # of a prompt per token of the context; longer prompts are refused before tokenization


def prompt_characters(turns: Sequence[Sequence[Any]] | None, text: str | None, tools: str = "") -> int:
    """Return the number of characters of a text, or of turns (`Message.to_list`) and the definitions of functions."""
    if turns is None:
        return len(text or "")
    fields = (json.dumps(turn[3], ensure_ascii=False) for turn in turns if len(turn) > 3)
    return len(tools) + sum(len(turn[1]) for turn in turns) + sum(map(len, fields))
