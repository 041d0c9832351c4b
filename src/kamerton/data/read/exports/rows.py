"""Rows of other programs' exports and logs as rows with the usual columns; other rows are unchanged.

A row that holds no conversation or answer becomes one fault of its file, which tells how to export what can be read.
"""

from __future__ import annotations

import re
import shlex
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain, islice
from typing import Any

from kamerton.data.faults import FaultLog
from kamerton.data.form import Form
from kamerton.data.options import Columns
from kamerton.data.read.exports.annotations import (
    read_argilla,
    read_flat_argilla,
    read_label_studio,
    read_label_studio_min,
    read_old_argilla,
    read_prodigy,
)
from kamerton.data.read.exports.data_sets import (
    join_messages,
    read_glaive,
    read_ideal,
    read_tests,
    read_tree,
    read_xlam,
)
from kamerton.data.read.exports.dialogues import (
    join_turns,
    join_words,
    read_baize,
    read_moss,
    read_persona,
    tag_columns,
    turn_columns,
)
from kamerton.data.read.exports.logs import find_pair, read_log, request_turns
from kamerton.errors import Fault

Record = Mapping[str, Any]
PLACEHOLDER = re.compile(r"\{([^{}?:|!]+)")  # the name of a column in a template
Row = tuple[int, Any]
THIS_FILE = "THIS_FILE"  # in the fix of a fault, until its file is known
SEVERAL = 20  # first rows whose values show what a file is
Reader = Callable[[Record], Record | Fault]


class Exports:
    """Reads the rows of a file's exports; rows that hold nothing to train on are reported at its end."""

    def __init__(self, columns: Columns, form: Form) -> None:
        named = [columns.prompt, columns.completion, columns.label, columns.messages, columns.text]
        for template in (form.prompt, form.completion):
            named += PLACEHOLDER.findall(template or "")
        self.named = [name for name in named if name is not None]
        self.readers: dict[tuple[str, ...], Reader | None] = {}
        self.refused: dict[Fault, array[int]] = {}

    def is_export(self, names: tuple[str, ...]) -> bool:
        """Return whether rows with these columns are those of an export."""
        if names not in self.readers:
            as_it_is = any(name in names for name in self.named)  # the configuration names columns of the raw row
            self.readers[names] = None if as_it_is else find_reader(names)
        return self.readers[names] is not None

    def unpack(self, names: tuple[str, ...], record: Record, row: int) -> Record | None:
        """Return a row of an export with the usual columns; None for one that is refused."""
        reader = self.readers[names]
        assert reader is not None
        unpacked = reader(record)
        if not isinstance(unpacked, Fault):
            return unpacked
        self.refused.setdefault(unpacked, array("q")).append(row)
        return None

    def plain(self, record: Record) -> Record:
        """Return a row with the usual columns if it can be read, without counting it."""
        reader = self.readers[tuple(record)] if self.is_export(tuple(record)) else None
        unpacked = reader(record) if reader is not None else record
        return record if isinstance(unpacked, Fault) else unpacked

    def report(self, file: str, log: FaultLog) -> None:
        """Report the refused rows, one fault for each reason."""
        for fault, rows in self.refused.items():
            message = f"{fault.message} ({len(rows):,} row{'s' if len(rows) > 1 else ''})"
            fix = fault.fix.replace(THIS_FILE, shlex.quote(file))
            log.add(replace(fault, message=message, fix=fix, file=file, row=rows[0]), log.action(fault.code))
            for row in rows:
                log.reject(file, row, fault.code)


def joined_rows(rows: Iterable[Row], file: str, named: Sequence[str]) -> Iterator[Row]:
    """Yield the rows of a file, those of single messages joined to conversations, and words with tags to sentences.

    Words are not joined if the configuration names their columns (`named`).
    """
    rows = iter(rows)
    first = list(islice(rows, SEVERAL))
    columns = tag_columns(first)
    if columns is not None and not set(columns) & set(named):
        yield from join_words(chain(first, rows), columns)
        return
    turns = turn_columns(first)
    if turns is not None and not set(turns) & set(named):
        yield from join_turns(chain(first, rows), turns, file)
        return
    names = first[0][1] if first and not isinstance(first[0][1], Fault) else {}
    rows = chain(first, rows)
    yield from join_messages(rows, file) if {"message_id", "parent_id", "role", "text"} <= set(names) else rows


def find_reader(names: Sequence[str]) -> Reader | None:
    """Return the function that reads rows with these columns; None if they are not those of an export."""
    if list(names) == ["item"]:  # OpenAI's evals
        return partial(_read_inner, name="item")
    if set(names) == {"topic", "input"}:
        return read_baize
    for needed, reader in READERS:
        if set(names).issuperset(needed):
            return reader
    if any(name.endswith(".responses") for name in names):
        return read_flat_argilla
    pair = find_pair(names)
    return partial(read_log, pair=pair) if pair else _incomplete(names)


