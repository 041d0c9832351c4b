"""Texts that are no documents: questions with answers are rows; subtitles, labels and labelled lines are faults."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from typing import Any

from kamerton.data.data_file import DataFile
from kamerton.errors import Fault
from kamerton.shell import new_name, path_setting

Row = tuple[int, dict[str, Any] | Fault]
MANY = 10  # lines
MOST_LABELS = 12
QUESTION = re.compile(r"(?:Q|Question)\s?\d*[:.]\s*", re.IGNORECASE)
ANSWER = re.compile(r"(?:A|Answer)\s?\d*[:.]\s*", re.IGNORECASE)
TIMES = re.compile(r"(?:\d+:)?\d\d:\d\d[,.]\d{3} --> (?:\d+:)?\d\d:\d\d[,.]\d{3}")
LABEL_BEHIND = re.compile(r"\S.*[.?!\w\"'] ?@([\w-]+)")  # Financial PhraseBank


def answered_questions(lines: Sequence[tuple[int, str]]) -> list[Row]:
    """Return a row for each question and the answer below it; empty unless the whole text is made of them.

    Lines that begin neither belong to what is above them.
    """
    parts: list[tuple[int, str, list[str]]] = []
    for number, line in lines:
        beginning = QUESTION.match(line) or ANSWER.match(line)
        if beginning is not None:
            kind = "prompt" if QUESTION.match(line) else "completion"
            parts.append((number, kind, [line[beginning.end() :]]))
        elif parts:
            parts[-1][2].append(line)
        else:
            return []
    kinds = [kind for _, kind, _ in parts]
    if len(parts) < MANY or kinds != ["prompt", "completion"] * (len(parts) // 2):
        return []
    texts = ["\n".join(part).strip() for *_, part in parts]
    return [(parts[i][0], {"prompt": texts[i], "completion": texts[i + 1]}) for i in range(0, len(parts), 2)]


def other_form(lines: Sequence[tuple[int, str]], file: DataFile) -> Fault | None:
    """Return the fault of a text that is no document: YAML, subtitles, labels without texts, texts with labels."""
    if file.path.suffix.lower() in (".yml", ".yaml"):
        return Fault("unreadable-file", "this is YAML, not a text", "convert it to JSON Lines or CSV", file.name)
    texts = [line.strip() for _, line in lines]
    if len(texts) < MANY:
        return None
    return _subtitles(texts, file) or _labels(texts, file) or _labelled(texts, file)


def _subtitles(texts: Sequence[str], file: DataFile) -> Fault | None:
    if sum(TIMES.match(text) is not None for text in texts) < len(texts) / 5:
        return None
    new = new_name(file.path, ".txt")
    old = shlex.quote(str(file.path))
    command = f"grep -vE '^[0-9]+[[:space:]]*$|-->|^WEBVTT|^[[:space:]]*$' {old} > {new}"
    fix = f"to train on what is said alone, {command}, then {path_setting(new, file.split)}"
    return Fault("unreadable-file", "these are subtitles: numbers and times between the texts", fix, file.name)


def _labels(texts: Sequence[str], file: DataFile) -> Fault | None:
    values = set(texts)
    if any(len(text.split()) != 1 for text in values) or len(values) > len(texts) / 4:
        return None
    message = f"the lines are labels ({', '.join(sorted(values)[:5])}), whose texts are in another file"
    fix = f"add data.prompt_file=TEXTS and, in place of data.path, data.completion_file={shlex.quote(file.name)}"
    return Fault("unreadable-file", message, fix, file.name)


def _labelled(texts: Sequence[str], file: DataFile) -> Fault | None:
    matches = [LABEL_BEHIND.fullmatch(text) for text in texts]
    labels = {match[1] for match in matches if match is not None}
    if None in matches or not 1 < len(labels) <= min(MOST_LABELS, len(texts) / 3):
        return None
    new = new_name(file.path, ".tsv")
    command = f"sed -E 's/ *@([[:alnum:]_-]+)[[:space:]]*$/\\t\\1/' {shlex.quote(str(file.path))} > {new}"
    fix = f"{command}, then {path_setting(new, file.split)} data.header=[text,label]"
    return Fault(
        "unreadable-file",
        f"each line is a text with a label behind @ ({', '.join(sorted(labels)[:5])})",
        fix,
        file.name,
    )
