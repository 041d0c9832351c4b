"""Definitions of fast tokenizers (`tokenizer.json`) as plain values: variants of one that keep all token ids."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any


def backend_of(definition: dict[str, Any]) -> Any:
    """Return the tokenizer of the package tokenizers, which neither cuts nor pads."""
    from tokenizers import Tokenizer

    return Tokenizer.from_str(json.dumps(definition | {"truncation": None, "padding": None}))


@lru_cache(maxsize=1)
def parsed(definition: str) -> dict[str, Any]:
    """Return a tokenizer's definition; parsing it takes longer than a thousand rows, and all splits have the same."""
    value: dict[str, Any] = json.loads(definition)
    return value


def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    """Return whether both treat texts alike before they look for tokens."""
    return all(a.get(key) == b.get(key) for key in ("normalizer", "pre_tokenizer"))


def without_prefix(definition: dict[str, Any]) -> dict[str, Any]:
    """Return the tokenizer for text that continues another: it puts no space before it."""
    changed = {key: _no_prefix(definition.get(key)) for key in ("normalizer", "pre_tokenizer")}
    return definition | changed


def _no_prefix(part: dict[str, Any] | None) -> dict[str, Any] | None:
    if part is None or part["type"] == "Prepend":
        return None
    if part["type"] == "Metaspace":
        return part | {"prepend_scheme": "never"}
    if part["type"] == "ByteLevel":
        return part | {"add_prefix_space": False}
    if part["type"] == "Sequence":
        key = "normalizers" if "normalizers" in part else "pretokenizers"
        return part | {key: [kept for child in part[key] if (kept := _no_prefix(child)) is not None]}
    return part


def special_tokens(definition: dict[str, Any]) -> re.Pattern[str] | None:
    """Match the special tokens at which the tokenizer cuts every text before it does anything else."""
    added = definition.get("added_tokens") or []
    flags = ("normalized", "lstrip", "rstrip", "single_word")
    simple = [token["content"] for token in added if not any(token[flag] for flag in flags)]
    others = [token["content"] for token in added if any(token[flag] for flag in flags)]
    simple = [text for text in simple if text and not any(text in other for other in others)]
    if not simple:
        return None
    return re.compile(f"({'|'.join(re.escape(text) for text in sorted(simple, key=len, reverse=True))})")


def with_names(definition: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """Return a tokenizer's definition in which some tokens have other names; all ids stay."""

    def name(token: str) -> str:
        return names.get(token, token)

    model = dict(definition["model"])
    vocabulary = model.get("vocab")
    if isinstance(vocabulary, Mapping):
        model["vocab"] = {name(token): number for token, number in vocabulary.items()}
    elif vocabulary is not None:
        model["vocab"] = [[name(token), score] for token, score in vocabulary]
    if model.get("unk_token") is not None:
        model["unk_token"] = name(model["unk_token"])
    added = [token | {"content": name(token["content"])} for token in definition.get("added_tokens") or []]
    return {**definition, "model": model, "added_tokens": added}
