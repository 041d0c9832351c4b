"""Tokenising stretches of text: each distinct stretch once, in batches, on all cores."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from kamerton.data.example import DataExample, Message
from kamerton.data.render import CannotRender, render_batch

Tokens = npt.NDArray[np.int32]


class StretchTokenizer:
    """Token ids of rendered examples.

    The first stretch of an example is tokenised as the tokenizer would any text; later ones without the space that
    SentencePiece-like tokenizers put before a text's first word, since they do not begin a text.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        backend = getattr(tokenizer, "backend_tokenizer", None)
        self._definition = (
            backend.to_str() if backend is not None else json.dumps(tokenizer.get_vocab(), sort_keys=True)
        )
        self._first = self._later = None
        if backend is not None:
            self._first = _from_definition(json.loads(self._definition), continued=False)
            self._later = _from_definition(json.loads(self._definition), continued=True)
        self._cache: dict[tuple[str, bool], Tokens] = {}
        self.before = self._special_prefix()
        end = tokenizer.eos_token_id
        self.after = np.array([] if end is None else [end], np.int32)

    @property
    def fingerprint(self) -> str:
        """Hash of everything about the tokenizer that shapes token ids, the chat template included."""
        parts = [self._definition, str(self.tokenizer.chat_template), str(self.tokenizer.special_tokens_map)]
        return hashlib.blake2b("\0".join(parts).encode(), digest_size=16).hexdigest()

    def encode(self, examples: Sequence[DataExample]) -> list[tuple[list[Tokens], list[bool]] | CannotRender]:
        """For each example its pieces of tokens, and which of them are targets."""
        rendered = render_batch(self.tokenizer, examples)
        keys = {
            (text, i == 0): None
            for stretches in rendered
            if not isinstance(stretches, CannotRender)
            for i, (text, _) in enumerate(stretches)
        }
        known = self._tokenize([key for key in keys if key not in self._cache])
        self._remember(known)
        return [
            item if isinstance(item, CannotRender) else self._pieces(example, item, known)
            for example, item in zip(examples, rendered, strict=True)
        ]

    def _pieces(
        self, example: DataExample, stretches: list[tuple[str, bool]], known: dict[tuple[str, bool], Tokens]
    ) -> tuple[list[Tokens], list[bool]]:
        pieces = []
        for i, (text, _) in enumerate(stretches):
            key = (text, i == 0)
            pieces.append(known[key] if key in known else self._cache[key])
        targets = [target for _, target in stretches]
        if self.tokenizer.chat_template is None or example.prompt == ():
            return [self.before, *pieces, self.after], [False, *targets, True]
        return pieces, targets

    def _tokenize(self, keys: list[tuple[str, bool]]) -> dict[tuple[str, bool], Tokens]:
        result = {}
        for first, backend in ((True, self._first), (False, self._later)):
            chosen = [key for key in keys if key[1] is first]
            texts = [text for text, _ in chosen]
            if backend is None:
                ids = [self.tokenizer.encode(text, add_special_tokens=False) for text in texts]
            else:
                ids = [e.ids for e in backend.encode_batch_fast(texts, add_special_tokens=False)]
            result.update({key: np.array(row, np.int32) for key, row in zip(chosen, ids, strict=True)})
        return result

    def _remember(self, known: dict[tuple[str, bool], Tokens]) -> None:
        """Keeps short later stretches (labels, answers that repeat) for the next batches."""
        if len(self._cache) < 100_000:
            self._cache.update({key: ids for key, ids in known.items() if not key[1] and len(key[0]) < 200})

    def _special_prefix(self) -> Tokens:
        """The tokens, such as a begin-of-text token, that the tokenizer puts before any text."""
        plain = self.tokenizer.encode("a", add_special_tokens=False)
        full = self.tokenizer.encode("a", add_special_tokens=True)
        starts = [i for i in range(len(full)) if full[i : i + len(plain)] == plain]
        return np.array(full[: starts[0]] if starts else [], np.int32)


def _from_definition(definition: dict[str, Any], *, continued: bool) -> Any:
    """A copy of the tokenizer without truncation and padding; `continued`: for text that continues another."""
    from tokenizers import Tokenizer

    definition["truncation"] = definition["padding"] = None
    if continued:
        definition["normalizer"] = _no_prefix(definition.get("normalizer"))
        definition["pre_tokenizer"] = _no_prefix(definition.get("pre_tokenizer"))
    return Tokenizer.from_str(json.dumps(definition))


def _no_prefix(part: dict[str, Any] | None) -> dict[str, Any] | None:
    """A normalizer or pre-tokenizer that does not put a space before the text."""
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


def render(tokenizer: Any, prompt: str | tuple[Message, ...], completion: str) -> tuple[list[int], list[int]]:
    """Token ids of the prompt and of the completion part, exactly as `encode` lays them out (earlier turns count as prompt)."""
    return renderer(tokenizer)(prompt, completion)


def renderer(tokenizer: Any) -> Any:
    """`render` for many prompts and completions with one tokenizer."""
    stretches = StretchTokenizer(tokenizer)

    def split(prompt: str | tuple[Message, ...], completion: str) -> tuple[list[int], list[int]]:
        (found,) = stretches.encode([DataExample(prompt, completion)])
        if isinstance(found, CannotRender):
            raise ValueError(str(found))
        pieces, targets = found
        last = len(targets) - 1
        while last > 0 and targets[last - 1]:
            last -= 1
        flat = [piece.tolist() for piece in pieces]
        return [t for piece in flat[:last] for t in piece], [t for piece in flat[last:] for t in piece]

    return split
