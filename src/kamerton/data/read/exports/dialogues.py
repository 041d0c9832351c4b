"""Rows of dialogue data sets with a form of their own: MOSS, Persona-Chat, Baize; and words with tags as sentences."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from typing import Any

from kamerton.data.read.columns.propose import COMPLETIONS
from kamerton.data.read.conversations.roles import CONVERSATIONS, TURN_KEYS, role_of
from kamerton.data.read.files.text_files import TAG
from kamerton.errors import Fault

Record = Mapping[str, Any]
Row = tuple[int, Any]
_MARKED = re.compile(r"\A\s*<\|[\w ]+\|>:\s*(.*?)\s*(?:<eo[a-z]>)?\s*\Z", re.DOTALL)  # a part of a turn of MOSS
_BAIZE = re.compile(r"\n?\[\|(Human|AI)\|\] ?")
ROLES = ("role", "from", "sender", "speaker")
IN_TURNS = TURN_KEYS - {"id", "type", "status"}
TEXTS = ("content", "text", "message", "value", "utterance")
WORDS, TAGS = ("word", "token"), ("tag", "ner", "ner_tag", "ne_tag")
SENTENCES = ("sentence #", "sentence_id", "sent_id", "sentence_idx", "sentence")


def read_moss(record: Record) -> Record | Fault:
    """Return a row of MOSS's data as turns, thoughts as reasoning. Turns with commands are a fault."""
    turns: list[Any] = []
    chat = record["chat"]
    if not isinstance(chat, Mapping) or not all(isinstance(turn, Mapping) for turn in chat.values()):
        return record
    for turn in chat.values():
        parts = {name: _moss_text(text) for name, text in turn.items()}
        if parts.get("Commands") or parts.get("Tool Responses"):
            message = "the turn has commands to tools, which are no calls of functions with named arguments"
            fix = "write them as tool_calls of messages; or, to leave such rows out, data.policy.bad-export=drop"
            return Fault("bad-export", message, fix, column="chat")
        answer = {"role": "assistant", "content": parts.get("MOSS", "")}
        thoughts = {"reasoning_content": parts["Inner Thoughts"]} if parts.get("Inner Thoughts") else {}
        turns += [{"role": "user", "content": parts.get("Human", "")}, answer | thoughts]
    system = [{"role": "system", "content": record["meta_instruction"]}] if record["meta_instruction"] else []
    rest = {name: value for name, value in record.items() if name not in ("chat", "meta_instruction")}
    return {**rest, "messages": [*system, *turns]}


def _moss_text(text: object) -> str:
    """Return a part of a turn without its marks; "" for None."""
    match = _MARKED.match(text) if isinstance(text, str) else None
    inner = match[1] if match else str(text or "")
    return "" if inner == "None" else inner


def read_persona(record: Record) -> Record:
    """Return a row of Persona-Chat: the persona is the system turn, the last candidate the answer.

    Earlier turns of the assistant are the answers of other rows, and have no weight here.
    """
    history, candidates, persona = record["history"], record["candidates"], record["personality"]
    if not all(isinstance(value, list) and value for value in (history, candidates, persona)):
        return record
    if not all(isinstance(text, str) for text in (*history, *candidates, *persona)):
        return record
    turns: list[Any] = [{"role": "user", "content": text} for text in history]
    for turn in turns[-2::-2]:
        turn |= {"role": "assistant", "weight": 0}
    answer = {"role": "assistant", "content": candidates[-1]}
    rest = {name: value for name, value in record.items() if name not in ("history", "candidates", "personality")}
    return {**rest, "messages": [{"role": "system", "content": "\n".join(persona)}, *turns, answer]}


