"""The completions of a preference row, each as an ordinary row of a prompt and a completion, with its score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from kamerton.data.form import Form
from kamerton.data.options import Columns
from kamerton.data.read.columns.formats import PROMPTS
from kamerton.data.read.columns.kinds import snake_case
from kamerton.data.read.columns.layout import unknown_column_fault
from kamerton.data.read.conversations.listed import is_spoken
from kamerton.data.read.conversations.roles import is_turn
from kamerton.data.read.preferences.turns import are_broken, parsed_turns, role_in, spoken_turns, texts_in_turn
from kamerton.data.read.text import is_blank
from kamerton.errors import Fault

Record = Mapping[str, Any]
CODE = "bad-preference"
FURTHER_PROMPTS = ("history", "context", "post", "problem", "user_input")  # after the usual names: SHP and others
NO_PROMPT = "add the field prompt, or name its column: data.columns.prompt=NAME"


class Completion(NamedTuple):
    """One completion of a row: its place, the column that it is in, its value and how good it is."""

    place: str
    column: str
    value: Any
    score: float
    unread: Mapping[str, Any] = {}


@dataclass(frozen=True, slots=True)
class Side:
    """A row with one of its completions alone, which is read with `columns`.

    `place` is where the completion is, `score` how good it is. `places` has the places in the row as it is written, by
    those in `record`; `unread` the fields of the completion that are not read. `no_prompt` is the fault of a row whose
    prompt is what its completions begin with, if other rows have a prompt.
    """

    record: dict[str, Any]
    columns: Columns
    place: str
    score: float
    places: Mapping[str, str] = field(default_factory=dict)
    unread: Mapping[str, Any] = field(default_factory=dict)
    no_prompt: Fault | None = None

    def locate(self, place: str) -> str:
        """Return where something is in the row as it is written, from its place in `record`."""
        for own in sorted(self.places, key=len, reverse=True):
            if place == own or place.startswith((f"{own}.", f"{own}[")):
                return self.places[own] + place[len(own) :]
        return place


def sides_of(
    record: Record, completions: Sequence[Completion], used: Sequence[str], columns: Columns, form: Form
) -> list[Side] | Fault:
    """Return a side for each completion of a row without the columns `used`, or the fault of a row without a prompt."""
    completions = [completion._replace(value=parsed_turns(completion.value)) for completion in completions]
    for completion in completions:
        if are_broken(completion.value):
            message = f"{completion.place} begins like a list of turns, and is neither JSON nor a Python list"
            return Fault("bad-json", message, "write it with json.dumps", column=completion.place)
    values = [completion.value for completion in completions if isinstance(completion.value, list)]
    # A copy of a whole conversation (UltraFeedback's `messages`) is neither read nor reported.
    rest = {key: value for key, value in record.items() if key not in used and value not in values}
    if form.prompt is not None:
        own = Columns(metadata=columns.metadata)
        return [_text_side({**rest, c.column: c.value}, own, "", c) for c in completions]
    name = columns.prompt or columns.messages or columns.text
    if name and name not in record:
        return unknown_column_fault(name, list(record), "data.columns.prompt")
    column = _prompt_column(rest, columns) or _turns_column(rest, completions)
    dialogues = [texts_in_turn(rest.get(column), completion.value) for completion in completions] if column else []
    if dialogues and all(dialogues):
        others = {key: value for key, value in rest.items() if key != column}
        return [
            _dialogue_side(others, str(column), turns, completion, columns.metadata)
            for completion, turns in zip(completions, dialogues, strict=True)
        ]
    prompt = _Prompt(rest, column, columns.metadata)
    texts = [completion.value for completion in completions]
    are_texts = len(texts) == 2 and all(isinstance(text, str) and not is_spoken(text) for text in texts)
    if prompt.value is None and are_texts and (column is None or rest[column] is None):
        return _without_prompt(prompt, completions, column)
    sides = [prompt.side(completion) for completion in completions]
    missing = next((c for c, side in zip(completions, sides, strict=True) if side is None), None)
    if missing is not None:
        return _no_prompt(column, missing)
    return [side for side in sides if side is not None]


class _Prompt:
    """The prompt of a row, a text or turns, and the columns beside it."""

    def __init__(self, rest: dict[str, Any], name: str | None, metadata: list[str] | None) -> None:
        value = parsed_turns(rest.get(name)) if name else None
        self.name, self.place, self.metadata = name or "", name or "", metadata
        self.others = {key: item for key, item in rest.items() if key != name}
        if isinstance(value, Mapping) and isinstance(value.get("messages"), list):  # OpenAI's input
            self.others |= {key: item for key, item in value.items() if key != "messages"}
            self.place, value = f"{name}.messages", value["messages"]
        if isinstance(value, str) and is_spoken(value):
            value = spoken_turns(value)
        self.value = None if is_blank(value) else value

    def side(self, completion: Completion) -> Side | None:
        """Return the row of the prompt and a completion; None without a prompt."""
        value = completion.value
        turns = [value] if isinstance(value, Mapping) else value
        if isinstance(self.value, list):
            answer = turns if isinstance(turns, list) else [{"role": "assistant", "content": value}]
            own = answer if answer[: len(self.value)] == self.value else [*self.value, *answer]
            return self._chat(completion, own, self.others, len(own) - len(answer))
        if is_spoken(value) or (isinstance(turns, list) and any(role_in(turn) == "user" for turn in turns)):
            return self._chat(completion, turns, self._others_beside(turns), 0)  # with the prompt
        if self.value is None:
            return None
        if isinstance(turns, list):
            return self._chat(completion, [{"role": "user", "content": self.value}, *turns], self.others, 1)
        record = {**self.others, self.name: self.value, completion.column: value}
        return _text_side(record, Columns(prompt=self.name, metadata=self.metadata), self.place, completion)

    def _chat(self, completion: Completion, turns: Any, others: Mapping[str, Any], before: int) -> Side:
        """Return the side whose column of the completion is a whole conversation; `before` turns are the prompt's."""
        column, place = completion.column, completion.place
        places = {column: place}
        for i in range(before):
            if isinstance(self.value, list):
                places[f"{column}[{i}]"] = f"{self.place}[{i}]"
            else:
                places[f"{column}[{i}].content"] = places[f"{column}[{i}]"] = self.place
        for i in range(before, len(turns) if isinstance(turns, list) else 0):
            inner = f"[{i - before}]" if isinstance(completion.value, list) else ""
            places[f"{column}[{i}]"] = f"{place}{inner}"
            if not isinstance(completion.value, list | Mapping):
                places[f"{column}[{i}].content"] = place
        own = Columns(messages=column, metadata=self.metadata)
        return Side({**others, column: turns}, own, place, completion.score, places, completion.unread)

    def _others_beside(self, turns: Any) -> dict[str, Any]:
        """Return the columns beside a conversation that has the prompt; the prompt's own if it is not a part of it."""
        texts = (
            [turns] if isinstance(turns, str) else [str(t.get("content", t.get("value"))) for t in turns if is_turn(t)]
        )
        if self.value is None or any(str(self.value).strip() in text for text in texts):
            return self.others
        return {**self.others, self.name: self.value}


