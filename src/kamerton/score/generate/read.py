"""Read generated tokens: content, calls and reasoning apart."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from kamerton.data.encode.arrays import Encoded
from kamerton.data.encode.tokenize import StretchTokenizer
from kamerton.data.example import DataExample
from kamerton.data.store import Examples
from kamerton.score.call_metrics import compare_calls
from kamerton.score.calls import MARKS, Answer, calls_text, parse_answer, read_calls_text
from kamerton.score.generate.batched import Prompt

_PROMPT_END = 8  # tokens, in which a template opens the reasoning


def has_functions(examples: Examples) -> bool:
    """Return whether any example has functions or calls, so that calls in answers are judged."""
    extras = examples.store.take("extras", examples.rows)
    if examples.parts is None and extras.null_count == len(extras):
        return False
    return any(example.tools or example.tool_calls for example in examples)


def last_turn(data: Encoded, position: int, stretches: StretchTokenizer) -> int:
    """Return where the last turn of an example's tokens begins; earlier turns may be targets, too."""
    example, tokens = data.examples[position], data.tokens(position)
    begin = int(np.flatnonzero(~data.targets(position))[-1]) + 1
    if not example.reasoning or data.trained.reasoning:
        return begin
    prompt = stretches.prompt_of(example)  # the reasoning is no target, though it is part of the turn
    if tokens[: len(prompt)].tolist() == prompt:
        return len(prompt)
    return min(begin, max(len(tokens) - len(stretches.completion_of(example)), 0))


class AnswerReader:
    """Reads answers to `prompts`, those of `data`: texts, and if the data have functions, calls.

    `ends` are the tokens that end a turn.
    """

    def __init__(self, tokenizer: Any, data: Encoded, prompts: Sequence[Prompt], ends: Collection[int]) -> None:
        self._tokenizer, self._data, self._prompts, self._ends = tokenizer, data, prompts, ends
        self._calls = has_functions(data.examples)

    def __call__(self, position: int, tokens: Sequence[int]) -> dict[str, Any]:
        """Return the columns of an answer.

        Calls are not judged (`predicted_calls` is None) if those of the reference, as the template writes them, cannot
        be read.
        """
        example, prompt = self._data.examples[position], self._prompts[position].tokens
        thinking = self._decode(prompt[-_PROMPT_END:]).rstrip().endswith("<think>")
        text = self._tokenizer.decode(list(tokens), skip_special_tokens=True)
        if example.tool_calls:
            target = read_calls_text(calls_text(example.tool_calls))
            reference = self._reference(position, len(prompt))
            if not compare_calls(target, parse_answer(reference, example.tools, thinking=thinking).calls).exact:
                return {"prediction": text}
        row = answer_row(self._decode(tokens), text, example, thinking=thinking, calls=self._calls)
        if "generated" in row:
            row["prediction"] = self._without_special(row["prediction"])
        return row

    def _reference(self, position: int, start: int) -> str:
        """Return the reference as it would be generated: up to the end of the turn."""
        tokens = self._data.tokens(position)[start:].tolist()
        size = next((i for i, token in enumerate(tokens) if token in self._ends), len(tokens))
        return self._decode(tokens[:size])

    def _decode(self, tokens: Sequence[int] | Any) -> str:
        return str(self._tokenizer.decode([int(token) for token in tokens], skip_special_tokens=False))

    def _without_special(self, text: str) -> str:
        for token in self._tokenizer.all_special_tokens:
            text = text.replace(token, "")
        return text.strip()


def answer_row(whole: str, text: str, example: DataExample, *, thinking: bool, calls: bool) -> dict[str, Any]:
    """Return the columns of an answer: `text`, or the parts of `whole`, which has special tokens."""
    answer = Answer("", text)
    if thinking or any(mark in whole for mark in MARKS):
        answer = parse_answer(whole, example.tools, thinking=thinking, calls=calls)
    elif calls:
        answer = parse_answer(text, example.tools)
    return answer_columns(answer, text, whole, calls=calls)


def answer_columns(answer: Answer, text: str, whole: str, *, calls: bool) -> dict[str, Any]:
    """Return the columns of the parts of an answer; the content is `text` if there are no others."""
    row: dict[str, Any] = {"prediction": answer.content if answer.reasoning or answer.calls else text}
    if answer.reasoning or answer.calls:
        row["generated"] = whole
    if answer.reasoning:
        row["prediction_reasoning"] = answer.reasoning
    return row | ({"predicted_calls": calls_text(answer.calls)} if calls else {})
