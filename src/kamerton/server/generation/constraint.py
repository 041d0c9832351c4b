"""Constrained decoding: the tokens that may come next in one answer, so that its text fits a grammar.

Grammars are llguidance's, whose matcher computes the allowed tokens. A constraint may begin only after a text of the
answer, such as the end of its reasoning; before, all tokens are allowed.

Shapes: V vocabulary.
"""

from __future__ import annotations

from collections.abc import Collection
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
        after: the text after which the grammar begins; "" for the answer's first token. Before it the answer may not
            end.
        opening: a token that may begin an answer as well; the grammar then begins after the text `closing`.

    Raises:
        ConstraintError: if the grammar is too complex.
    """

    def __init__(
        self,
        tokenizer: LLTokenizer,
        grammar: str,
        *,
        after: str = "",
        opening: int | None = None,
        closing: str = "",
    ) -> None:
        self._tokenizer = tokenizer
        self._matcher = LLMatcher(tokenizer, grammar, log_level=0)
        if problem := self._problem():
            raise ConstraintError(problem)
        self._after, self._opening, self._closing = after.encode(), opening, closing.encode()
        self._text = b""  # since the beginning, as long as the grammar has not begun
        self._first = True

    @property
    def complete(self) -> bool:
        """Whether nothing more fits: the answer is complete."""
        return not self._after and bool(self._matcher.is_stopped())

    def allowed(self, size: int, device: torch.device) -> Tensor:
        """Return which of the `size` tokens may come next: bool (V)."""
        if self._after:
            bits = np.ones(size, dtype=np.bool_)
            bits[[token for token in self._tokenizer.eos_tokens if token < size]] = False
        else:
            packed = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
            bits = np.unpackbits(packed, count=size, bitorder="little").astype(np.bool_)
            if self._first and self._opening is not None:
                bits[self._opening] = True
        return torch.from_numpy(bits).to(device)

    def add(self, token: int) -> str:
        """Add the answer's next token; return why the answer cannot go on (the token does not fit, a limit), or ""."""
        if self._first and token == self._opening:
            self._after = self._closing
        elif self._after:
            self._text += self._tokenizer.decode_bytes([token])
            _, closed, rest = self._text.partition(self._after)
            if closed:
                self._after = b""
                self._matcher.consume_tokens(self._tokenizer.tokenize_bytes(rest))
        else:
            self._matcher.consume_token(token)
        self._first = False
        return self._problem()

    def _problem(self) -> str:
        return self._matcher.get_error().strip().partition("\n")[0] if self._matcher.is_error() else ""