def _turns_column(rest: Record, completions: Sequence[Completion]) -> str | None:
    """Return the column of an unusual name with the turns before the completions, which have none of their own."""
    for completion in completions:
        value = completion.value
        if is_spoken(value) or (isinstance(value, list) and any(role_in(turn) == "user" for turn in value)):
            return None
    turns = ((name, parsed_turns(value)) for name, value in rest.items())
    return next(
        (name for name, value in turns if isinstance(value, list) and value and role_in(value[-1]) == "user"), None
    )


def _dialogue_side(
    others: Record, prompt: str, turns: list[Any], completion: Completion, metadata: list[str] | None
) -> Side:
    """Return the side of a dialogue, whose turns are in turn in the columns of the prompt and of the completion."""
    column = completion.column
    places = {
        f"{column}[{i}]{inner}": f"{(prompt, completion.place)[i % 2]}[{i // 2}]"
        for i in range(len(turns))
        for inner in ("", ".content")
    }
    own = Columns(messages=column, metadata=metadata)
    record = {**others, column: turns}
    return Side(
        record, own, completion.place, completion.score, {column: completion.place, **places}, completion.unread
    )


def _text_side(record: dict[str, Any], columns: Columns, prompt: str, completion: Completion) -> Side:
    """Return the side of a prompt and a completion that are texts."""
    own = Columns(prompt=columns.prompt, completion=completion.column, metadata=columns.metadata)
    places = {completion.column: completion.place, **({columns.prompt: prompt} if columns.prompt else {})}
    return Side(record, own, completion.place, completion.score, places, completion.unread)


def _no_prompt(column: str | None, completion: Completion) -> Fault:
    """Return the fault of a completion without a prompt, whose column is empty, or None."""
    if column:
        return Fault("empty-field", f"{column} is empty", f"fill in {column}, or remove the row", column=column)
    return Fault("missing-field", f"there is no prompt of {completion.place}", NO_PROMPT, column="prompt")


def _without_prompt(prompt: _Prompt, completions: Sequence[Completion], column: str | None) -> list[Side] | Fault:
    """Return the sides of two texts that begin with their prompt; `column` is that of the prompt, if there is one."""
    first, second = (completion.value for completion in completions)
    at = prompt_length(first, second)
    if not first[:at].strip():
        message = f"{completions[0].place} and {completions[1].place} begin differently, so there is no prompt"
        return Fault(CODE, message, NO_PROMPT, column=completions[0].place)
    columns = Columns(prompt="prompt", metadata=prompt.metadata)
    sides = (
        _text_side({**prompt.others, "prompt": first[:at], c.column: c.value[at:]}, columns, c.place, c)
        for c in completions
    )
    return [replace(side, no_prompt=_no_prompt(column, completions[0])) for side in sides]


def has_prompt(record: Record, columns: Columns) -> bool:
    """Return whether the column of a row's prompt is filled."""
    column = _prompt_column(record, columns)
    return column is not None and not is_blank(record.get(column))


def _prompt_column(record: Record, columns: Columns) -> str | None:
    """Return the column of the prompt: the configured one, or one with a usual name."""
    configured = columns.prompt or columns.messages or columns.text
    return configured or find_column(record, (*PROMPTS, *FURTHER_PROMPTS))


def prompt_length(first: str, second: str) -> int:
    """Return how many characters of two texts are their prompt: those that both begin with.

    As TRL's `extract_prompt` (trl/data_utils.py), a space before the first difference belongs to the completions. If
    one text continues the other, its last word is the shorter completion.
    """
    shorter = min(len(first), len(second))
    at = next((i for i in range(shorter) if first[i] != second[i]), shorter)
    if at == shorter:
        return max(first[:at].rstrip().rfind(" "), 0)
    return at - 1 if at and first[at - 1] == " " else at


def find_column(record: Record, names: Sequence[str]) -> str | None:
    """Return the first of the columns that is filled, else the first that occurs, by its name or in another case."""
    present = [name for name in names if name in record]
    if not present:
        by_name = {snake_case(name): name for name in record}
        present = [by_name[name] for name in names if name in by_name]
    return next((name for name in present if not is_blank(record[name])), present[0] if present else None)
