"""Tokenising rendered examples: each distinct piece of text of a chunk once, in a batch, on all cores.

A stretch is cut at the tokenizer's special tokens first (the tokenizer does the same, so its tokens are the same); what
a template writes into every row then costs nothing. Later stretches are tokenised without the space that
SentencePiece-like tokenizers put before a text's first word, since they do not begin a text.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from kamerton.data.example import DataExample, Message
from kamerton.data.render import Renderer, RenderError, Stretch

Rendered = list[list[Stretch] | RenderError]
Encoder = Callable[[list[str]], list[list[int]]]
Prompt = str | tuple[Message, ...]


@dataclass(frozen=True)
class TokenChunk:
    """Some examples as tokens: `tokens` and `targets` of all of them end to end, `lengths` [examples], and failures."""

    tokens: npt.NDArray[np.int32]
    targets: npt.NDArray[np.bool_]
    lengths: npt.NDArray[np.int32]
    failed: dict[int, str]


class StretchTokenizer:
    """Token ids of examples, with one tokenizer."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        backend = getattr(tokenizer, "backend_tokenizer", None)
        definition = backend.to_str() if backend is not None else json.dumps(tokenizer.get_vocab(), sort_keys=True)
        self._encode_first: Encoder = self._encode_slowly
        self._encode_later: Encoder = self._encode_slowly
        special: re.Pattern[str] | None = None
        if backend is not None:
            first, later = _parsed(definition), _without_prefix(_parsed(definition))
            plain = first["truncation"] is None and first["padding"] is None
            self._encode_first = _encoder(backend if plain else _backend(first))
            self._encode_later = self._encode_first if _same(first, later) else _encoder(_backend(later))
            special = _special_tokens(first) if _same(first, later) else None
        self._renderer = Renderer(tokenizer, special)
        # A template may write the date: what it writes is part of what it is.
        probe = str(self._renderer.by_template([DataExample("question", "answer")]))
        parts = [definition, str(tokenizer.chat_template), str(tokenizer.special_tokens_map), probe]
        self.fingerprint = hashlib.blake2b("\0".join(parts).encode(), digest_size=16).hexdigest()
        self._before = self._special_prefix()
        self._after = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]

    def encode(self, examples: Sequence[DataExample]) -> TokenChunk:
        """Tokens of some examples."""
        return self.tokenize(examples, self.render(examples))

    def completions(self, prompt: Prompt, completions: Sequence[str]) -> list[tuple[list[int], list[int]]]:
        """For each completion the token ids of the prompt and of itself, as `encode` lays them out.

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
        """After prompts of one shape a completion has the same tokens; None: they depend on the whole prompt."""
        return self._renderer.shape(prompt)

    def render(self, examples: Sequence[DataExample]) -> Rendered:
        """The part of `encode` that runs in Python (and holds its lock)."""
        return self._renderer.render(examples)

    def tokenize(self, examples: Sequence[DataExample], rendered: Rendered) -> TokenChunk:
        """The part of `encode` that runs outside Python."""
        plain = self.tokenizer.chat_template is None
        pieces: dict[tuple[str, bool], int] = {("\0before", True): 0, ("\0after", True): 1}
        sequence: list[int] = []  # numbers of the pieces of all examples, end to end
        marks: list[bool] = []
        counts: list[int] = []  # pieces of each example
        failed: dict[int, str] = {}
        for i, (example, stretches) in enumerate(zip(examples, rendered, strict=True)):
            begun = len(sequence)
            if isinstance(stretches, RenderError):
                failed[i] = str(stretches)
                stretches = []
            framed = not isinstance(stretches, RenderError) and i not in failed and (plain or example.prompt == ())
            if framed:
                sequence.append(0)
                marks.append(False)
            for k, (text, target) in enumerate(stretches):
                sequence.append(pieces.setdefault((text, k == 0), len(pieces)))
                marks.append(target)
            if framed:
                sequence.append(1)
                marks.append(True)
            counts.append(len(sequence) - begun)
        return _assembled(self._tokens(list(pieces)), sequence, marks, counts, failed)

    def _tokens(self, pieces: list[tuple[str, bool]]) -> list[list[int]]:
        """Token ids of each piece; the first two are what stands before and after a text without a template."""
        first = [text for text, is_first in pieces[2:] if is_first]
        later = [text for text, is_first in pieces[2:] if not is_first]
        found = {True: iter(self._encode_first(first)), False: iter(self._encode_later(later))}
        return [self._before, self._after, *(next(found[is_first]) for _, is_first in pieces[2:])]

    def _encode_slowly(self, texts: list[str]) -> list[list[int]]:
        return [self.tokenizer.encode(text, add_special_tokens=False) for text in texts]

    def _special_prefix(self) -> list[int]:
        """The tokens, such as a begin-of-text token, that the tokenizer puts before any text."""
        plain = self.tokenizer.encode("a", add_special_tokens=False)
        full = self.tokenizer.encode("a", add_special_tokens=True)
        starts = [i for i in range(len(full)) if full[i : i + len(plain)] == plain]
        return list(full[: starts[0]]) if starts else []


def _assembled(
    tokens: list[list[int]], sequence: list[int], marks: list[bool], counts: list[int], failed: dict[int, str]
) -> TokenChunk:
    """The pieces' tokens in the order of the examples, without a loop over them."""
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
    return TokenChunk(flat[taken], targets, lengths, failed)


