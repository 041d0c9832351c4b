"""Files of preferences for jobs, in the formats of OpenAI and TRL."""

from __future__ import annotations

import json
from typing import Any


def pairs(count: int = 30, word: str = "the") -> list[dict[str, str]]:
    """Rows of prompt, chosen and rejected, two for each number: "yes" is always better than "no"."""
    return [
        {"prompt": f"{word} {animal} number {number}", "chosen": "yes", "rejected": "no"}
        for number in range(count)
        for animal in ("cat", "dog")
    ]


def openai_pairs(count: int = 30, word: str = "the") -> bytes:
    """The same as a preference file of OpenAI's fine-tuning API."""
    return "".join(json.dumps(_line(row)) + "\n" for row in pairs(count, word)).encode()


def _line(row: dict[str, str]) -> dict[str, Any]:
    def answer(text: str) -> list[dict[str, str]]:
        return [{"role": "assistant", "content": text}]

    return {
        "input": {"messages": [{"role": "user", "content": row["prompt"]}], "tools": [], "parallel_tool_calls": True},
        "preferred_output": answer(row["chosen"]),
        "non_preferred_output": answer(row["rejected"]),
    }
