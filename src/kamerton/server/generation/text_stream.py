"""Streaming of an answer's text, token by token: only complete characters, and no part of a stop string.

Emitted text is final, so the concatenated pieces are the text of the answer. Held back are bytes of an incomplete
character, an ending that may become a stop string, and the last word if the tokenizer removes spaces while decoding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

_UNFINISHED = "�"  # decoded from invalid or incomplete bytes


class TextStream:
    """The text of one answer. `decode` returns the text of all its tokens, as in the evaluation of a run.

    The answer ends before the first complete stop string. `cleans` means that `decode` removes spaces before
    punctuation.
    """

    def __init__(self, decode: Callable[[list[int]], str], stops: Sequence[str] = (), *, cleans: bool = False) -> None:
        self.tokens: list[int] = []
        self.stopped = False
        self._decode = decode
        self._stops = [stop for stop in stops if stop]
        self._cleans = cleans
        self._sent = 0

    def add(self, token: int) -> str:
        """Add a token and return the text that became final; set `stopped` if a stop string is complete."""
        self.tokens.append(token)
        text = self._decode(self.tokens).rstrip(_UNFINISHED)
        if self._cleans and " " in text:
            text = text[: text.rfind(" ")]
        return self._take(text, last=False)

    def finish(self) -> str:
        """Return the rest of the text after the last token."""
        return "" if self.stopped else self._take(self._decode(self.tokens), last=True)

    def _take(self, text: str, *, last: bool) -> str:
        """Return the new text up to a stop string, or unless `last` up to an ending that may become one."""
        # (end, start) of each stop string: the one complete first counts, among equal ends the longest.
        stops = [(start + len(stop), start) for stop in self._stops if (start := text.find(stop, self._sent)) >= 0]
        self.stopped = bool(stops)
        end = len(text)
        if stops:
            end = min(stops)[1]
        elif not last:
            held = (size for stop in self._stops for size in range(1, len(stop)) if text.endswith(stop[:size]))
            end -= max(held, default=0)
        piece = text[self._sent : end]
        self._sent = max(self._sent, end)
        return piece
