"""Constrained decoding: the tokens that may come next in one answer, so that its text fits a grammar.

Grammars are llguidance's, whose matcher computes the allowed tokens. A constraint may begin only after a text of the
answer, such as the end of its reasoning or the tag of a call.

Shapes: V vocabulary.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import torch
from llguidance import LLMatcher, LLTokenizer
from llguidance.hf import from_tokenizer
from torch import Tensor


class ConstraintError(Exception):
    """Raised for a grammar that is too complex, and for a tokenizer that cannot be used."""


def grammar_tokenizer(tokenizer: Any, ends: Collection[int]) -> LLTokenizer:
    """Return the tokenizer for `Constraint`; an answer ends with one of the tokens `ends`.

    Raises `ConstraintError` if the bytes of its tokens are unknown.
    """
    try:
        return from_tokenizer(tokenizer, eos_token=sorted(ends) or None)
    except Exception as error:  # llguidance raises several classes, some for what it cannot parse
        raise ConstraintError(str(error)) from error


class Constraint:
    """The tokens that may come next in one answer.

    Args:
        tokenizer: that of `grammar_tokenizer`.
        grammar: what the answer has to be, in llguidance's format.
        prefix: the first tokens of the answer, which are given.
        after: the text after which the grammar begins; "" for the answer's first token.
        repeats: the grammar begins after each `after`, which may never come, and the answer continues freely after it.
            Otherwise the answer does not end before it, and ends with it.
        opening: a token that may begin an answer as well; the grammar then begins after the text `closing`.

    Raises:
        ConstraintError: if the grammar is too complex, or does not fit `prefix`.
    """

    def __init__(
        self,
        tokenizer: LLTokenizer,
        grammar: str,
        *,
        prefix: Sequence[int] = (),
        after: str = "",
        repeats: bool = False,
        opening: int | None = None,
        closing: str = "",
    ) -> None:
        self._tokenizer = tokenizer
        self._matcher = LLMatcher(tokenizer, grammar, log_level=0)
        self._matcher.consume_tokens(list(prefix))
        if problem := self._problem():
            raise ConstraintError(problem)
        if not self._matcher.is_stopped():
            self._matcher.compute_bitmask()
            if self._matcher.is_error():  # such as {"$ref": "#"}
                raise ConstraintError("no text fits it")
        self._after, self._repeats = after.encode(), repeats
        self._waits = self._after  # the text that has to come before the grammar begins
        self._text = b""  # since the beginning or the last grammar, as long as it waits
        self._opening, self._closing, self._is_start = opening, closing.encode(), not prefix

    @property
    def complete(self) -> bool:
        """Whether nothing more fits: the answer is complete."""
        return not self._waits and bool(self._matcher.is_stopped())

    def allowed(self, size: int, device: torch.device) -> Tensor | None:
        """Return which of the `size` tokens may come next: bool (V); None for all."""
        if self._waits and self._repeats:
            return None
        if self._waits:
            bits = np.ones(size, dtype=np.bool_)
            bits[[token for token in self._tokenizer.eos_tokens if token < size]] = False
        else:
            packed = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
            bits = np.unpackbits(packed, count=size, bitorder="little").astype(np.bool_)
            if self._is_start and self._opening is not None:
                bits[self._opening] = True
        return torch.from_numpy(bits).to(device)

    def add(self, token: int) -> str:
        """Add the answer's next token; return why the answer cannot continue (an unfit token, a limit), or ""."""
        if self._is_start and token == self._opening:
            self._waits = self._closing
        elif self._waits:
            self._wait(token)
        else:
            self._matcher.consume_token(token)
        self._is_start = False
        if self._repeats and self.complete and not self._matcher.is_error():
            self._restart()
        return self._problem()

    def _wait(self, token: int) -> None:
        """Add a token before the grammar, which begins within it if it completes the text."""
        self._text += self._tokenizer.decode_bytes([token])
        _, reached, rest = self._text.partition(self._waits)
        if not reached:
            return
        self._waits = b""
        if not self._matcher.consume_tokens(self._tokenizer.tokenize_bytes(rest)) and self._repeats:
            self._restart()  # one token has the tag and something else than a call

    def _restart(self) -> None:
        self._matcher.reset()
        self._waits, self._text = self._after, b""

    def _problem(self) -> str:
        return self._matcher.get_error().strip().partition("\n")[0] if self._matcher.is_error() else ""