def read_baize(record: Record) -> Record:
    """Return a row of Baize's data, whose conversation is one text; the sentence before it is the system turn."""
    text = record["input"]
    if not isinstance(text, str) or "[|Human|]" not in text or "[|AI|]" not in text:
        return record
    before, *pieces = _BAIZE.split(text)
    roles = {"Human": "user", "AI": "assistant"}
    turns = [
        {"role": roles[name], "content": said.strip()} for name, said in zip(pieces[::2], pieces[1::2], strict=True)
    ]
    turns = turns[:-1] if turns[-1] == {"role": "user", "content": ""} else turns  # the mark of the end
    system = [{"role": "system", "content": before.strip()}] if before.strip() else []
    rest = {name: value for name, value in record.items() if name != "input"}
    return {**rest, "messages": [*system, *turns]}


def tag_columns(rows: Iterable[Row]) -> tuple[str, str, str] | None:
    """Return the columns of the sentence, the word and its tag of a table of words; None for other rows."""
    records = [record for _, record in rows if isinstance(record, Mapping)]
    if len(records) < 3:
        return None
    names = {str(name).strip().lower(): name for name in records[0]}
    columns = [next((names[key] for key in keys if key in names), None) for keys in (SENTENCES, WORDS, TAGS)]
    if None in columns:
        return None
    sentence, word, tag = map(str, columns)
    are_tags = all(TAG.fullmatch(str(record.get(tag))) for record in records)
    return (sentence, word, tag) if are_tags and " " not in str(records[0].get(word)).strip() else None


def turn_columns(rows: Iterable[Row]) -> tuple[str, str, str] | None:
    """Return the columns of the conversation, the role and the text of a table of single turns; None for other rows."""
    records = [record for _, record in rows if isinstance(record, Mapping)]
    names = set(records[0]) if records else set()
    columns = [next((key for key in keys if key in names), "") for keys in (CONVERSATIONS, ROLES, TEXTS)]
    if "" in columns:
        return None
    conversation, role, text = columns
    if any(str(name).lower() in COMPLETIONS for name in names):
        return None  # single turns with a label or an answer of their own
    are_turns = all(role_of({"role": record.get(role)})[0] for record in records)
    repeat = any(a.get(conversation) == b.get(conversation) for a, b in pairwise(records))
    return (conversation, role, text) if are_turns and repeat else None


def join_turns(rows: Iterable[Row], columns: tuple[str, str, str], file: str) -> Iterator[Row]:
    """Yield a row `messages` for each conversation of a table of single turns, which stand one after another."""
    conversation, role, text = columns
    seen: set[object] = set()
    joined: dict[str, Any] = {}
    begun = 0
    for number, record in rows:
        if isinstance(record, Fault):
            yield number, record
            continue
        key = record.get(conversation)
        if joined and key != joined[conversation]:
            yield begun, joined
            joined = {}
        if not joined and key in seen:
            message = f"the turns of {conversation} {str(key)[:40]!r} are not one after another (row {number:,})"
            yield 0, Fault("bad-export", message, f"sort the rows by {conversation}", file, column=conversation)
            return
        if not joined:
            begun, joined = number, {conversation: key, "messages": []}
            seen.add(key)
        further = {name: value for name, value in record.items() if name in IN_TURNS and value not in (None, "")}
        joined["messages"].append({**further, "role": record.get(role), "content": record.get(text)})
        for name, value in record.items():
            if name not in (*columns, *further) and value not in (None, ""):
                joined.setdefault(name, []).append(value)
    if joined:
        yield begun, joined


def join_words(rows: Iterable[Row], columns: tuple[str, str, str]) -> Iterator[Row]:
    """Yield a row `tokens`, `tags` for each sentence of a table of words; an empty name is that of the one before."""
    sentence, word, tag = columns
    joined: dict[str, list[Any]] = {}
    current, begun = None, 0
    for number, record in rows:
        if isinstance(record, Fault):
            yield number, record
            continue
        name = record.get(sentence)
        if joined and name not in (None, "", current):
            yield begun, joined
            joined = {}
        current = name if name not in (None, "") else current
        begun = begun if joined else number
        for key, value in record.items():
            if key != sentence:
                joined.setdefault({word: "tokens", tag: "tags"}.get(key, key), []).append(value)
    if joined:
        yield begun, joined
