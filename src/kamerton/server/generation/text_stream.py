"""The text of an answer while its tokens come: whole characters only, and nothing of a stop string.

What is handed out is never taken back, so the pieces of an answer joined are its text. Held back are bytes that are no
whole character yet, an ending that may become a stop string, and, where a tokenizer removes spaces while it decodes,
the last word.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

_UNFINISHED = "�"  # what bytes decode to that are no character, or not yet


class TextStream:
    """The text of one answer. `decode` gives the text of all its tokens, as the evaluation of a run does it.

    The answer ends with the first stop string that is complete in it, and does not hold it. `cleans` says that
    `decode` removes spaces before punctuation.
    """

    def __init__(self, decode: Callable[[list[int]], str], stops: Sequence[str] = (), *, cleans: bool = False) -> None:
        self.tokens: list[int] = []
        self.stopped = False
        self._decode = decode
        self._stops = [stop for stop in stops if stop]
        self._cleans = cleans
        self._sent = 0

    def add(self, token: int) -> str:
        """The text that is certain with one token more; sets `stopped` where a stop string is complete."""
        self.tokens.append(token)
        return self._take(self._certain(self._decode(self.tokens)), last=False)

    def finish(self) -> str:
        """The rest of the text, once no token comes any more."""
        return "" if self.stopped else self._take(self._decode(self.tokens), last=True)

    def _certain(self, text: str) -> str:
        text = text.rstrip(_UNFINISHED)
        return text[: text.rfind(" ")] if self._cleans and " " in text else text

    def _take(self, text: str, *, last: bool) -> str:
        end = self._stop(text)
        if end is None:
            end = len(text) if last else len(text) - self._held(text)
        piece = text[self._sent : end]
        self._sent = max(self._sent, end)
        return piece

    def _stop(self, text: str) -> int | None:
        """Where the stop string begins that is complete first (of those that end together, the longest)."""
        starts = [(start + len(stop), start) for stop in self._stops if (start := text.find(stop, self._sent)) >= 0]
        self.stopped = bool(starts)
        return min(starts)[1] if starts else None

    def _held(self, text: str) -> int:
        """The length of the longest ending that begins a stop string."""
        sizes = (size for stop in self._stops for size in range(1, len(stop)) if text.endswith(stop[:size]))
        return max(sizes, default=0)
