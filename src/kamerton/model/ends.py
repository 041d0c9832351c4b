"""The tokens that end an answer in generation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kamerton.model.layers import base_of


def end_tokens(model: Any, tokenizer: Any, ending: Sequence[int]) -> frozenset[int]:
    """Return the tokens that end a turn: the model's, the tokenizer's, and the first special token in `ending`.

    `ending` are the tokens of an answer with the template's text after it.
    """
    settings = getattr(base_of(model), "generation_config", None)
    configured = getattr(settings, "eos_token_id", None)
    ends = configured if isinstance(configured, list) else [configured]
    special = next((token for token in ending if token in tokenizer.all_special_ids), None)
    return frozenset(token for token in (*ends, tokenizer.eos_token_id, special) if token is not None)
