"""The columns of the first rows of a file by name, and the usual names of columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kamerton.data.read.columns.kinds import snake_case
from kamerton.data.read.text import is_blank

Record = Mapping[str, Any]
QUESTIONS = ("question", "query", "prompt", "question_text", "user_input")
CONTEXTS = (
    *("context", "contexts", "passage", "passages", "paragraph", "paragraphs", "article", "document", "documents"),
    *("story", "background", "evidence", "support", "knowledge", "retrieved_contexts", "reference_contexts", "body"),
)
ANSWER_NAMES = ("answer", "answers", "response", "output", "completion", "target", "answer_text")
LABELS = ("label_text", "label", "gold_label", "label_name")


@dataclass(frozen=True, slots=True)
class Recognised:
    """The templates of prompt and completion of a recognised data set."""

    prompt: str
    completion: str


class Columns:
    """The columns of the first rows: their names in snake case, and their values."""

    def __init__(self, names: Sequence[str], head: Sequence[Record]) -> None:
        self.head = head
        self.names: dict[str, str] = {}
        for name in sorted(names, key=lambda name: name != snake_case(name)):  # exact names first
            self.names.setdefault(snake_case(name), name)

    def sample(self, name: str) -> object:
        """Return the first value of a column that is not blank; None without one."""
        return next((record[name] for record in self.head if not is_blank(record.get(name))), None)

    def find(self, candidates: Sequence[str]) -> str | None:
        """Return the first of the columns that occurs; those without a value only if no other does."""
        present = [self.names[name] for name in candidates if name in self.names]
        filled = [name for name in present if self.sample(name) is not None]
        return next(iter(filled or present), None)

    def filled(self, candidates: Sequence[str]) -> list[str]:
        """Return the columns with a value in the first rows."""
        present = [self.names[name] for name in candidates if name in self.names]
        return [name for name in present if self.sample(name) is not None]
