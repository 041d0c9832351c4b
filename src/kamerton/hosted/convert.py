"""Convert checked examples to the file of a fine-tuning API: chat JSONL, the same bytes for the same examples."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from kamerton.data.example import DataExample, Message, chat_messages
from kamerton.errors import Fault
from kamerton.hosted.preferences import sides_of

LEAST_EXAMPLES = 10  # of a training file: OpenAI's fine-tuning guide
MOST_BYTES = 512 * 2**20  # of a file: OpenAI's file API


@dataclass(frozen=True, slots=True)
class ChatFile:
    """A file to upload. `name` contains a digest of its content, so that an uploaded one is found again."""

    name: str
    content: bytes
    examples: int


def chat_line(example: DataExample) -> dict[str, Any]:
    """Return `{"messages": […]}`, with `tools` if there are any; metadata and what `left_out` reports are not sent.

    An answer that is not a target has weight 0.
    """
    messages = chat_messages(example.messages)
    for turn, message in zip(example.messages, messages, strict=True):
        if turn.role == "assistant" and turn.weight == 0:
            message["weight"] = 0
    return {"messages": messages, **({"tools": json.loads(example.tools)} if example.tools else {})}


def chat_file(
    examples: Iterable[DataExample], to_line: Callable[[DataExample], dict[str, Any]] = chat_line
) -> ChatFile:
    """Return examples as JSON lines in UTF-8; `to_line` returns the values of one."""
    lines = [orjson.dumps(to_line(example)) for example in examples]
    content = b"".join(line + b"\n" for line in lines)
    digest = hashlib.blake2b(content, digest_size=16).hexdigest()
    return ChatFile(f"kamerton-{digest}.jsonl", content, len(lines))


def left_out(split: str, examples: Iterable[DataExample]) -> Iterator[Fault]:
    """Yield a warning with counts for what chat JSONL has no field for: reasoning, and weights other than 0 and 1.

    Of the test split only the prompts are sent.
    """
    sent = [_sent_turns(split, example) for example in examples]
    reasoning = [turns for turns in sent if any(turn.reasoning for turn in turns)]
    if reasoning:
        turn_count = sum(bool(turn.reasoning) for turns in reasoning for turn in turns)
        message = (
            f"reasoning is not sent: {turn_count:,} turns of {len(reasoning):,} {split} examples have some, for which"
            " the chat format of fine-tuning APIs has no field"
        )
        fix = "train a local model (model=hub) to keep it"
        yield Fault("hosted.reasoning", message, fix, column="data", severity="warning")
    weighted = [turns for turns in sent if any(turn.weight not in (0, 1) for turn in turns)]
    if weighted and split != "test":
        turn_count = sum(turn.weight not in (0, 1) for turns in weighted for turn in turns)
        message = (
            f"weights are sent as 1: {turn_count:,} turns of {len(weighted):,} {split} examples have one that is not 0"
            " or 1, the only ones of the chat format of fine-tuning APIs"
        )
        fix = "give weights of 0 and 1, or train a local model (model=hub)"
        yield Fault("hosted.weight", message, fix, column="data", severity="warning")


def _sent_turns(split: str, example: DataExample) -> tuple[Message, ...]:
    if split == "test":
        return example.messages[:-1]
    return (*example.messages, *(side.messages[-1] for side in sides_of(example)[1:]))


def check_chat(split: str, examples: Sequence[DataExample], file: ChatFile) -> Iterator[Fault]:
    """Yield faults that the endpoint would refuse or misinterpret."""
    column = f"data.{split}" if split != "train" else "data"
    if split == "train" and len(examples) < LEAST_EXAMPLES:
        message = f"the training split has {len(examples)} examples, and a hosted model takes {LEAST_EXAMPLES} or more"
        yield Fault("hosted.few", message, "give more data, or a larger share in split.ratios", column=column)
    if len(file.content) > MOST_BYTES:
        message = f"the {split} file has {len(file.content):,} bytes, and {MOST_BYTES:,} is the most"
        yield Fault("hosted.size", message, "give fewer examples", column=column)
    tools = [
        example.id for example in examples if any(m.get("tool_call_id") == "" for m in chat_messages(example.messages))
    ]
    if tools:
        message = f"{len(tools)} {split} examples have a turn of the role 'tool', which needs the call it answers"
        yield Fault("hosted.role", f"{message} (first: example {tools[0]})", "drop these rows", column=column)
    unprompted = [
        example.id
        for example in examples
        if len(example.messages) < 2 or not any(turn.content for turn in example.messages[:-1])
    ]
    if unprompted:
        message = f"{len(unprompted)} {split} examples have an answer and no prompt"
        fix = "give prompts: a hosted model learns from chats"
        yield Fault("hosted.no-prompt", f"{message} (first: example {unprompted[0]})", fix, column=column)
