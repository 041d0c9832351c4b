"""Reading a JSON document value by value, in memory bounded by its largest record."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from typing import IO, Any

from kamerton.data.read.files.lines import MAX_LINE, UTF8

CHUNK = 2**20  # bytes that are read at once
MARGIN = 16  # characters at the end of what was read that may be part of an incomplete token
_SPACE = re.compile(r"[ \t\r\n]*")


class JsonSyntaxError(Exception):
    """The document is not JSON at `line` and `column`, both from 1."""

    def __init__(self, message: str, line: int, column: int) -> None:
        super().__init__(message)
        self.message, self.line, self.column = message, line, column


def _constant(name: str) -> None:
    """Read Python's NaN for a missing value as null; the infinities are not JSON."""
    if name != "NaN":
        raise OverflowError(name)


_DECODER = json.JSONDecoder(parse_constant=_constant)
_LENIENT = json.JSONDecoder()


class JsonStream:
    """The values of a JSON document, read in order from a stream of bytes.

    Bytes outside the encoding become lone surrogates in the texts.
    """

    def __init__(self, stream: IO[bytes], encoding: str) -> None:
        codec = "utf-8-sig" if encoding.lower() in UTF8 else encoding
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder(codec)("surrogateescape")
        self._text, self._at, self._is_complete = "", 0, False
        self._line, self._before = 1, 0  # the line at which the text begins, and its characters before that

    def peek(self) -> str:
        """Return the next character that is not white space; empty at the end."""
        while True:
            self._at = _SPACE.match(self._text, self._at).end()  # type: ignore[union-attr]
            if self._at < len(self._text) or not self._fill():
                return self._text[self._at : self._at + 1]

    def take(self, expected: str) -> str:
        """Return the next character and go on behind it; raises `JsonSyntaxError` if it is none of `expected`."""
        character = self.peek()
        if not character or character not in expected:
            names = " or ".join(map(repr, expected))
            raise self.error(f"Expecting {names}" if character else f"the file ends without {names}")
        self._at += 1
        return character

    def value(self, limit: int = MAX_LINE) -> tuple[Any, str]:
        """Return the next value with its text. An infinity in it raises OverflowError behind the value.

        Raises `JsonSyntaxError` if it is not JSON, or longer than `limit` characters.
        """
        self.peek()
        while True:
            try:
                value, end = self._decode()
            except ValueError as error:
                if self._is_cut_off(error) and self._fill(limit):
                    continue
                raise self.error(getattr(error, "msg", str(error)), getattr(error, "pos", None)) from None
            if end == len(self._text) and self._fill(limit):  # a number may go on
                continue
            text = self._text[self._at : end]
            self._at = end
            if value is _INFINITE:
                raise OverflowError("Infinity is not a value of JSON")
            return value, text

    def _decode(self) -> tuple[Any, int]:
        try:
            return _DECODER.raw_decode(self._text, self._at)
        except OverflowError:
            return _INFINITE, _LENIENT.raw_decode(self._text, self._at)[1]

    def _is_cut_off(self, error: ValueError) -> bool:
        position = getattr(error, "pos", 0)
        return position > len(self._text) - MARGIN or "Unterminated string" in str(error)

    def items(self) -> Iterator[str]:
        """Go through an array: yield before each of its values, which the caller reads."""
        self.take("[")
        if self.peek() == "]":
            self.take("]")
            return
        while True:
            yield self.peek()
            if self.take(",]") == "]":
                return

    def members(self) -> Iterator[str]:
        """Go through an object: yield each key, whose value the caller reads."""
        self.take("{")
        if self.peek() == "}":
            self.take("}")
            return
        while True:
            if self.peek() != '"':
                raise self.error("Expecting a key in double quotes")
            key, _ = self.value()
            self.take(":")
            yield key
            if self.take(",}") == "}":
                return

    def error(self, message: str, at: int | None = None) -> JsonSyntaxError:
        """Return the error of the next character, or of the one at `at` in what was read."""
        at = self._at if at is None else at
        newline = self._text.rfind("\n", 0, at)
        column = at - newline if newline >= 0 else self._before + at + 1
        return JsonSyntaxError(message, self._line + self._text.count("\n", 0, at), column)

    def _fill(self, limit: int = MAX_LINE) -> bool:
        """Read more, and forget what was taken; return False at the end of the file."""
        if self._is_complete:
            return False
        rest = len(self._text) - self._at
        if rest > limit:
            raise self.error(f"a value is longer than {limit >> 20} Mi characters")
        data = self._stream.read(max(CHUNK, rest))
        self._is_complete = not data
        newline = self._text.rfind("\n", 0, self._at)
        self._before = self._at - newline - 1 if newline >= 0 else self._before + self._at
        self._line += self._text.count("\n", 0, self._at)
        self._text = self._text[self._at :] + self._decoder.decode(data, final=not data)
        self._at = 0
        return True


_INFINITE = object()
