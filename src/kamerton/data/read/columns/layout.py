"""The layout of a row: which columns are prompt, completion, system turn, earlier turns and metadata."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from kamerton.data.template import Template, path_text
from kamerton.errors import Fault
from kamerton.shell import setting
from kamerton.words import listed

MAX_COLUMNS = 12  # in a message
PROMPTS = "prompts ("  # how the schema of rows without completion begins
NO_COMPLETION = "(no completion)"  # in place of the column that such a row does not have


@dataclass(frozen=True)
class Layout:
    """The roles of a row's columns.

    `kind` is pair, alpaca, chat, text (no prompt: every token is trained on) or template (`prompt_template` and
    `completion_template` in place of the columns).
    """

    kind: str
    prompt: str = ""
    completion: str = ""
    context: str = ""  # alpaca: the second half of the prompt
    prompt_template: Template | None = None
    completion_template: Template | None = None
    system: Template | None = None  # of the system turn
    history: str = ""  # column of the turns before the prompt
    instruction: Template | None = None  # of the text before the prompt
    tools: str = ""  # column of definitions of functions
    reasoning: str = ""  # column of the reasoning before the completion
    weight: str = ""  # column of the row's weight in the loss
    label_names: dict[str, str] = field(default_factory=dict)  # names of labels that are numbers
    names_setting: str = ""  # names the numbers that the completions of the first rows are
    metadata: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()  # columns without a role that are not configured as metadata

    @cached_property
    def shown(self) -> tuple[str, ...]:
        """The columns that the model is shown."""
        columns = [self.prompt, self.completion, self.context, self.history, self.tools, self.reasoning]
        for template in (self.prompt_template, self.completion_template, self.system, self.instruction):
            columns += template.columns if template else ()
        return tuple(name for name in dict.fromkeys(columns) if name)

    @cached_property
    def turns(self) -> tuple[str, ...]:
        """The columns that may contain chat turns."""
        return tuple(name for name in (self.prompt, self.completion) if name)

    @cached_property
    def prompt_column(self) -> str:
        """The column that is the whole prompt by its template, and may contain chat turns; "" for other templates."""
        paragraphs = self.prompt_template.paragraphs if self.prompt_template else ()
        if len(paragraphs) != 1 or len(paragraphs[0]) != 1 or isinstance(paragraphs[0][0], str):
            return ""
        field = paragraphs[0][0]
        is_whole = len(field.paths) == 1 and len(field.paths[0]) == 1 and not field.filter
        return str(field.paths[0][0]) if is_whole else ""

    @property
    def schema(self) -> str:
        """A name of the schema; two rows have the same schema if and only if their names are equal."""
        if self.completion == NO_COMPLETION:
            return f"{PROMPTS}{self.prompt_template.source if self.prompt_template else self.prompt})"
        if self.kind == "template":
            return f"template ({self._source('prompt')} → {self._source('completion')})"
        used = [name for name in (self.prompt, self.completion) if name]
        return f"{self.kind} ({', '.join(used)})"

    @property
    def form(self) -> dict[str, Any]:
        """The settings of `Form` that write the same prompt; empty for chat turns and plain text."""
        if self.kind in ("chat", "text"):
            return {}
        result: dict[str, Any] = {"prompt": self._source("prompt")}
        if self.completion != NO_COMPLETION:
            result["completion"] = self._source("completion")
        if self.system:
            result["system"] = self.system.source
        if self.instruction:
            result["instruction"] = self.instruction.source
        if self.label_names:
            result["label_names"] = self.label_names
        return result

    @property
    def notes(self) -> list[str]:
        """The columns that are read as turns before the prompt, in words."""
        system = self.system.columns if self.system else ()
        notes = [f"{', '.join(system)} as the system turn"] if system else []
        notes += [f"{self.weight} as the weight of the row"] if self.weight else []
        fields = self.completion_template.fields if self.completion_template else ()
        paths = [path for field in fields for path in field.paths]
        notes += [f"the first of {path_text(path[:-1])} as the completion" for path in paths if path[-1] == 0]
        return notes + ([f"{self.history} as earlier turns"] if self.history else [])

    def _source(self, role: str) -> str:
        """Return the template of the prompt or of the completion."""
        template = self.prompt_template if role == "prompt" else self.completion_template
        if template is not None:
            return template.source
        name = self.prompt if role == "prompt" else self.completion
        return f"{{{name}}}" + (f"\\n\\n{{{self.context}?}}" if role == "prompt" and self.context else "")


@dataclass(frozen=True, slots=True)
class Fields:
    """The fields of a row. `prompt` is a text, the JSON of chat turns (with `chat`), or None for plain text.

    `extras` are those of `kamerton.data.stored`: reasoning, calls, tools and weight.
    """

    prompt: str | None
    chat: bool
    completion: str
    metadata: str | None
    extras: str | None = None


def unknown_column_fault(name: str, present: list[str], key: str) -> Fault:
    """Return the fault of a configured column that the row does not have; its fix is the most similar column."""
    near = difflib.get_close_matches(name, present, n=1, cutoff=0.5)
    fix = f"set {setting(key, near[0])}" if near else f"set {key} to one of them"
    return Fault("unknown-column", f"there is no column {name!r} ({list_columns(present)})", fix, column=name)


def list_columns(names: list[str]) -> str:
    """Return column names for a message."""
    return f"columns: {listed([name[:40] for name in names], MAX_COLUMNS)}" if names else "it has no columns"