def _read_gemini(record: Record) -> Record | Fault:
    """Return a row of Gemini's or Vertex AI's `contents` with its turns as `messages`."""
    turns, tools = request_turns(record) if isinstance(record["contents"], list) else (None, None)
    if turns is None:
        return record
    read = ("contents", "systemInstruction", "system_instruction", "tools")
    rest = {name: value for name, value in record.items() if name not in read}
    return {**rest, "messages": turns} | ({"tools": tools} if tools else {})


def _read_bedrock(record: Record) -> Record:
    """Return a row of Bedrock with its functions as `tools`."""
    return {"tools" if name == "toolConfig" else name: value for name, value in record.items() if name != "tools"}


def _read_chatgpt(record: Record) -> Record | Fault:
    """Return a conversation of ChatGPT's data export: the branch that ends at the current node."""
    nodes, at, turns = record["mapping"], record["current_node"], []
    for _ in nodes if isinstance(nodes, Mapping) else ():
        node = nodes.get(at) if isinstance(at, str) else None
        if not isinstance(node, Mapping):
            break
        message, at = node.get("message"), node.get("parent")
        content = message.get("content") if isinstance(message, Mapping) else None
        parts = [part for part in content.get("parts") or () if part != ""] if isinstance(content, Mapping) else []
        if isinstance(message, Mapping) and parts and isinstance(message.get("author"), Mapping):
            turns.append({"role": message["author"].get("role"), "content": parts})
    rest = {name: value for name, value in record.items() if name not in ("mapping", "current_node")}
    return {**rest, "messages": turns[::-1]}


def _read_claude(record: Record) -> Record | Fault:
    """Return a conversation of Claude's data export."""
    turns = record["chat_messages"]
    if not isinstance(turns, list) or not all(isinstance(turn, Mapping) and "sender" in turn for turn in turns):
        return record
    messages = [{"role": turn["sender"], "content": turn.get("content") or turn.get("text")} for turn in turns]
    return {**{name: value for name, value in record.items() if name != "chat_messages"}, "messages": messages}


def _incomplete(names: Sequence[str]) -> Reader | None:
    """Return the fault of exports that have half of a conversation in a row; None for other rows."""
    has = set(names).issuperset
    if has(("custom_id", "response")):
        fault = _half_batch("responses", "response")
        return lambda record: fault
    return None


def _read_batch(record: Record) -> Record | Fault:
    """Return a request of a batch whose messages end with an answer; half of a conversation is a fault."""
    body = record["body"]
    turns = body.get("messages") if isinstance(body, Mapping) else None
    last = turns[-1] if isinstance(turns, list) and turns else None
    if not isinstance(last, Mapping) or last.get("role") != "assistant":
        return _half_batch("requests", "body")
    tools = {"tools": body["tools"]} if body.get("tools") else {}
    return {"custom_id": record["custom_id"], "messages": turns, **tools}


def _half_batch(half: str, column: str) -> Fault:
    files = (THIS_FILE, "OUTPUT.jsonl") if half == "requests" else ("INPUT.jsonl", THIS_FILE)
    program = (
        "($out | INDEX(.custom_id)) as $by | inputs | ($by[.custom_id].response.body.choices[0].message) as $answer"
        " | select($answer) | {tools: .body.tools, messages: (.body.messages + [$answer])}"
    )
    command = f"jq -nc --slurpfile out {files[1]} '{program}' {files[0]} > rows.jsonl"
    message = f"the file has the {half} of a batch alone"
    return Fault("bad-export", message, f"join both files: {command}, then data.path=rows.jsonl", column=column)


def _read_inner(record: Record, name: str) -> Record:
    """Return the object that a row wraps; other rows unchanged."""
    inner = record[name]
    return inner if isinstance(inner, Mapping) else record


READERS: tuple[tuple[tuple[str, ...], Reader], ...] = (
    (("data", "annotations"), read_label_studio),
    (("fields", "responses"), read_argilla),
    (("contents",), _read_gemini),
    (("messages", "toolConfig"), _read_bedrock),
    (("query", "answers", "tools"), read_xlam),
    (("mapping", "current_node"), _read_chatgpt),
    (("chat_messages",), _read_claude),
    (("custom_id", "body"), _read_batch),
    (("input", "ideal"), read_ideal),
    (("row_idx", "row"), partial(_read_inner, name="row")),
    (("vars", "assert"), read_tests),
    (("message_tree_id", "prompt"), read_tree),
    (("annotation", "prediction", "status"), read_old_argilla),
    (("annotator", "annotation_id", "lead_time"), read_label_studio_min),
    (("answer", "_task_hash"), read_prodigy),
    (("system", "chat"), read_glaive),
    (("meta_instruction", "chat"), read_moss),
    (("personality", "history", "candidates"), read_persona),
)
