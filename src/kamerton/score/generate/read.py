"""Read generated tokens: content, calls and reasoning apart."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from kamerton.data.encode.arrays import Encoded
from kamerton.data.encode.each_turn import has_functions
from kamerton.data.encode.tokenize import StretchTokenizer
from kamerton.data.example import DataExample
from kamerton.score.call_metrics import compare_calls
from kamerton.score.calls import MARKS, Answer, calls_text, parse_answer, read_calls_text
from kamerton.score.generate.batched import Prompt

_PROMPT_END = 8  # tokens, in which a template opens the reasoning


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
            for token in self._tokenizer.all_special_tokens:
                row["prediction"] = row["prediction"].replace(token, "")
            row["prediction"] = row["prediction"].strip()
        return row

    def _reference(self, position: int, start: int) -> str:
        """Return the reference as it would be generated: up to the end of the turn."""
        tokens = self._data.tokens(position)[start:].tolist()
        size = next((i for i, token in enumerate(tokens) if token in self._ends), len(tokens))
        return self._decode(tokens[:size])

    def _decode(self, tokens: Sequence[int] | Any) -> str:
        return str(self._tokenizer.decode([int(token) for token in tokens], skip_special_tokens=False))


def answer_row(whole: str, text: str, example: DataExample, *, thinking: bool, calls: bool) -> dict[str, Any]:
    """Return the columns of an answer: `text`, or the parts of `whole`, which has special tokens."""
    source = whole if thinking or any(mark in whole for mark in MARKS) else text
    answer = parse_answer(source, example.tools, thinking=thinking, calls=calls)
    row: dict[str, Any] = {"prediction": text}
    if answer.content != source:
        row = {"prediction": answer.content, "generated": whole}
    return row | reading(answer, calls=calls)


def reading(answer: Answer, *, calls: bool) -> dict[str, Any]:
    """Return the columns of an answer's reasoning and calls."""
    row = {"prediction_reasoning": answer.reasoning} if answer.reasoning else {}
    return row | ({"predicted_calls": calls_text(answer.calls)} if calls else {})
