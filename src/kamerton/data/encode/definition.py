"""Variants of a fast tokenizer's definition (`tokenizer.json`) with the same token ids."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any


def backend_of(definition: dict[str, Any]) -> Any:
    """Return a `tokenizers.Tokenizer` of the definition, without truncation and padding."""
    from tokenizers import Tokenizer

    return Tokenizer.from_str(json.dumps(definition | {"truncation": None, "padding": None}))


@lru_cache(maxsize=1)
def parse_definition(definition: str) -> dict[str, Any]:
    """Parse a tokenizer's definition; cached, because parsing takes longer than encoding a thousand rows."""
    value: dict[str, Any] = json.loads(definition)
    return value


def same_preprocessing(a: dict[str, Any], b: dict[str, Any]) -> bool:
    """Return whether both definitions normalise and split texts in the same way."""
    return all(a.get(key) == b.get(key) for key in ("normalizer", "pre_tokenizer"))


def without_prefix(definition: dict[str, Any]) -> dict[str, Any]:
    """Return the definition for text that continues another: no space is prepended."""
    changed = {key: _drop_prefix(definition.get(key)) for key in ("normalizer", "pre_tokenizer")}
    return definition | changed


def _drop_prefix(part: dict[str, Any] | None) -> dict[str, Any] | None:
    if part is None or part["type"] == "Prepend":
        return None
    if part["type"] == "Metaspace":
        return part | {"prepend_scheme": "never"}
    if part["type"] == "ByteLevel":
        return part | {"add_prefix_space": False}
    if part["type"] == "Sequence":
        key = "normalizers" if "normalizers" in part else "pretokenizers"
        children = [_drop_prefix(child) for child in part[key]]
        return part | {key: [child for child in children if child is not None]}
    return part


def special_tokens(definition: dict[str, Any]) -> re.Pattern[str] | None:
    """Return a pattern of the special tokens at which the tokenizer splits texts first; None if it has none."""
    added = definition.get("added_tokens") or []
    flags = ("normalized", "lstrip", "rstrip", "single_word")
    simple = [token["content"] for token in added if not any(token[flag] for flag in flags)]
    others = [token["content"] for token in added if any(token[flag] for flag in flags)]
    simple = [text for text in simple if text and not any(text in other for other in others)]
    if not simple:
        return None
    return re.compile(f"({'|'.join(re.escape(text) for text in sorted(simple, key=len, reverse=True))})")


def rename_tokens(definition: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """Return the definition with the tokens in `names` renamed; ids are unchanged."""

    def rename(token: str) -> str:
        return names.get(token, token)

    model = dict(definition["model"])
    vocabulary = model.get("vocab")
    if isinstance(vocabulary, Mapping):
        model["vocab"] = {rename(token): number for token, number in vocabulary.items()}
    elif vocabulary is not None:
        model["vocab"] = [[rename(token), score] for token, score in vocabulary]
    if model.get("unk_token") is not None:
        model["unk_token"] = rename(model["unk_token"])
    added = [token | {"content": rename(token["content"])} for token in definition.get("added_tokens") or []]
    return {**definition, "model": model, "added_tokens": added}