def _encoder(backend: Any) -> Encoder:
    return lambda texts: [found.ids for found in backend.encode_batch_fast(texts, add_special_tokens=False)]


def _backend(definition: dict[str, Any]) -> Any:
    from tokenizers import Tokenizer

    return Tokenizer.from_str(json.dumps(definition | {"truncation": None, "padding": None}))


@lru_cache(maxsize=1)
def _parsed(definition: str) -> dict[str, Any]:
    """A tokenizer's definition; parsing it takes longer than a thousand rows, and all splits have the same."""
    parsed: dict[str, Any] = json.loads(definition)
    return parsed


def _same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return all(a.get(key) == b.get(key) for key in ("normalizer", "pre_tokenizer"))


def _without_prefix(definition: dict[str, Any]) -> dict[str, Any]:
    """The tokenizer for text that continues another: it puts no space before it."""
    changed = {key: _no_prefix(definition.get(key)) for key in ("normalizer", "pre_tokenizer")}
    return definition | changed


def _no_prefix(part: dict[str, Any] | None) -> dict[str, Any] | None:
    if part is None or part["type"] == "Prepend":
        return None
    if part["type"] == "Metaspace":
        return part | {"prepend_scheme": "never"}
    if part["type"] == "ByteLevel":
        return part | {"add_prefix_space": False}
    if part["type"] == "Sequence":
        key = "normalizers" if "normalizers" in part else "pretokenizers"
        return part | {key: [kept for child in part[key] if (kept := _no_prefix(child)) is not None]}
    return part


def _special_tokens(definition: dict[str, Any]) -> re.Pattern[str] | None:
    """Matches the special tokens at which the tokenizer cuts every text before it does anything else."""
    added = definition.get("added_tokens") or []
    flags = ("normalized", "lstrip", "rstrip", "single_word")
    simple = [token["content"] for token in added if not any(token[flag] for flag in flags)]
    others = [token["content"] for token in added if any(token[flag] for flag in flags)]
    simple = [text for text in simple if text and not any(text in other for other in others)]
    if not simple:
        return None
    return re.compile(f"({'|'.join(re.escape(text) for text in sorted(simple, key=len, reverse=True))})")


PromptRenderer = Callable[[Prompt, str], tuple[list[int], list[int]]]


def renderer(tokenizer: Any) -> PromptRenderer:
    """A function from prompt and completion to the token ids of the two parts, exactly as `encode` lays them out.

    Earlier turns count as prompt. Raises `RenderError` if the template refuses the chat.
    """
    stretches = StretchTokenizer(tokenizer)

    def split(prompt: Prompt, completion: str) -> tuple[list[int], list[int]]:
        ((before, after),) = stretches.completions(prompt, [completion])
        return before, after

    return split


def _parted(ids: list[int], targets: npt.NDArray[np.bool_]) -> tuple[list[int], list[int]]:
    """A row's tokens before and from the completion on: after the last token that is no target."""
    read = np.flatnonzero(~targets)
    seam = int(read[-1]) + 1 if len(read) else 0
    return ids[:seam], ids[seam:]


def render(tokenizer: Any, prompt: Prompt, completion: str) -> tuple[list[int], list[int]]:
    """`renderer` for one prompt and completion."""
    return renderer(tokenizer)(prompt, completion)
