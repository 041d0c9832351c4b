"""Rows that tests train on or check."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from kamerton.data.example import DataExample
from kamerton.data.store import Examples, Store, StoreWriter
from kamerton.data.stored import row_id, stored_extras, stored_prompt

WORDS = """amber bridge candle desert engine forest garden harbor island jacket kettle ladder meadow needle orange
pepper quarry ribbon saddle timber umbrella valley window yellow zipper anchor basket copper dragon ember""".split()  # noqa: SIM905


def question(number: int) -> str:
    """A text of six words that shares few with any other."""
    digits = [(number * step + number // 7) % len(WORDS) for step in (1, 3, 7, 11, 13, 17)]
    return f"{' '.join(WORDS[digit] for digit in digits)} {number}?"


def pairs(count: int, labels: tuple[str, ...] = ("yes", "no")) -> list[dict[str, Any]]:
    """Rows whose labels take turns."""
    return [{"prompt": question(i), "completion": labels[i % len(labels)]} for i in range(count)]


def write_jsonl(path: Path, rows: Iterable[object]) -> Path:
    """One JSON value on each line."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def stored(examples: list[DataExample], folder: Path) -> Examples:
    """Examples as the store keeps them."""
    folder.mkdir(parents=True, exist_ok=True)
    writer = StoreWriter(folder / "rows.arrow", ["rows.jsonl"])
    for number, example in enumerate(examples, 1):
        prompt, chat = stored_prompt(example.prompt), not isinstance(example.prompt, str) and example.prompt != ()
        extras = stored_extras(
            example.reasoning, example.tool_calls, example.tools, example.weight, example.score, example.alternatives
        )
        key = row_id(prompt, chat, example.completion, extras)
        writer.add((key, prompt, chat, example.completion, extras, None, number, number, 0, -1, number, 0))
    writer.close()
    return Examples(Store(folder / "rows.arrow"), np.arange(len(examples)))


def animal_rows() -> list[dict[str, Any]]:
    """120 rows, two labels that a letter of the prompt decides."""
    return [
        {"prompt": f"the {word} number {number}", "completion": label, "metadata": {"number": number}}
        for number in range(60)
        for word, label in (("cat", "yes"), ("dog", "no"))
    ]


def animals(path: Path) -> Path:
    """A file of them."""
    return write_jsonl(path, animal_rows())
