"""The TREC question classification file: one `COARSE:fine question` per line, in latin-1.

A question that occurs with several fine labels is a single example, with all of them in its metadata.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kamerton.errors import Fault

LABELS = {
    "ABBR": "abbreviation",
    "DESC": "description",
    "ENTY": "entity",
    "HUM": "human",
    "LOC": "location",
    "NUM": "number",
}
INSTRUCTION = "Classify the question as abbreviation, description, entity, human, location or number."


def trec_rows(lines: Iterator[tuple[str, Fault | None]], file: str) -> Iterator[tuple[int, dict[str, Any] | Fault]]:
    """Yield a row for every line, with the fields prompt, completion and fine (all fine labels of the question)."""
    parsed = [(n, fault or _parse(line, file)) for n, (line, fault) in enumerate(lines, 1) if fault or line.strip()]
    fine: dict[tuple[str, str], list[str]] = {}
    for _, item in parsed:
        if not isinstance(item, Fault):
            coarse, label, question = item
            labels = fine.setdefault((coarse, question), [])
            if label not in labels:
                labels.append(label)
    for number, item in parsed:
        if isinstance(item, Fault):
            yield number, item
            continue
        coarse, _, question = item
        prompt = f"{INSTRUCTION}\nQuestion: {question}"
        yield number, {"prompt": prompt, "completion": LABELS[coarse], "fine": sorted(fine[coarse, question])}


def is_trec(line: str) -> bool:
    """Return whether a line is in the format of the TREC file."""
    return not isinstance(_parse(line, ""), Fault)


def _parse(line: str, file: str) -> tuple[str, str, str] | Fault:
    """Return coarse label, fine label and question, e.g. `("NUM", "NUM:count", "How many ... ?")`."""
    label, _, question = line.strip().partition(" ")
    coarse = label.partition(":")[0]
    if coarse in LABELS and question.strip():
        return coarse, label, question.strip()
    message = "the line is not `COARSE:fine question` with a coarse label of " + ", ".join(LABELS)
    return Fault("bad-trec", message, "use the original file of labelled questions", file)
