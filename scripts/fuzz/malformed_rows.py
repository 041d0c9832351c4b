"""Rows of training data and the ways in which they are spoilt; everything is drawn from a `random.Random`."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

Shape = Callable[[Random, int], dict[str, Any]]
WORDS = ["oven", "mill", "river", "stone", "north-west", "it's", "3.5", "e.g.", "O'Neil", "re:"]
WORDS += ["żółw", "café", "猫", "naïve", "🎉"]
ODD = [
    *(None, True, 0, -1, 10**400, 1.5, float("nan"), "", " ", "\x00", "\ud800", "﻿a", "cafÃ©", "a\r\nb", "null", "[]"),
    *([], {}, [[]], [None], {"": ""}, {"role": "user"}, [{"role": "user", "content": "a"}], "{'a': 1}", '{"a": 1}'),
    *("<think>a", "</tool_call>", "<|im_end|>", "=1+1", "\u2028", "a" * 3000, {"text": {"text": {"text": "a"}}}),
]
KEYS = [
    "prompt",
    "completion",
    "messages",
    "role",
    "content",
    "text",
    "label",
    "tools",
    "id",
    "input",
    "output",
    "",
    "x",
    *("chosen", "rejected", "prompt", "scores", "rank", "answer"),
]


def words(random: Random, most: int = 8) -> str:
    return " ".join(random.choices(WORDS, k=random.randint(1, most)))


def pair(random: Random, number: int) -> dict[str, Any]:
    """A prompt with one of two labels, or with a text."""
    label = random.choice(["yes", "no"]) if number % 3 else words(random)
    return {"prompt": f"{number} {words(random)}", "completion": label}


def conversation(random: Random, number: int) -> dict[str, Any]:
    """A conversation with calls of a function, their results, reasoning and weights."""
    arguments = {"city": random.choice(WORDS), "days": random.randint(1, 5)}
    as_text = random.random() < 0.7
    call_id = f"call_{number}"
    call = {"name": "forecast", "arguments": json.dumps(arguments) if as_text else arguments}
    turns: list[dict[str, Any]] = [
        {"role": "system", "content": words(random)},
        {"role": "user", "content": f"{number} {words(random)}"},
        {"role": "assistant", "content": None, "tool_calls": [{"id": call_id, "type": "function", "function": call}]},
        {"role": "tool", "tool_call_id": call_id, "name": "forecast", "content": json.dumps({"rain": number})},
        {"role": "assistant", "content": words(random), "reasoning_content": words(random)},
        {"role": "user", "content": words(random)},
        {"role": "assistant", "content": f"<think>{words(random)}</think>{words(random)}", "weight": number % 2},
    ]
    properties = {"city": {"type": "string"}, "days": {"type": "integer"}}
    parameters = {"type": "object", "properties": properties, "required": ["city"]}
    function = {"name": "forecast", "description": words(random), "parameters": parameters}
    row = {"messages": turns[: random.choice([3, 5, 7])], "tools": [{"type": "function", "function": function}]}
    return row | ({"weight": random.choice([0.5, 1, 2])} if random.random() < 0.2 else {})


def shared(random: Random, number: int) -> dict[str, Any]:
    """A conversation as ShareGPT writes it."""
    turns = [{"from": "human", "value": f"{number} {words(random)}"}, {"from": "gpt", "value": words(random)}]
    if number % 2:
        turns.insert(1, {"from": "function_call", "value": '{"name": "f", "arguments": {}}'})
        turns.insert(2, {"from": "observation", "value": "{}"})
    return {"conversations": turns, "system": words(random)}


def choices(random: Random, number: int) -> dict[str, Any]:
    """A multiple-choice question."""
    options = random.sample(WORDS, 4)
    return {"question": f"{number} {words(random)}?", "choices": options, "answer": random.choice([0, "B", options[2]])}


def _turn(role: str, content: str) -> dict[str, Any]:
    return {"role": role, "content": content}


def _better_and_worse(random: Random, number: int) -> tuple[str, str, str]:
    """A prompt with two completions, which are sometimes equal."""
    return f"{number} {words(random)}?", words(random), words(random, 2)


def text_pair(random: Random, number: int) -> dict[str, Any]:
    """A prompt, explicit or implicit, with two texts, in one of the usual columns."""
    prompt, better, worse = _better_and_worse(random, number)
    if number % 5 == 0:
        return {"chosen": f"{prompt} {better}", "rejected": f"{prompt} {worse}", "score_chosen": number}
    return {"prompt": prompt, "chosen": better, "rejected": worse, "system": words(random)}


def turn_pair(random: Random, number: int) -> dict[str, Any]:
    """Turns that lead to a better or a worse last turn."""
    turns = conversation(random, number)
    before = turns["messages"][:4] if len(turns["messages"]) > 4 else [_turn("user", f"{number} {words(random)}")]
    better, worse = ({**_turn("assistant", words(random)), "reasoning_content": words(random)} for _ in range(2))
    return {"chosen": [*before, better], "rejected": [*before, worse], "tools": turns["tools"]}


def openai_pair(random: Random, number: int) -> dict[str, Any]:
    """The turns of a prompt with functions, and two last turns in the form of OpenAI."""
    pair = turn_pair(random, number)
    given = {"messages": pair["chosen"][:-1], "tools": pair["tools"], "parallel_tool_calls": True}
    return {"input": given, "preferred_output": pair["chosen"][-1:], "non_preferred_output": pair["rejected"][-1:]}


def scored(random: Random, number: int) -> dict[str, Any]:
    """Several completions with scores."""
    texts = [f"{i} {words(random)}" for i in range(random.randint(2, 5))]
    scores = [random.choice([0, 1.5, 4, 10]) for _ in texts]
    return {"prompt": f"{number} {words(random)}", "completions": texts, "scores": scores}


def ranked(random: Random, number: int) -> dict[str, Any]:
    """Several completions with ranks, after a prompt in which people speak."""
    answers = [{"answer": f"{i} {words(random)}", "model": "m", "rank": i + 1} for i in range(random.randint(2, 5))]
    return {"prompt": f"\n\nHuman: {number} {words(random)}\n\nAssistant: ", "answers": answers}


def comparison(random: Random, number: int) -> dict[str, Any]:
    """Two answers and which one is better, or a tie."""
    prompt, better, worse = _better_and_worse(random, number)
    row = {"prompt": prompt, "response_0": better, "response_1": worse}
    return row | {"better_response_id": random.choice([0, 1, 1, "tie"]), "is_response_0_safe": True}


def judged(random: Random, number: int) -> dict[str, Any]:
    """A completion that is desired or not."""
    prompt, better, worse = _better_and_worse(random, number)
    return {"prompt": prompt, "completion": random.choice([better, worse]), "label": random.choice([True, False, 1])}


def tagged(random: Random, number: int) -> dict[str, Any]:
    """A conversation whose last turn is desired or not."""
    turns = [_turn("user", f"{number} {words(random)}"), _turn("assistant", words(random))]
    return {"messages": turns, "kto_tag": random.random() < 0.5}


PREFERENCES: list[Shape] = [text_pair, turn_pair, openai_pair, scored, ranked, comparison, judged, tagged]
SHAPES: list[Shape] = [pair, conversation, conversation, shared, choices]


def rows(random: Random, shapes: Sequence[Shape] | None = None) -> list[dict[str, Any]]:
    """Rows of one shape, mostly enough of them to be split."""
    shape, count = (
        random.choice(shapes or SHAPES),
        random.randint(1, 8) if random.random() < 0.2 else random.randint(20, 40),
    )
    return [shape(random, number) for number in range(count)]


def spoil(random: Random, rows: list[Any]) -> list[Any]:
    """Change one place of the rows: a value, a key, a turn or a whole row."""
    rows = copy.deepcopy(rows)
    parent, key = random.choice(list(_places(rows, None)))
    what = random.randrange(7)
    if what < 3:
        parent[key] = copy.deepcopy(random.choice(ODD))
    elif what == 3:
        del parent[key]
    elif what == 4 and isinstance(parent, dict):
        parent[random.choice(KEYS)] = parent.pop(key)
    elif what == 5 and isinstance(parent, list):
        parent.insert(key, copy.deepcopy(random.choice([*parent, *ODD])))
    else:
        parent[key] = [parent[key]] if random.random() < 0.5 else {random.choice(KEYS): parent[key]}
    return rows


def _places(value: Any, parent: Any) -> Any:
    """Yield each place of nested values as its container and its key or index there."""
    keys = range(len(value)) if isinstance(value, list) else list(value) if isinstance(value, dict) else ()
    for key in keys:
        yield value, key
        yield from _places(value[key], value)


def spoil_bytes(random: Random, content: bytes) -> bytes:
    """Change bytes at one place: flipped, removed, repeated, inserted, or all after it cut off."""
    at = random.randrange(len(content) + 1)
    size = random.choice([1, 1, 2, 7, 40])
    inserted = random.choice(
        [b"\x00", b"\xff\xfe", b'"', b"\n", b"\r", b"\t", b"{", b"]", b",", b"\xe9", b"\\", b"\x1a"]
    )
    return random.choice(
        [
            content[:at],
            content[:at] + content[at + size :],
            content[:at] + content[at : at + size] * 2 + content[at + size :],
            content[:at] + inserted + content[at:],
            content[:at] + random.randbytes(size) + content[at + size :],
        ]
    )
