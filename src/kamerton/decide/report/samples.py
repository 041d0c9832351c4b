"""Completions that a run on rewards sampled, for its report: the best and the worst of a few prompts at a few steps.

`samples.jsonl` has a line for each completion, in the order of the steps, and may be large: lines of a step are found
by bisection over positions in the file, and read one by one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from kamerton.report.pages import sentence

FILE = "samples.jsonl"
STEPS = 5  # from the first to the last
PROMPTS = 2  # of a step: those whose completions differ most in their reward
MAX_CHARACTERS = 800
_TAIL = 1 << 16  # bytes that are read at first to find the last line

Row = dict[str, Any]


def sampled(run: Path) -> dict[str, Any]:
    """Return `{steps: [...]}` of a run directory, or the reason why they are `absent`.

    A step has its number (from 1, as in metrics.csv), the number of `completions`, their mean `reward`, and `prompts`,
    each with its `sides`: the best and the worst completion, or one if all have the same reward.
    """
    file = run / FILE
    try:
        with file.open("rb") as stream:
            return {"steps": [_described(rows) for rows in _steps(stream, file.stat().st_size)]}
    except FileNotFoundError:
        return {"absent": f"The file {FILE} was not written."}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:  # any damage
        return {"absent": sentence(f"the file {FILE} cannot be read ({type(error).__name__}: {error})")}


def _steps(stream: BinaryIO, size: int) -> Iterator[Iterator[Row]]:
    """Yield the rows of each chosen step; those of a step are read before the next one is."""
    first, last = _line_at(stream, 0), _last_line(stream, size)
    if not first or not last:
        return
    begin, end = _step(first), _step(last)
    for step in sorted({begin + round(part * (end - begin) / (STEPS - 1)) for part in range(STEPS)}):
        yield _rows(stream, _position(stream, step, size))


def _rows(stream: BinaryIO, position: int) -> Iterator[Row]:
    """Yield the rows of the step whose first line begins at `position` or is the next one after it."""
    line = _line_at(stream, position)
    step = _step(line)
    while line.endswith(b"\n") and _step(line) == step:
        yield json.loads(line)
        line = stream.readline()


def _position(stream: BinaryIO, step: int, size: int) -> int:
    """Return the smallest position after which the first line is of `step` or a later one."""
    low, high = 0, size
    while low < high:
        middle = (low + high) // 2
        line = _line_at(stream, middle)
        if not line or _step(line) >= step:
            high = middle
        else:
            low = middle + 1
    return low


def _line_at(stream: BinaryIO, position: int) -> bytes:
    """Return the first complete line that begins at `position` or after it; empty if there is none."""
    stream.seek(max(0, position - 1))
    if position:
        stream.readline()
    line = stream.readline()
    return line if line.endswith(b"\n") else b""


def _last_line(stream: BinaryIO, size: int) -> bytes:
    """Return the last complete line; empty if there is none."""
    length = _TAIL
    while True:
        stream.seek(max(0, size - length))
        whole, newline, _ = stream.read(length).rpartition(b"\n")
        _, found, line = whole.rpartition(b"\n")
        if found or length >= size:
            return line + newline
        length *= 4


def _step(line: bytes) -> int:
    return int(json.loads(line)["step"])


def _described(rows: Iterator[Row]) -> dict[str, Any]:
    """Return a step with its prompts; of the completions of a prompt only the best and the worst are kept in memory."""
    step, count, total = 0, 0, 0.0
    extremes: dict[str, tuple[Row, Row]] = {}
    texts: dict[str, str] = {}
    for row in rows:
        if row.get("prompt") is not None:  # beside the first completion alone
            texts[row["example_id"]] = _text(row["prompt"])
        step, count, reward = int(row["step"]), count + 1, float(row["reward"])
        total += reward
        best, worst = extremes.get(row["example_id"], (row, row))
        extremes[row["example_id"]] = (
            row if reward > best["reward"] else best,
            row if reward < worst["reward"] else worst,
        )
    by_spread = sorted(extremes.values(), key=lambda pair: pair[1]["reward"] - pair[0]["reward"])
    prompts = [
        {
            "example_id": str(best["example_id"]),
            "prompt": texts.get(best["example_id"]),
            "sides": [_side("best", best), _side("worst", worst)]
            if best["reward"] > worst["reward"]
            else [_side("one of them; all rewards are equal", best)],
        }
        for best, worst in by_spread[:PROMPTS]
    ]
    return {"step": step + 1, "completions": count, "reward": total / max(1, count), "prompts": prompts}


def _side(name: str, row: Row) -> Row:
    parts = {str(key): float(value) for key, value in row["rewards"].items()}
    return {
        "name": name,
        "text": _text(row["completion"]),
        "reward": float(row["reward"]),
        "parts": parts if len(parts) > 1 else {},
        "tokens": int(row["tokens"]),
        "truncated": row["finish_reason"] == "length",
    }


def _text(value: Any) -> str:
    text = str(value).encode("utf-8", "replace").decode()  # JSON may hold halves of surrogate pairs
    if len(text) <= MAX_CHARACTERS:
        return text
    return f"{text[:MAX_CHARACTERS]} … ({len(text) - MAX_CHARACTERS:,} more characters in {FILE})"
