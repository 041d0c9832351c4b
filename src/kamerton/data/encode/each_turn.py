"""Conversations with functions turn by turn: each trained turn of an assistant as a separate example.

A scores table of such data has a row for each turn, so that the calls of every turn are judged, whether the chat
template lets one sequence hold all turns of a conversation or not.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import replace

import numpy as np
import pyarrow.compute as pc

from kamerton.data.encode.arrays import Encoded
from kamerton.data.encode.targets import Targets
from kamerton.data.encode.tokenize import StretchTokenizer
from kamerton.data.example import DataExample, with_answer
from kamerton.data.parts import WHOLE
from kamerton.data.store import BATCH, Examples
from kamerton.data.stored import CALLS


def has_functions(examples: Examples) -> bool:
    """Return whether any example has functions or calls, so that the calls in answers are judged."""
    for at in range(0, len(examples), BATCH):
        rows = examples.rows[at : at + BATCH]
        extras, prompts, is_chat = (examples.store.take(name, rows) for name in ("extras", "prompt", "chat"))
        with_functions = pc.or_(pc.match_substring(extras, '"tools":'), pc.match_substring(extras, CALLS))
        in_prompt = pc.and_(pc.match_substring(prompts, CALLS), is_chat)
        if any(pc.any(pc.fill_null(mask, False)).as_py() for mask in (with_functions, in_prompt)):
            return True
    return False


def each_turn(examples: Examples, trained: Targets) -> Examples:
    """Return the trained turns of conversations with functions as examples, in their order; others unchanged.

    Conversations that are divided already remain so.
    """
    if not has_functions(examples):
        return examples
    numbers = _numbers(examples, trained)
    if all(len(parts) == 1 for parts in numbers):
        return examples
    rows = np.repeat(examples.rows, [len(parts) for parts in numbers])
    return examples.select(rows, np.array([part for parts in numbers for part in parts], np.int64))


def _numbers(examples: Examples, trained: Targets) -> list[list[int]]:
    """Return for each example the numbers of the parts (`kamerton.data.parts`) to which it is divided, or its own."""
    times = Counter(examples.rows.tolist())
    own = [WHOLE] * len(examples) if examples.parts is None else examples.parts.tolist()
    whole = examples.select(examples.rows)
    numbers = []
    for i, (row, part) in enumerate(zip(examples.rows.tolist(), own, strict=True)):
        example = whole[i]
        turns = example.messages[: part + 1 if part > WHOLE else -1]
        has_calls = bool(example.tools) or any(turn.tool_calls for turn in turns)
        parts = [k for k, turn in enumerate(turns) if k and trained.trains(turn)] if has_calls else []
        is_whole = part >= WHOLE and times[row] == 1
        numbers.append([*parts, *([WHOLE] if part == WHOLE else [])] if parts and is_whole else [part])
    return numbers


def encode_each_turn(data: Encoded, stretches: StretchTokenizer) -> Encoded:
    """Return `each_turn` of the data with their tokens; a truncated conversation remains undivided."""
    if not has_functions(data.examples):
        return data
    numbers = _numbers(data.examples, data.trained)
    tokens, targets = [], []
    for i, parts in enumerate(numbers):
        if len(parts) > 1:
            row = data.examples.rows[i : i + 1]
            turns = data.examples.select(np.repeat(row, len(parts)), np.array(parts, np.int64))
            chunk = stretches.encode([_alone(example) for example in turns])
            if chunk.lengths[-1] == data.lengths[i]:
                ends = np.cumsum(chunk.lengths)[:-1]
                tokens += np.split(chunk.tokens, ends)
                targets += np.split(chunk.targets, ends)
                continue
            numbers[i] = parts[-1:]
        tokens.append(data.tokens(i))
        targets.append(data.targets(i))
    if len(tokens) == len(data):
        return data
    lengths = np.array([len(part) for part in tokens], np.int32)
    rows = np.repeat(data.examples.rows, [len(parts) for parts in numbers])
    return replace(
        data,
        examples=data.examples.select(rows, np.array([part for parts in numbers for part in parts], np.int64)),
        lengths=lengths,
        target_counts=np.array([mask.sum() for mask in targets], np.int32),
        fingerprint=hashlib.blake2b(f"{data.fingerprint} turns".encode(), digest_size=8).hexdigest(),
        weights=None,
        _tokens=np.concatenate(tokens),
        _targets=np.concatenate(targets),
        _begins=np.cumsum(lengths, dtype=np.int64) - lengths,
    )


def _alone(example: DataExample) -> DataExample:
    """Return an example whose completion is the only target."""
    example = with_answer(example)
    if isinstance(example.prompt, str):
        return example
    before = tuple(replace(turn, weight=0.0) if turn.role == "assistant" else turn for turn in example.prompt)
    return replace(example, prompt=before)
