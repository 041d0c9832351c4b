"""Tokenising rendered examples: each distinct piece of text of a chunk once, in a batch, on all cores.

A stretch is split at the tokenizer's special tokens first (as the tokenizer does, so its tokens are the same); the text
that a template writes into every row is then tokenised once. Later stretches are tokenised without the space that
SentencePiece-like tokenizers put before a text's first word, because they do not begin a text.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np

from kamerton.data.encode.chunks import Findings, TokenChunk, concatenate
from kamerton.data.encode.control import TEXT, find_control_tokens
from kamerton.data.encode.definition import (
    backend_of,
    parse_definition,
    rename_tokens,
    same_preprocessing,
    special_tokens,
    without_prefix,
)
from kamerton.data.encode.render import Renderer, RenderError, Rendering
from kamerton.data.encode.targets import Targets
from kamerton.data.example import DataExample, Message

Encoder = Callable[[list[str]], list[list[int]]]
Prompt = str | tuple[Message, ...]
Piece = tuple[str, bool, bool]  # a text, whether it begins the example, whether control tokens are renamed in it
_FRAME: tuple[Piece, Piece] = (("\0before", True, False), ("\0after", True, False))


class StretchTokenizer:
    """Encodes examples with one tokenizer.

    `control_tokens` determines how the string of a control token (`<|im_end|>`) in a text is read: "text" as ordinary
    text, "parse" as the control token. The control tokens of the template are control tokens in either case. `targets`
    is what is trained on.
    """

    def __init__(self, tokenizer: Any, control_tokens: str = TEXT, targets: Targets | None = None) -> None:
        self.tokenizer, self.control_tokens, self.targets = tokenizer, control_tokens, targets or Targets()
        backend = getattr(tokenizer, "backend_tokenizer", None)
        definition = backend.to_str() if backend is not None else json.dumps(tokenizer.get_vocab(), sort_keys=True)
        self._encode_first: Encoder = self._encode_slowly
        self._encode_later: Encoder = self._encode_slowly
        special: re.Pattern[str] | None = None
        if backend is not None:
            first, later = parse_definition(definition), without_prefix(parse_definition(definition))
            plain = first["truncation"] is None and first["padding"] is None
            self._encode_first = _encoder(backend if plain else backend_of(first))
            self._encode_later = self._encode_first if same_preprocessing(first, later) else _encoder(backend_of(later))
            special = special_tokens(first) if same_preprocessing(first, later) else None
        self._definition = None if backend is None else parse_definition(definition)
        # A template may write the date, so the fingerprint includes a rendering.
        (rendering,) = Renderer(tokenizer, special).by_template([DataExample("question", "answer")])
        probe = str([rendering])
        begin = "".join(text for text, _ in rendering) if isinstance(rendering, list) else ""
        self._control = find_control_tokens(tokenizer, self._definition, begin) if control_tokens == TEXT else None
        self._renderer = Renderer(tokenizer, special, self._control, self.targets, self._ids)
        parts = [definition, str(tokenizer.chat_template), str(tokenizer.special_tokens_map), probe, control_tokens]
        parts += [] if self.targets == Targets() else [repr(self.targets)]
        self.fingerprint = hashlib.blake2b("\0".join(parts).encode(), digest_size=16).hexdigest()
        # Tokens, such as a begin-of-text token, that the tokenizer puts before any text.
        plain = tokenizer.encode("a", add_special_tokens=False)
        full = tokenizer.encode("a", add_special_tokens=True)
        starts = [i for i in range(len(full)) if full[i : i + len(plain)] == plain]
        self._before = list(full[: starts[0]]) if starts else []
        self._after = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]

    def encode(self, examples: Sequence[DataExample]) -> TokenChunk:
        """Return the tokens of these examples."""
        return self.tokenize(examples, self.render(examples))

    def completions(
        self, prompt: Prompt, completions: Sequence[str], tools: str = ""
    ) -> list[tuple[list[int], list[int]]]:
        """Return the token ids of the prompt and of the completion, for each completion, as in `encode`.

        `tools` is JSON, as in `DataExample`. Raises `RenderError` if the template refuses the chat.
        """
        if not isinstance(prompt, str):  # earlier turns are read, not trained on
            prompt = tuple(replace(turn, weight=0.0) if turn.role == "assistant" else turn for turn in prompt)
        chunk = self.encode([DataExample(prompt, completion, tools=tools) for completion in completions])
        if chunk.failed:
            raise RenderError(next(iter(chunk.failed.values())))
        ends = np.cumsum(chunk.lengths)[:-1]
        result = []
        for ids, targets in zip(np.split(chunk.tokens, ends), np.split(chunk.targets, ends), strict=True):
            context = np.flatnonzero(~targets)
            seam = int(context[-1]) + 1 if len(context) else 0  # the completion follows the last token of context
            result.append((ids[:seam].tolist(), ids[seam:].tolist()))
        return result

    def shape(self, prompt: Prompt) -> tuple[str, ...] | None:
        """Return a key for prompts after which a completion has the same tokens; None: they depend on the prompt."""
        return self._renderer.shape(prompt)

    def render(self, examples: Sequence[DataExample]) -> list[Rendering]:
        """Do the part of `encode` that runs in Python (and holds its lock)."""
        return self._renderer.render(examples)

    def tokenize(self, examples: Sequence[DataExample], rendered: list[Rendering]) -> TokenChunk:
        """Do the part of `encode` that runs outside Python."""
        plain = self.tokenizer.chat_template is None
        pieces: dict[Piece, int] = {piece: i for i, piece in enumerate(_FRAME)}
        sequence: list[int] = []  # numbers of the pieces of all sequences, end to end
        marks: list[bool] = []
        counts: list[int] = []  # pieces of each sequence
        findings = Findings()
        for i, (example, rendering) in enumerate(zip(examples, rendered, strict=True)):
            parts = findings.add(i, rendering)
            literal = i in findings.literals
            framed = i not in findings.failed and (plain or example.prompt == ())
            for part in parts:
                start = len(sequence)
                if framed:
                    sequence.append(0)
                    marks.append(False)
                for k, (text, target) in enumerate(part):
                    sequence.append(pieces.setdefault((text, k == 0, literal), len(pieces)))
                    marks.append(target)
                if framed:
                    sequence.append(1)
                    marks.append(not part or part[-1][1])
                counts.append(len(sequence) - start)
        arrays = concatenate(self._token_ids(list(pieces)), sequence, marks, counts)
        sizes, ends = np.array(findings.sizes, np.int32), np.array(findings.ends, np.int32)
        weights = np.array(findings.weights, np.float64)
        failed, literals, turns = findings.failed, findings.literals, findings.turns
        return TokenChunk(*arrays, failed, literals, turns, sizes, ends, weights, findings.fallbacks)

    def text(self, text: str, *, first: bool = True) -> list[int]:
        """Return the token ids of a text without a template; if it is `first`, after the tokenizer's initial tokens."""
        literal = self._control is not None
        renamed = text if self._control is None else self._control.rename(self._control.mark(text))
        return [*(self._before if first else ()), *self._ids([renamed], first=first, literal=literal)]

    def prompt(self, turns: Sequence[Message], tools: str = "") -> list[int]:
        """Return the token ids that the model reads before it answers a chat's turns, tokenised as a whole."""
        return self.prompt_of(DataExample(tuple(turns), "", tools=tools))

    def prompt_of(self, example: DataExample) -> list[int]:
        """Return the token ids that the model reads before it writes the completion, tokenised as a whole."""
        if self.tokenizer.chat_template is None:
            return self.text(example.prompt_text)
        example, literal = self._marked(example)
        return self._ids([self._text(self._renderer.conversations.prompt(example), literal)], literal=literal)

    def completion_of(self, example: DataExample) -> list[int]:
        """Return the token ids of the completion's turn, as the model is to write it after the prompt."""
        if self.tokenizer.chat_template is None:
            return [*self.text(example.completion, first=False), *self._after]
        example, literal = self._marked(example)
        _, target = self._renderer.conversations.completion(example)
        return self._ids([self._text(target, literal)], first=False, literal=literal)

    def _marked(self, example: DataExample) -> tuple[DataExample, bool]:
        if self._control is None or not self._control.occur_in(example):
            return example, False
        return self._control.mark_example(example), True

    def _text(self, rendering: str, literal: bool) -> str:
        return self._control.rename(rendering) if literal and self._control is not None else rendering

    def _ids(self, texts: list[str], first: bool = True, *, literal: bool = False) -> list[int]:
        """Return the token ids of a text that is split into pieces; `first`: it begins the sequence."""
        pieces: list[Piece] = [(text, first and k == 0, literal) for k, text in enumerate(texts)]
        return [token for ids in self._token_ids([*_FRAME, *pieces])[2:] for token in ids]

    def _token_ids(self, pieces: list[Piece]) -> list[list[int]]:
        """Return the token ids of each piece; the first two frame a text without a template."""
        kinds = {(is_first, literal) for _, is_first, literal in pieces[2:]}
        ids = {}
        for is_first, literal in kinds:
            first, later = self._literal_encoders if literal else (self._encode_first, self._encode_later)
            texts = [text for text, *kind in pieces[2:] if kind == [is_first, literal]]
            ids[is_first, literal] = iter((first if is_first else later)(texts))
        return [self._before, self._after, *(next(ids[is_first, literal]) for _, is_first, literal in pieces[2:])]

    @cached_property
    def _literal_encoders(self) -> tuple[Encoder, Encoder]:
        """The encoders of first and later pieces for texts with renamed control tokens."""
        assert self._control is not None
        if self._definition is None:
            return self._encode_slowly_as_text, self._encode_slowly_as_text
        named = rename_tokens(self._definition, self._control.renamed)
        first, later = backend_of(named), backend_of(without_prefix(named))
        return _encoder(first), _encoder(later)

    def _encode_slowly_as_text(self, texts: list[str]) -> list[list[int]]:
        """Return the token ids of texts with renamed control tokens, encoded piece by piece."""
        assert self._control is not None
        flags = {str(token): token for token in self.tokenizer.added_tokens_decoder.values()}
        result = []
        for text in texts:
            ids: list[int] = []
            pieces = self._control.pieces(text)
            for before, (piece, is_control), after in zip([None, *pieces], pieces, [*pieces[1:], None], strict=False):
                if is_control:
                    ids.append(self.tokenizer.convert_tokens_to_ids(piece))
                    continue
                piece = piece.lstrip() if before is not None and flags[before[0]].rstrip else piece
                piece = piece.rstrip() if after is not None and flags[after[0]].lstrip else piece
                ids += self.tokenizer.encode(piece, add_special_tokens=False, split_special_tokens=True)
            result.append(ids)
        return result

    def _encode_slowly(self, texts: list[str]) -> list[list[int]]:
        return [self.tokenizer.encode(text, add_special_tokens=False) for text in texts]


def _encoder(backend: Any) -> Encoder:
    return lambda texts: [encoding.ids for encoding in backend.encode_batch_fast(texts, add_special_tokens=False)]
