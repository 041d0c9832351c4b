"""Tokenising rendered examples: each distinct piece of text of a chunk once, in a batch, on all cores.

A stretch is cut at the tokenizer's special tokens first (the tokenizer does the same, so its tokens are the same); what
a template writes into every row then costs nothing. Later stretches are tokenised without the space that
SentencePiece-like tokenizers put before a text's first word, since they do not begin a text.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from kamerton.data.encode.control import TEXT, Held, find_control_tokens
from kamerton.data.encode.definition import backend_of, parsed, same, special_tokens, with_names, without_prefix
from kamerton.data.encode.render import Noted, Renderer, RenderError, Stretch
from kamerton.data.encode.turns import TurnNote
from kamerton.data.example import DataExample, Message

Rendered = list[list[Stretch] | Noted | RenderError]
Encoder = Callable[[list[str]], list[list[int]]]
Prompt = str | tuple[Message, ...]
Piece = tuple[str, bool, bool]  # a text, whether it begins the example, whether control tokens have other names in it
_FRAME: tuple[Piece, Piece] = (("\0before", True, False), ("\0after", True, False))


@dataclass(frozen=True)
class TokenChunk:
    """Some examples as tokens: `tokens` and `targets` of all of them end to end, `lengths` [examples], and failures.

    `held` has the control tokens' strings that are in texts of an example, and `turns` what is to be reported of its
    turns, by its position.
    """

    tokens: npt.NDArray[np.int32]
    targets: npt.NDArray[np.bool_]
    lengths: npt.NDArray[np.int32]
    failed: dict[int, str]
    held: dict[int, list[Held]]
    turns: dict[int, list[TurnNote]]


class StretchTokenizer:
    """Token ids of examples, with one tokenizer.

    `control_tokens` says what the string of a control token (`<|im_end|>`) is in a text: "text" as any other, or
    "parse": the control token. What the template writes is a control token either way.
    """

    def __init__(self, tokenizer: Any, control_tokens: str = TEXT) -> None:
        self.tokenizer, self.control_tokens = tokenizer, control_tokens
        backend = getattr(tokenizer, "backend_tokenizer", None)
        definition = backend.to_str() if backend is not None else json.dumps(tokenizer.get_vocab(), sort_keys=True)
        self._encode_first: Encoder = self._encode_slowly
        self._encode_later: Encoder = self._encode_slowly
        special: re.Pattern[str] | None = None
        if backend is not None:
            first, later = parsed(definition), without_prefix(parsed(definition))
            plain = first["truncation"] is None and first["padding"] is None
            self._encode_first = _encoder(backend if plain else backend_of(first))
            self._encode_later = self._encode_first if same(first, later) else _encoder(backend_of(later))
            special = special_tokens(first) if same(first, later) else None
        self._definition = None if backend is None else parsed(definition)
        # A template may write the date: what it writes is part of what it is.
        (rendering,) = Renderer(tokenizer, special).by_template([DataExample("question", "answer")])
        probe = str([rendering])
        begin = "".join(text for text, _ in rendering) if isinstance(rendering, list) else ""
        self._control = find_control_tokens(tokenizer, self._definition, begin) if control_tokens == TEXT else None
        self._renderer = Renderer(tokenizer, special, self._control)
        parts = [definition, str(tokenizer.chat_template), str(tokenizer.special_tokens_map), probe, control_tokens]
        self.fingerprint = hashlib.blake2b("\0".join(parts).encode(), digest_size=16).hexdigest()
        self._before = self._special_prefix()
        self._after = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]

    def encode(self, examples: Sequence[DataExample]) -> TokenChunk:
        """Return tokens of some examples."""
        return self.tokenize(examples, self.render(examples))

    def completions(self, prompt: Prompt, completions: Sequence[str]) -> list[tuple[list[int], list[int]]]:
        """Return for each completion the token ids of the prompt and of itself, as `encode` lays them out.

        Raises `RenderError` if the template refuses the chat.
        """
        chunk = self.encode([DataExample(prompt, completion) for completion in completions])
        if chunk.failed:
            raise RenderError(next(iter(chunk.failed.values())))
        ends = np.cumsum(chunk.lengths)[:-1]
        return [
            _parted(ids.tolist(), marks)
            for ids, marks in zip(np.split(chunk.tokens, ends), np.split(chunk.targets, ends), strict=True)
        ]

    def shape(self, prompt: Prompt) -> tuple[str, ...] | None:
        """Return After prompts of one shape a completion has the same tokens; None: they depend on the whole prompt."""
        return self._renderer.shape(prompt)

    def render(self, examples: Sequence[DataExample]) -> Rendered:
        """Return the part of `encode` that runs in Python (and holds its lock)."""
        return self._renderer.render(examples)

    def tokenize(self, examples: Sequence[DataExample], rendered: Rendered) -> TokenChunk:
        """Return the part of `encode` that runs outside Python."""
        plain = self.tokenizer.chat_template is None
        pieces: dict[Piece, int] = {piece: i for i, piece in enumerate(_FRAME)}
        sequence: list[int] = []  # numbers of the pieces of all examples, end to end
        marks: list[bool] = []
        counts: list[int] = []  # pieces of each example
        failed: dict[int, str] = {}
        held: dict[int, list[Held]] = {}
        turns: dict[int, list[TurnNote]] = {}
        for i, (example, stretches) in enumerate(zip(examples, rendered, strict=True)):
            begun = len(sequence)
            if isinstance(stretches, RenderError):
                failed[i] = str(stretches)
                stretches = []
            if isinstance(stretches, Noted):
                held |= {i: stretches.held} if stretches.held else {}
                turns |= {i: stretches.turns} if stretches.turns else {}
                stretches = stretches.stretches
            literal = i in held
            framed = i not in failed and (plain or example.prompt == ())
            if framed:
                sequence.append(0)
                marks.append(False)
            for k, (text, target) in enumerate(stretches):
                sequence.append(pieces.setdefault((text, k == 0, literal), len(pieces)))
                marks.append(target)
            if framed:
                sequence.append(1)
                marks.append(True)
            counts.append(len(sequence) - begun)
        return TokenChunk(*_assembled(self._tokens(list(pieces)), sequence, marks, counts), failed, held, turns)

    def text(self, text: str) -> list[int]:
        """Return token ids of a text that is to be continued, without any template, after what the tokenizer begins with."""
        literal = self._control is not None
        hidden = text if self._control is None else self._control.shown(self._control.hide(text))
        return [*self._before, *self._tokens([*_FRAME, (hidden, True, literal)])[2]]

    def _tokens(self, pieces: list[Piece]) -> list[list[int]]:
        """Return token ids of each piece; the first two are what stands before and after a text without a template."""
        kinds = {(is_first, literal) for _, is_first, literal in pieces[2:]}
        found = {}
        for is_first, literal in kinds:
            texts = [text for text, *kind in pieces[2:] if kind == [is_first, literal]]
            found[is_first, literal] = iter(self._encoder(is_first, literal)(texts))
        return [self._before, self._after, *(next(found[is_first, literal]) for _, is_first, literal in pieces[2:])]

    def _encoder(self, is_first: bool, literal: bool) -> Encoder:
        first, later = self._literal_encoders if literal else (self._encode_first, self._encode_later)
        return first if is_first else later

    @cached_property
    def _literal_encoders(self) -> tuple[Encoder, Encoder]:
        """As the others, for texts in which control tokens have the names that `ControlTokens` gives them."""
        assert self._control is not None
        if self._definition is None:
            return self._encode_slowly_as_text, self._encode_slowly_as_text
        named = with_names(self._definition, self._control.renamed)
        first, later = backend_of(named), backend_of(without_prefix(named))
        return _encoder(first), _encoder(later)

    def _encode_slowly_as_text(self, texts: list[str]) -> list[list[int]]:
        return [[token for ids in self._ids_of_pieces(text) for token in ids] for text in texts]

    def _ids_of_pieces(self, text: str) -> Iterator[list[int]]:
        """Yield token ids of the control tokens in a text, and of what stands between them."""
        assert self._control is not None
        flags = {str(token): token for token in self.tokenizer.added_tokens_decoder.values()}
        pieces = self._control.pieces(text)
        for before, (piece, is_control), after in zip([None, *pieces], pieces, [*pieces[1:], None], strict=False):
            if is_control:
                yield [self.tokenizer.convert_tokens_to_ids(piece)]
                continue
            piece = piece.lstrip() if before is not None and flags[before[0]].rstrip else piece
            piece = piece.rstrip() if after is not None and flags[after[0]].lstrip else piece
            yield self.tokenizer.encode(piece, add_special_tokens=False, split_special_tokens=True)

    def _encode_slowly(self, texts: list[str]) -> list[list[int]]:
        return [self.tokenizer.encode(text, add_special_tokens=False) for text in texts]

    def _special_prefix(self) -> list[int]:
        """Return the tokens, such as a begin-of-text token, that the tokenizer puts before any text."""
        plain = self.tokenizer.encode("a", add_special_tokens=False)
        full = self.tokenizer.encode("a", add_special_tokens=True)
        starts = [i for i in range(len(full)) if full[i : i + len(plain)] == plain]
        return list(full[: starts[0]]) if starts else []


def _assembled(
    tokens: list[list[int]], sequence: list[int], marks: list[bool], counts: list[int]
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.bool_], npt.NDArray[np.int32]]:
    """Return the pieces' tokens, targets and lengths in the order of the examples, without a loop over them."""
    sizes = np.fromiter(map(len, tokens), np.int64, len(tokens))
    flat = np.fromiter((token for piece in tokens for token in piece), np.int32, int(sizes.sum()))
    starts = np.cumsum(sizes) - sizes
    order = np.array(sequence, np.int64)
    ends = np.cumsum(sizes[order])
    total = int(ends[-1]) if len(ends) else 0
    taken = np.arange(total) + np.repeat(starts[order] - (ends - sizes[order]), sizes[order])
    row_ends = np.r_[0, ends][np.cumsum(counts)] if counts else np.empty(0, np.int64)
    lengths = np.diff(row_ends, prepend=0).astype(np.int32)
    targets = np.repeat(np.array(marks, np.bool_), sizes[order])
    targets[(row_ends - lengths)[lengths > 0]] = False  # nothing predicts a first token
    return flat[taken], targets, lengths


