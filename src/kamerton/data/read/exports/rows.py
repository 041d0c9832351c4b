"""Rows of other programs' exports and logs as rows with the usual columns; other rows are unchanged.

A row that holds no conversation or answer becomes one fault of its file, which tells how to export what can be read.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from kamerton.data.faults import FaultLog
from kamerton.data.form import Form
from kamerton.data.options import Columns
from kamerton.data.read.conversations.calls import parse_json
from kamerton.data.read.exports.annotations import read_argilla, read_flat_argilla, read_label_studio
from kamerton.data.read.exports.logs import FIX, find_pair, read_log, request_turns
from kamerton.errors import Fault

Record = Mapping[str, Any]
PLACEHOLDER = re.compile(r"\{([^{}?:|!]+)")  # the name of a column in a template
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

    def report(self, file: str, log: FaultLog) -> None:
        """Report the refused rows, one fault for each reason."""
        for fault, rows in self.refused.items():
            message = f"{fault.message} ({len(rows):,} row{'s' if len(rows) > 1 else ''})"
            log.add(replace(fault, message=message, file=file, row=rows[0]), log.action(fault.code))
            for row in rows:
                log.reject(file, row, fault.code)


def find_reader(names: Sequence[str]) -> Reader | None:
    """Return the function that reads rows with these columns; None if they are not those of an export."""
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


def _read_xlam(record: Record) -> Record:
    """Return a row of xLAM's data, whose answers are the JSON of calls, as a conversation; other rows unchanged."""
    answers = record["answers"]
    try:
        calls = parse_json(answers) if isinstance(answers, str) else answers
    except ValueError:
        return record
    if not isinstance(calls, list) or not calls or not all(isinstance(c, Mapping) and "arguments" in c for c in calls):
        return record
    answer = {"role": "assistant", "tool_calls": calls}
    rest = {name: value for name, value in record.items() if name not in ("query", "answers")}
    return {**rest, "messages": [{"role": "user", "content": record["query"]}, answer]}


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
    if has(("custom_id", "body")) or has(("custom_id", "response")):
        half, column = ("requests", "body") if "body" in names else ("responses", "response")
        message = f"the file has the {half} of a batch alone"
        command = (
            "jq -c --slurpfile out output.jsonl '. as $r | $out[] | select(.custom_id == $r.custom_id)"
            " | {tools: $r.body.tools, messages: ($r.body.messages + [.response.body.choices[0].message])}'"
            " input.jsonl > rows.jsonl"
        )
        fault = Fault("bad-export", message, f"join both files: {command}", column=column)
        return lambda record: fault
    if has(("message_id", "parent_id", "role", "text")) or has(("message_tree_id", "prompt")):
        message = "the rows are messages of trees (as of Open Assistant), not conversations"
        fault = Fault("bad-export", message, f"choose a path from each root and {FIX}", column="message_id")
        return lambda record: fault
    return None


READERS: tuple[tuple[tuple[str, ...], Reader], ...] = (
    (("data", "annotations"), read_label_studio),
    (("fields", "responses"), read_argilla),
    (("contents",), _read_gemini),
    (("messages", "toolConfig"), _read_bedrock),
    (("query", "answers", "tools"), _read_xlam),
    (("mapping", "current_node"), _read_chatgpt),
    (("chat_messages",), _read_claude),
)
