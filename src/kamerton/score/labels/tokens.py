"""Label candidates of a prompt: the labels' tokens as a trie, with their lengths and priors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from kamerton.data.encode.control import TEXT
from kamerton.data.encode.tokenize import StretchTokenizer
from kamerton.data.example import Message
from kamerton.score.labels.question import Answer, Question
from kamerton.score.labels.trie import Candidates, build_trie

Normalization = Literal["sum", "token", "byte"]
Prompt = str | tuple[Message, ...]


class LabelTokens:
    """Create the candidates of a prompt; prompts after which the labels have the same tokens share one object.

    `normalization` divides a label's log-probability by its number of tokens or UTF-8 bytes before labels are compared
    (as acc_norm of lm-evaluation-harness); "sum" does not. `control_tokens`: see `StretchTokenizer`.
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
        self._by_tokens: dict[tuple[bytes, ...], Candidates] = {}
        self._by_shape: dict[Any, Candidates] = {}

    def __call__(self, prompt: Prompt) -> Candidates:
        """Return the candidates after `prompt`."""
        shape = self._stretches.shape(prompt)
        if shape is not None and shape in self._by_shape:
            return self._by_shape[shape]
        labels = []
        for _, completion in self._stretches.completions(prompt, self.labels):
            ids = list(completion)  # tokens that a template writes after the end of turn are never generated
            labels.append(np.array(ids[: ids.index(self._end) + 1] if self._end in ids else ids, dtype=np.int32))
        key = tuple(label.tobytes() for label in labels)
        if key not in self._by_tokens:
            lengths = np.ones(len(labels))
            if self.normalization != "sum":
                sizes = map(len, labels if self.normalization == "token" else [text.encode() for text in self.labels])
                lengths = np.maximum(np.fromiter(sizes, dtype=np.float64), 1.0)
            self._by_tokens[key] = Candidates(build_trie(labels), lengths, np.zeros(len(labels)))
        if shape is not None:
            self._by_shape[shape] = self._by_tokens[key]
        return self._by_tokens[key]

    def without_content(self, prompt: Prompt, text: str) -> Question:
        """Return the question with `text` in place of the prompt's content; system turns of a chat are kept."""
        turns: Prompt = text
        if not isinstance(prompt, str):
            turns = (*(turn for turn in prompt if turn.role == "system"), Message("user", text))
        ((before, label),) = self._stretches.completions(turns, self.labels[:1])
        tokens = np.array([*before, *label], dtype=np.int32)
        return Question(tokens, np.arange(len(tokens)) >= len(before), self(turns))


def calibrated(
    questions: Sequence[Question],
    neutral: Sequence[Question],
    ask: Callable[[list[Question]], list[Answer]],
) -> list[Question]:
    """Return the questions with each label's log-probability after its neutral prompt as prior.

    `neutral` has the neutral prompt of each question; equal ones are scored once. Source: Zhao et al., Calibrate Before
    Use, 2021, with the difference of log-probabilities (Holtzman et al. 2021, PMI of a domain).
    """
    index_of: dict[tuple[bytes, int], int] = {}
    distinct: list[Question] = []
    keys = [(question.tokens.tobytes(), id(question.candidates)) for question in neutral]
    for key, question in zip(keys, neutral, strict=True):
        if key not in index_of:
            index_of[key] = len(distinct)
            distinct.append(question)
    priors = [answer.logprobs for answer in ask(distinct)]
    with_prior: dict[tuple[int, int], Candidates] = {}
    result = []
    for key, question in zip(keys, questions, strict=True):
        index = index_of[key]
        prior = priors[index]
        assert question.candidates is not None
        assert prior is not None
        pair = (index, id(question.candidates))
        if pair not in with_prior:
            with_prior[pair] = replace(question.candidates, prior=prior)
        result.append(replace(question, candidates=with_prior[pair]))
    return result