def _encoder(backend: Any) -> Encoder:
    return lambda texts: [found.ids for found in backend.encode_batch_fast(texts, add_special_tokens=False)]


PromptRenderer = Callable[[Prompt, str], tuple[list[int], list[int]]]


def renderer(tokenizer: Any, control_tokens: str = TEXT) -> PromptRenderer:
    """Return a function from prompt and completion to the token ids of the two parts, exactly as `encode` lays them out.

    Earlier turns count as prompt; `control_tokens` is that of `StretchTokenizer`. Raises `RenderError` if the template
    refuses the chat.
    """
    stretches = StretchTokenizer(tokenizer, control_tokens)

    def split(prompt: Prompt, completion: str) -> tuple[list[int], list[int]]:
        ((before, after),) = stretches.completions(prompt, [completion])
        return before, after

    return split


def _parted(ids: list[int], targets: npt.NDArray[np.bool_]) -> tuple[list[int], list[int]]:
    """Return a row's tokens before and from the completion on: after the last token that is no target."""
    read = np.flatnonzero(~targets)
    seam = int(read[-1]) + 1 if len(read) else 0
    return ids[:seam], ids[seam:]


def render(tokenizer: Any, prompt: Prompt, completion: str) -> tuple[list[int], list[int]]:
    """Return `renderer` for one prompt and completion."""
    return renderer(tokenizer)(prompt, completion)


def answer_ending(tokenizer: Any) -> list[int]:
    """Return the tokens of some answer with what the template writes after it; none where it refuses a single question."""
    try:
        return render(tokenizer, "question", "answer")[1]
    except RenderError:
        return []
