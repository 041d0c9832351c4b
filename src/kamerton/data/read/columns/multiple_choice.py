"""Recognising multiple choice: the columns of the question, the choices and the answer."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from kamerton.data.read.columns.choices import Answer, answer_kinds, letter_of, options_of
from kamerton.data.read.columns.named import ANSWER_NAMES, CONTEXTS, QUESTIONS, Columns, Recognised
from kamerton.data.read.columns.propose import template_settings, unclear
from kamerton.data.read.text import is_blank
from kamerton.data.template import ANSWERS
from kamerton.errors import Fault

STEMS = (*QUESTIONS, "question_stem", "goal", "sentence", "ctx", "problem", "stem", "startphrase")
CHOICES = ("choices", "options", "endings", "alternatives", "candidates")
KEYS = (
    *("answer", "answerkey", "answer_key", "label", "answer_idx", "answer_index", "correct", "correct_answer"),
    *("correct_option", "cop", "target", "gold", "correct_index", "answer_letter", "solution"),
)
_NUMBERED = re.compile(r"(.*?)_?([a-j]|\d)", re.IGNORECASE)


def multiple_choice(columns: Columns) -> Recognised | Fault | None:
    """Return the templates of multiple choice; a fault if the answer does not name one choice for certain."""
    nested = _nested(columns) or _flagged(columns)
    if nested is not None:
        return nested
    stem, choices = columns.find(STEMS), _choice_columns(columns)
    if stem is not None and not choices and (written := _written_choices(columns, stem)):
        return written
    if stem is None or not choices:
        return None
    choices = [name for name in choices if name != stem]
    context = [name for name in columns.filled((*CONTEXTS, "premise")) if name not in (stem, *choices)]
    listed = f"{{{','.join(choices)}:letters}}"
    prompt = "\\n\\n".join([*(f"{{{name}?}}" for name in context[:1]), f"{{{stem}}}", listed])
    keys = [name for name in columns.filled(KEYS) if name not in (stem, *choices)]
    for key in keys:
        kinds = answer_kinds(_answered(columns, choices, key))
        if len(kinds) == 1:
            return Recognised(prompt, f"{{{key}:{kinds[0]}}}")
        if kinds:
            ways = [(template_settings(prompt, f"{{{key}:{kind}}}"), f"{key} is {ANSWERS[kind]}") for kind in kinds]
            return unclear(f"the rows are multiple choice, and {key} may be {_either(kinds)} of the choice", ways, key)
    if not keys:
        others = {*ANSWER_NAMES, "answer_text", "solution", "explanation"} & set(columns.names)
        if others or len(columns.names) > len(choices) + 2 or choices[0] in CHOICES:
            return None
        fix = "give the rows with their answers, the number or the letter of a choice in the column label"
        return Fault("unclear-columns", "the rows are multiple choice without an answer", fix, column=stem)
    message = f"the rows are multiple choice, and {keys[0]} names none of the choices in {', '.join(choices)}"
    way = (template_settings(prompt, f"{{{keys[0]}}}"), f"{keys[0]} is the answer as it stands")
    return unclear(message, [way], keys[0])


def _written_choices(columns: Columns, stem: str) -> Recognised | None:
    """Recognise a question whose choices are one text with their letters (MathQA), and the letter of the answer."""
    choices, key = columns.find(CHOICES), columns.find(KEYS)
    value = columns.sample(choices or "")
    answers = [str(record[key]).strip() for record in columns.head if not is_blank(record.get(key))] if key else []
    if not answers or not isinstance(value, str) or not re.match(r"\W*a\W.*\bb\W", value, re.IGNORECASE | re.DOTALL):
        return None
    is_letter = all(len(answer) == 1 and answer.isalpha() for answer in answers)
    return Recognised(f"{{{stem}}}\\n\\n{{{choices}}}", f"{{{key}}}") if is_letter else None


def _nested(columns: Columns) -> Recognised | None:
    """Recognise a question that is an object of its stem and choices, as in the files of ARC."""
    question, key = columns.names.get("question"), columns.find(KEYS)
    value = columns.sample(question) if question else None
    if key is None or not isinstance(value, Mapping) or not {"stem", "choices"} <= set(value):
        return None
    prompt = f"{{{question}.stem}}\\n\\n{{{question}.choices:letters}}"
    return Recognised(prompt, f"{{{key}:letter}}") if isinstance(value["choices"], list) else None


def _flagged(columns: Columns) -> Recognised | None:
    """Recognise a question whose choices have a flag each, 1 for the right one (TruthfulQA)."""
    stem = columns.find(QUESTIONS)
    for name in columns.filled(("mc1_targets", *CHOICES)):
        values = [record[name] for record in columns.head if not is_blank(record.get(name))]
        if stem is not None and all(letter_of(Answer("flags"), value, options_of([value], [name])) for value in values):
            return Recognised(f"{{{stem}}}\\n\\n{{{name}:letters}}", f"{{{name}:flags}}")
    return None


def _either(kinds: Sequence[str]) -> str:
    return " or ".join(ANSWERS[kind] for kind in kinds)


def _answered(columns: Columns, choices: Sequence[str], key: str) -> list[tuple[object, Any]]:
    """Return answer and choices of the first rows that have both."""
    rows = []
    for record in columns.head:
        options = options_of([record.get(name) for name in choices], choices)
        if len(options) >= 2 and not is_blank(record.get(key)):
            rows.append((record[key], options))
    return rows


def _choice_columns(columns: Columns) -> list[str]:
    """Return the column of a list of choices, or the columns of one choice each (`A`, `B`, ...)."""
    for name in columns.filled(CHOICES):
        if len(options_of([columns.sample(name)], [name])) >= 2:
            return [name]
    groups: dict[str, dict[str, str]] = {}
    for key, name in columns.names.items():
        if match := _NUMBERED.fullmatch(key):
            groups.setdefault(match[1], {})[match[2]] = name
    for beginning, group in groups.items():
        ends = sorted(group)
        first = ends[0] if ends else ""
        consecutive = [end for i, end in enumerate(ends) if ord(end) == ord(first) + i]
        is_usual = beginning in ("", "option", "op", "choice", "ending", "answer", "sol", "opt")
        if is_usual and first in ("a", "0", "1") and len(consecutive) >= 2:
            names = [group[end] for end in consecutive]
            if all(isinstance(columns.sample(name), str | int | float | None) for name in names):
                return names
    return []
