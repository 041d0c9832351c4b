"""The reward of both sides: the share of the reference's words that a completion has."""

from __future__ import annotations


def share_of_words(prompt: str, completion: str, reference: str, metadata: object) -> float:
    """A number from 0 to 1."""
    del prompt, metadata
    words, own = reference.lower().split(), set(completion.lower().split())
    return sum(word in own for word in words) / len(words)
