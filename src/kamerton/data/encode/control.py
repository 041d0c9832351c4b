"""Control tokens in texts that users bring: the string `<|im_end|>` in a prompt is text, not the end of a turn.

A row whose texts hold such a string takes a path of its own. The strings are replaced by marks before the template is
rendered; in the rendering, the template's own control tokens get other names and the marks become strings again; a
tokenizer whose control tokens have those names then finds the template's and no others. Marks and names hold a number
drawn anew in every process, so that no text can hold them.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from kamerton.data.example import DataExample
from kamerton.errors import Fault

TEXT = "text"  # the other way to take control tokens in texts: "parse"
_NONCE = secrets.token_hex(8)


@dataclass(frozen=True, slots=True)
class Held:
    """A control token's string in a text: `place` is prompt, completion or turns[i].

    `rendered`: the text begins as the chat template's own rendering does.
    """

    place: str
    token: str
    rendered: bool

    def fault(self, file: str, row: int) -> Fault:
        """Return what the data gate says of it."""
        message = f"the text holds the string of the control token {self.token}, which is read as text"
        fix = "remove it, or set data.control_tokens=parse if it is meant as the control token"
        if self.rendered:
            message += "; it begins as the chat template's own rendering does"
            fix = "give the turns themselves, which the template renders, or set data.control_tokens=parse"
        return Fault("special-tokens", message, fix, file, row, self.place)


class ControlTokens:
    """The control tokens of one tokenizer. `renamed` has for each the name that stands for it in a row of this kind.

    `begin` is a text that begins as the chat template's renderings do.
    """

    def __init__(self, tokens: Iterable[str], begin: str = "") -> None:
        ordered = sorted(
            tokens, key=lambda token: (-len(token), token)
        )  # of two that begin alike the longer one is meant
        self.renamed = {token: f"\U000f0000{_NONCE}-{i}\U000f0001" for i, token in enumerate(ordered)}
        self._mark = {token: f"\U000f0002{_NONCE}-{i}\U000f0001" for i, token in enumerate(ordered)}
        self._strings = {mark: token for token, mark in self._mark.items()}
        self._shown = self.renamed | self._strings
        self._any: re.Pattern[str] = re.compile("|".join(map(re.escape, ordered)))
        first = self._any.search(begin)
        self._begin = begin[: first.end()] if first else None
        self._marked = re.compile("|".join(map(re.escape, self._shown)))

    def holds(self, example: DataExample) -> bool:
        """Return whether a text of the example holds the string of a control token."""
        return any(self._any.search(text) for _, text in _texts(example))

    def held(self, example: DataExample) -> list[Held]:
        """Return the first such string of each text."""
        found = ((place, self._any.search(text)) for place, text in _texts(example))
        return [Held(place, match.group(), self._is_rendered(match)) for place, match in found if match]

    def _is_rendered(self, match: re.Match[str]) -> bool:
        return self._begin is not None and match.string.lstrip().startswith(self._begin)

    def hidden(self, example: DataExample) -> DataExample:
        """Return the example with a mark in place of each such string."""
        prompt = example.prompt
        turns = prompt if isinstance(prompt, str) else tuple(replace(m, content=self.hide(m.content)) for m in prompt)
        return DataExample(self.hide(turns) if isinstance(turns, str) else turns, self.hide(example.completion))

    def hide(self, text: str) -> str:
        """Return the text with a mark in place of each such string."""
        return self._any.sub(lambda match: self._mark[match.group()], text)

    def restored(self, text: str) -> str:
        """Return the text with the strings in place of the marks."""
        return self._marked.sub(lambda match: self._strings.get(match.group(), match.group()), text)

    def shown(self, text: str) -> str:
        """Return a rendering of hidden texts for the renamed tokenizer: what is a control token in it has its other name."""
        return self._marked.sub(lambda match: self._shown[match.group()], text)

    def pieces(self, text: str) -> list[tuple[str, bool]]:
        """Return what `shown` gave, cut at control tokens: each piece, and whether it is one (by its true name)."""
        names = {name: token for token, name in self.renamed.items()}
        found = re.split(f"({'|'.join(map(re.escape, names))})", text)
        return [(names.get(piece, piece), piece in names) for piece in found if piece]


def _texts(example: DataExample) -> Iterator[tuple[str, str]]:
    if isinstance(example.prompt, str):
        yield "prompt", example.prompt
    else:
        yield from ((f"turns[{i}]", turn.content) for i, turn in enumerate(example.prompt))
    yield "completion", example.completion


def find_control_tokens(tokenizer: Any, definition: Mapping[str, Any] | None, rendering: str) -> ControlTokens | None:
    """Return the tokenizer's special tokens; None if it has none. `rendering` is a chat as its template writes it.

    One that the model's vocabulary makes of ordinary text (a word that serves as the padding token) is a word.
    """
    names = {
        str(token)
        for token in tokenizer.added_tokens_decoder.values()
        if token.special or str(token) in tokenizer.all_special_tokens
    }
    names = {name for name in names if len(name) > 1} - _merged(definition)
    return ControlTokens(names, rendering) if names else None


def _merged(definition: Mapping[str, Any] | None) -> set[str]:
    """Return the words that a byte-pair encoding builds of smaller ones."""
    merges = [] if definition is None else definition["model"].get("merges") or []
    return {"".join(merge.split(" ") if isinstance(merge, str) else merge) for merge in merges}
