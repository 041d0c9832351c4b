"""From the texts of labels to what a prompt's answer is chosen from: their tokens as a trie, lengths and priors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from kamerton.data.encode.control import TEXT
from kamerton.data.encode.tokenize import StretchTokenizer
from kamerton.data.example import Message
from kamerton.score.labels.question import Answer, Question
from kamerton.score.labels.trie import Candidates, Floats, Tokens, build_trie

Normalization = Literal["sum", "token", "byte"]
Prompt = str | tuple[Message, ...]


class LabelTokens:
    """The candidates for any prompt: one object for all prompts after which the labels have the same tokens.

    `normalization` divides a label's log-probability by its number of tokens or of UTF-8 bytes before labels are
    compared (as lm-evaluation-harness does for acc_norm); "sum" leaves it. `control_tokens`: see `StretchTokenizer`.
    """

    def __init__(
        self,
        tokenizer: Any,
        labels: Sequence[str],
        normalization: Normalization = "sum",
        control_tokens: str = TEXT,
    ) -> None:
        self.labels, self.normalization = list(labels), normalization
        self._stretches, self._end = StretchTokenizer(tokenizer, control_tokens), tokenizer.eos_token_id
        self._known: dict[tuple[bytes, ...], Candidates] = {}
        self._of_shape: dict[Any, Candidates] = {}

    def __call__(self, prompt: Prompt) -> Candidates:
        shape = self._stretches.shape(prompt)
        if shape is not None and shape in self._of_shape:
            return self._of_shape[shape]
        tokens = [self._label(ids) for _, ids in self._stretches.completions(prompt, self.labels)]
        key = tuple(label.tobytes() for label in tokens)
        if key not in self._known:
            self._known[key] = Candidates(build_trie(tokens), self._lengths(tokens), np.zeros(len(tokens)))
        if shape is not None:
            self._of_shape[shape] = self._known[key]
        return self._known[key]

    def without_content(self, prompt: Prompt, text: str) -> Question:
        """The labels asked for after `text` in place of the prompt's own; of a chat its system turns stay."""
        turns = text if isinstance(prompt, str) else (*_system(prompt), Message("user", text))
        ((before, label),) = self._stretches.completions(turns, self.labels[:1])
        tokens = np.array([*before, *label], dtype=np.int32)
        return Question(tokens, np.arange(len(tokens)) >= len(before), self(turns))

    def _label(self, ids: Sequence[int]) -> Tokens:
        """Up to the end of turn: what a template writes after it is the same for all and is never generated."""
        ids = list(ids)
        return np.array(ids[: ids.index(self._end) + 1] if self._end in ids else ids, dtype=np.int32)

    def _lengths(self, tokens: Sequence[Tokens]) -> Floats:
        if self.normalization == "sum":
            return np.ones(len(tokens))
        sizes = map(len, tokens) if self.normalization == "token" else (len(text.encode()) for text in self.labels)
        return np.maximum(np.fromiter(sizes, dtype=np.float64), 1.0)


def calibrated(
    questions: Sequence[Question],
    neutral: Sequence[Question],
    ask: Callable[[list[Question]], list[Answer]],
) -> list[Question]:
    """The questions with each label's log-probability after its neutral prompt as prior.

    `neutral` are those prompts, one for each question; equal ones are asked once. Source: Zhao et al., Calibrate
    Before Use, 2021, with the difference of log-probabilities (Holtzman et al. 2021, PMI of a domain).
    """
    distinct: dict[tuple[bytes, int], int] = {}
    asked: list[Question] = []
    keys = [(question.tokens.tobytes(), id(question.candidates)) for question in neutral]
    for key, question in zip(keys, neutral, strict=True):
        if key not in distinct:
            distinct[key] = len(asked)
            asked.append(question)
    priors: list[npt.NDArray[np.float64]] = [_logprobs(answer) for answer in ask(asked)]
    made: dict[tuple[int, int], Candidates] = {}
    found = []
    for key, question in zip(keys, questions, strict=True):
        assert question.candidates is not None
        which = (distinct[key], id(question.candidates))
        if which not in made:
            made[which] = replace(question.candidates, prior=priors[which[0]])
        found.append(replace(question, candidates=made[which]))
    return found


def _logprobs(answer: Answer) -> Floats:
    assert answer.logprobs is not None
    return answer.logprobs


def _system(prompt: tuple[Message, ...]) -> tuple[Message, ...]:
    return tuple(turn for turn in prompt if turn.role == "system")
