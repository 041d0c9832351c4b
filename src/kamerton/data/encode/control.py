"""Control tokens in user texts: the string `<|im_end|>` in a prompt is text, not the end of a turn.

A row whose texts contain such a string is handled separately. The strings are replaced by marks before the template is
rendered; in the rendering, the template's control tokens are renamed and the marks become strings again; a tokenizer
with renamed control tokens then recognises only the template's. Marks and names contain a random number drawn in every
process, so that no text can contain them.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from kamerton.data.encode.forms import is_rich
from kamerton.data.example import DataExample, Message, ToolCall
from kamerton.data.parts import ALTERNATIVE, part_of
from kamerton.errors import Fault

TEXT = "text"  # the value of data.control_tokens; the other is "parse"
_NONCE = secrets.token_hex(8)


@dataclass(frozen=True, slots=True)
class LiteralToken:
    """A control token's string in a text: `place` is prompt, completion, turns[i], a part of them, or tools.

    `rendered`: the text begins like a rendering of the chat template.
    """

    place: str
    token: str
    rendered: bool

    def fault(self, file: str, row: int) -> Fault:
        """Return the fault of the row."""
        message = f"the text contains the string of the control token {self.token}, which is read as text"
        fix = "remove it, or set data.control_tokens=parse if it is meant as the control token"
        if self.rendered:
            message += "; it begins like a rendering of the chat template"
            fix = "provide the turns, which the template renders, or set data.control_tokens=parse"
        return Fault("special-tokens", message, fix, file, row, self.place)


class ControlTokens:
    """The control tokens of one tokenizer; `renamed` maps each to its name in rows with literal tokens.

    `begin` is a text that begins like the chat template's renderings.
    """

    def __init__(self, tokens: Iterable[str], begin: str = "") -> None:
        ordered = sorted(tokens, key=lambda token: (-len(token), token))  # the longest match comes first
        self.renamed = {token: f"\U000f0000{_NONCE}-{i}\U000f0001" for i, token in enumerate(ordered)}
        self._mark = {token: f"\U000f0002{_NONCE}-{i}\U000f0001" for i, token in enumerate(ordered)}
        self._strings = {mark: token for token, mark in self._mark.items()}
        self._renaming = self.renamed | self._strings
        self._any: re.Pattern[str] = re.compile("|".join(map(re.escape, ordered)))
        first = self._any.search(begin)
        self._begin = begin[: first.end()] if first else None
        self._marked = re.compile("|".join(map(re.escape, self._renaming)))

    def occur_in(self, example: DataExample) -> bool:
        """Return whether a text of the example contains the string of a control token."""
        return any(self._any.search(text) for _, text in _texts(example))

    def literals(self, example: DataExample) -> list[LiteralToken]:
        """Return the first such string of each text."""
        tokens = []
        for place, text in _texts(example):
            if match := self._any.search(text):
                is_rendered = self._begin is not None and text.lstrip().startswith(self._begin)
                tokens.append(LiteralToken(place, match.group(), is_rendered))
        return tokens

    def mark(self, text: str) -> str:
        """Return the text with a mark in place of each such string."""
        return self._any.sub(lambda match: self._mark[match.group()], text)

    def mark_example(self, example: DataExample) -> DataExample:
        """Return the example with a mark in place of each such string."""
        prompt = example.prompt
        before = self.mark(prompt) if isinstance(prompt, str) else tuple(map(self._mark_turn, prompt))
        tools = self.mark(_canonical(example.tools)) if example.tools else ""
        last = self._mark_turn(example.messages[-1])
        marked = replace(example, prompt=before, completion=last.content, metadata={}, tools=tools)
        marked = replace(marked, reasoning=last.reasoning, tool_calls=last.tool_calls)
        others = (part_of(example, ALTERNATIVE + k).messages[-1] for k in range(len(example.alternatives)))
        alternatives = tuple(
            replace(other, completion=turn.content, reasoning=turn.reasoning, tool_calls=turn.tool_calls)
            for other, turn in zip(example.alternatives, map(self._mark_turn, others), strict=True)
        )
        return replace(marked, alternatives=alternatives) if alternatives else marked

    def _mark_turn(self, turn: Message) -> Message:
        if turn.reasoning or turn.tool_calls or turn.tool_call_id or turn.name:
            calls = tuple(
                ToolCall(self.mark(call.name), self.mark(_canonical(call.arguments)), call.id and self.mark(call.id))
                for call in turn.tool_calls
            )
            call_id, name = turn.tool_call_id and self.mark(turn.tool_call_id), turn.name and self.mark(turn.name)
            turn = replace(turn, reasoning=self.mark(turn.reasoning), tool_calls=calls, tool_call_id=call_id, name=name)
        return replace(turn, content=self.mark(turn.content))

    def unmark(self, text: str) -> str:
        """Return the text with the strings in place of the marks."""
        return self._marked.sub(lambda match: self._strings.get(match.group(), match.group()), text)

    def rename(self, rendering: str) -> str:
        """Return a rendering of marked texts for the renamed tokenizer: control tokens renamed, marks as strings."""
        return self._marked.sub(lambda match: self._renaming[match.group()], rendering)

    def pieces(self, text: str) -> list[tuple[str, bool]]:
        """Split the result of `rename` at control tokens: each piece, and whether it is a token (by its true name)."""
        names = {name: token for token, name in self.renamed.items()}
        pieces = re.split(f"({'|'.join(map(re.escape, names))})", text)
        return [(names.get(piece, piece), piece in names) for piece in pieces if piece]


def _texts(example: DataExample) -> Iterator[tuple[str, str]]:
    if isinstance(example.prompt, str):
        yield "prompt", example.prompt
    else:
        yield from ((f"turns[{i}]", turn.content) for i, turn in enumerate(example.prompt))
    yield "completion", example.completion
    if is_rich(example):
        yield from _further_texts(example)
    for k in range(len(example.alternatives)):
        for place, text in _texts(replace(part_of(example, ALTERNATIVE + k), prompt="", tools="")):
            yield place.replace("completion", f"alternatives[{k}]"), text


def _further_texts(example: DataExample) -> Iterator[tuple[str, str]]:
    """Yield the texts of calls, reasoning and tools; JSON without escapes, as a template writes it."""
    for i, turn in enumerate(example.messages):
        place = "completion" if i == len(example.messages) - 1 else f"turns[{i}]"
        yield f"{place}.reasoning", turn.reasoning
        for call in turn.tool_calls:
            yield f"{place}.tool_calls", f"{call.name} {call.id} {_canonical(call.arguments)}"
        yield place, f"{turn.name} {turn.tool_call_id}"
    if example.tools:
        yield "tools", _canonical(example.tools)


def _canonical(text: str) -> str:
    return json.dumps(json.loads(text), ensure_ascii=False)


def find_control_tokens(tokenizer: Any, definition: Mapping[str, Any] | None, rendering: str) -> ControlTokens | None:
    """Return the tokenizer's special tokens; None if it has none. `rendering` is a chat rendered by its template.

    A special token that also results from ordinary text (a word used as the padding token) is excluded.
    """
    model = {} if definition is None else definition["model"]
    merges = model.get("merges") or []  # of a byte-pair encoding
    words = {"".join(merge.split(" ") if isinstance(merge, str) else merge) for merge in merges}
    names = {
        str(token)
        for token in tokenizer.added_tokens_decoder.values()
        if token.special or str(token) in tokenizer.all_special_tokens
    }
    names = {name for name in names if len(name) > 1} - words
    return ControlTokens(names, rendering) if names else None
