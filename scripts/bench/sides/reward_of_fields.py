"""The reward of scripts/bench/reward_results.py."""

from __future__ import annotations

import json


def right_fields(prompt: str, completion: str, reference: str, metadata: object) -> float:
    """The share of the reference's fields that an answer has, as a JSON object with no other fields; else 0."""
    del prompt, metadata
    expected = json.loads(reference)
    try:
        fields = json.loads(completion)
    except ValueError:
        return 0.0
    if not isinstance(fields, dict) or fields.keys() - expected.keys():
        return 0.0
    return sum(fields.get(key) == value for key, value in expected.items()) / len(expected)
