"""Rows of data sets and tests whose conversation has a form of its own: xLAM, Glaive, Open Assistant, evals."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from kamerton.data.read.conversations.calls import parse_json
from kamerton.data.read.exports.logs import FIX
from kamerton.errors import Fault

Record = Mapping[str, Any]


def read_xlam(record: Record) -> Record:
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


def read_ideal(record: Record) -> Record:
    """Return a row of OpenAI's evals with the first of the answers that are right."""
    ideal = record["ideal"]
    return {**record, "ideal": ideal[0]} if isinstance(ideal, list) and ideal else record


def read_tests(record: Record) -> Record | Fault:
    """Return a test of promptfoo: its variables, and the text that is expected."""
    variables, checks = record["vars"], record["assert"]
    if not isinstance(variables, Mapping) or not isinstance(checks, list):
        return record
    kinds = ("equals", "icontains", "contains", "similar")
    values = [check.get("value") for check in checks if isinstance(check, Mapping) and check.get("type") in kinds]
    if len(values) != 1 or not isinstance(values[0], str):
        return Fault("bad-export", "the test expects no single text", f"{FIX}", column="assert")
    return {**variables, "expected": values[0]}


def read_tree(record: Record) -> Record | Fault:
    """Return the conversation of a tree of Open Assistant that follows the best answer at each place."""
    node, turns = record["prompt"], []
    if not isinstance(node, Mapping) or "replies" not in node:
        return record
    while isinstance(node, Mapping):
        turns.append({"role": node.get("role"), "content": node.get("text")})
        replies = [reply for reply in node.get("replies") or () if isinstance(reply, Mapping)]
        node = min(replies, key=_rank, default=None)
    if turns[-1]["role"] == "prompter":
        turns.pop()
    rest = {name: value for name, value in record.items() if name != "prompt"}
    return {**rest, "messages": turns} if turns else Fault("bad-export", "the tree has no answer", FIX, column="prompt")


_SAID = re.compile(r"(?:\A|\s*(?:<\|endoftext\|>)?\s*)(USER|ASSISTANT|FUNCTION RESPONSE):\s*")
_QUOTED = re.compile(r"(\"arguments\"\s*:\s*)'(.*)'(\s*\})", re.DOTALL)
_FUNCTION = "<functioncall>"


def join_messages(rows: Iterable[tuple[int, Any]], file: str) -> Iterator[tuple[int, Any]]:
    """Yield a row for each tree of single messages (Open Assistant), which follows the best answer at each place.

    A warning counts the messages that are not on the way; all are in memory until the last one is read.
    """
    replies: dict[object, list[tuple[int, Record]]] = {}
    total = used = 0
    for number, record in rows:
        if isinstance(record, Fault):
            yield number, record
            continue
        total += 1
        replies.setdefault(record.get("parent_id") or None, []).append((number, record))
    ids = {record.get("message_id") for messages in replies.values() for _, record in messages}
    roots = [message for parent in [*replies] if parent is None or parent not in ids for message in replies[parent]]
    for number, root in roots:
        turns: list[Any] = []
        message: Record | None = root
        while message is not None:
            turns.append({"role": message.get("role"), "content": message.get("text")})
            answers = [record for _, record in replies.pop(message.get("message_id"), [])]
            message = min(answers, key=_rank) if answers else None
        turns = turns[:-1] if turns[-1]["role"] == "prompter" else turns
        used += len(turns)
        about = {name: value for name, value in root.items() if name not in ("text", "role", "parent_id", "rank")}
        if turns:
            yield number, {**about, "messages": turns}
    if total and not used:
        problem = f"no tree of messages has a question and an answer ({total:,} rows)"
        yield 0, Fault("bad-export", problem, FIX, file, column="parent_id")
        return
    left = f"{total - used:,} of {total:,} messages are not read: they are no best answer, or have no answer"
    yield 0, Fault("not-read", left, "nothing, if that is intended", file, severity="warning")


def _rank(reply: Record) -> tuple[bool, Any]:
    return reply.get("rank") is None, reply.get("rank") or 0


def read_glaive(record: Record) -> Record | Fault:
    """Return a row of Glaive's function calling data, whose conversation is one text."""
    system, chat = record["system"], record["chat"]
    if not isinstance(system, str) or not isinstance(chat, str) or not chat.lstrip().startswith("USER:"):
        return record
    pieces = _SAID.split(chat)
    roles = {"USER": "user", "ASSISTANT": "assistant", "FUNCTION RESPONSE": "tool"}
    turns: list[Any] = []
    for speaker, text in zip(pieces[1::2], pieces[2::2], strict=True):
        text = text.replace("<|endoftext|>", "").strip()
        before, tag, call = text.partition(_FUNCTION)
        if speaker == "ASSISTANT" and tag:  # its arguments are JSON in single quotes
            call = _QUOTED.sub(r"\1\2\3", call.strip())
            turns.append({"role": "assistant", "content": before.strip(), "tool_calls": call})
        else:
            turns.append({"role": roles[speaker], "content": text})
    about, tools = _definitions(system.removeprefix("SYSTEM:").strip())
    first = [{"role": "system", "content": about}] if about else []
    rest = {name: value for name, value in record.items() if name not in ("system", "chat")}
    return {**rest, "messages": [*first, *turns]} | ({"tools": tools} if tools else {})


def _definitions(text: str) -> tuple[str, list[Any]]:
    """Return a text without the JSON of the functions at its end, and the functions."""
    start, decoder, tools = text.find("{"), json.JSONDecoder(), []
    at = start
    try:
        while 0 <= at < len(text):
            value, at = decoder.raw_decode(text, at)
            tools.append(value)
            at += len(text[at:]) - len(text[at:].lstrip())
    except ValueError:
        return text, []
    about = text[:start].strip() if tools else text
    return about.removesuffix("with access to the following functions. Use them if required -").strip(), tools
