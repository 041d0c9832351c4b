"""Guessing the encoding of a text: candidates with the text they would give, for the user to choose from."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from typing import IO

from kamerton.data.read.files.languages import clear_encoding
from kamerton.shell import setting

CANDIDATES = (
    *("cp1252", "cp1250", "iso-8859-2", "cp1251", "koi8-r", "cp1253", "cp1254", "cp1257", "cp1255", "cp1256"),
    *("cp932", "euc-jp", "gb18030", "big5", "euc-kr", "cp437", "cp852", "cp866", "mac-roman"),
)
_MARKS = (
    (b"\xff\xfe\0\0", "utf-32"),
    (b"\0\0\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
MAX_SHOWN, MAX_PER_SCRIPT = 5, 3
MAX_WORDS = 200
SCANNED, BLOCK = 64 * 2**20, 2**20  # bytes of a file in which words are collected, and that are read at once
PER_BYTE, MAX_ASCII_WORDS = 20, 5000  # different words with one byte, and other words, that determine an encoding
_LETTERS = re.compile(rb"[^\x00-@\[-`{-~]*[\x80-\xff][^\x00-@\[-`{-~]*")
_ESCAPE = re.compile(rb"\\[nrt]")  # in JSON
_ASCII_WORD = re.compile(rb"(?<![\x80-\xffA-Za-z])[A-Za-z]+(?![\x80-\xffA-Za-z])")
_PUNCTUATION = re.compile("^[¿¡«„“”‘’‚]+|[»“”‘’…]+$|[\u3000-\u303f\uff00-\uff20]+")  # around correctly decoded words
_BYTE = rb"[^\x00-/:-?]"  # the excluded bytes end a word in every encoding; other bytes may be half a character
_WORD = re.compile(_BYTE + rb"*[\x80-\xff]" + _BYTE + rb"*")


def wide_encoding(head: bytes) -> str | None:
    """Return the encoding of two or four bytes a character of a file that begins with `head`; None for other files.

    It is detected by the byte-order mark, or by the zero bytes of ASCII characters.
    """
    for mark, encoding in _MARKS:
        if head.startswith(mark):
            return encoding
    zeros = tuple(head[start::4].count(0) * 4 / max(len(head), 1) for start in range(4))
    for order, encoding in ((zeros, "utf-32-le"), (zeros[::-1], "utf-32-be")):
        if order[0] < 0.1 and min(order[2:]) > 0.9:
            return encoding
    for (first, second), encoding in ((zeros[:2], "utf-16-le"), (zeros[1::-1], "utf-16-be")):
        if first == 0 and second > 0.1:
            text = head[: len(head) // 2 * 2].decode(encoding, "ignore")
            if not any(unicodedata.category(sign) in ("Cc", "Cn", "Co") and sign not in "\t\n\r" for sign in text):
                return encoding
    return None


def national_encoding(stream: IO[bytes]) -> str | None:
    """Return the encoding of a text in another one than UTF-8, if it is certain by the letters of the text.

    None: it is UTF-8, at least in part, or the encoding is uncertain.
    """
    words: dict[bytes, None] = {}
    counts: Counter[int] = Counter()  # words by byte
    ascii_words: Counter[str] = Counter()
    size = 0
    while size < SCANNED and (lines := stream.readlines(BLOCK)):
        size += sum(map(len, lines))
        block = b"".join(lines)
        if block.isascii():
            continue
        if not words and _is_utf8(block):
            return None
        for line in lines:
            if line.isascii():
                continue
            if _is_utf8(line):
                return None
            if ascii_words.total() < MAX_ASCII_WORDS:
                ascii_words.update(word.decode().lower() for word in _ASCII_WORD.findall(line))
            for word in _LETTERS.findall(_ESCAPE.sub(b" ", line)):
                places = {byte for byte in word if byte > 0x7F}
                if word not in words and min(counts[byte] for byte in places) < PER_BYTE:
                    words[word] = None
                    counts.update(places)
    return clear_encoding(list(words), ascii_words) if words else None


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def encoding_advice(lines: Iterable[bytes], encoding: str) -> str:
    """Return the fix for lines that are not in `encoding`: the most plausible encodings with the text they give."""
    words: dict[bytes, None] = {}
    valid = 0  # lines with non-ASCII characters in `encoding`
    for line in lines:
        try:
            line.decode(encoding)
            valid += not line.isascii()
        except UnicodeDecodeError:
            words |= dict.fromkeys(_WORD.findall(line)[: MAX_WORDS - len(words)])
    drop = "data.policy.undecodable-byte=drop leaves such rows out"
    if valid:
        return f"other rows are {encoding}, so correct these; {drop}"
    texts = {codec: text for codec in CANDIDATES if (text := _decode(list(words), codec)) is not None}
    best: dict[tuple[str, ...], str] = {}
    for codec in sorted(texts, key=lambda codec: -_plausibility(texts[codec])):  # stable: common encodings first
        best.setdefault(texts[codec], codec)
    chosen: list[tuple[str, tuple[str, ...]]] = []
    least = _plausibility(next(iter(best), ())) / 2
    for text, codec in best.items():
        same_script = sum(_scripts("".join(text)) == _scripts("".join(other)) for _, other in chosen)
        is_plausible = _plausibility(text) > least or not least  # without letters, as in `£5`, all are alike
        if same_script < MAX_PER_SCRIPT and len(chosen) < MAX_SHOWN and is_plausible:
            chosen.append((codec, text))
    if not chosen:
        return f"save the file as {encoding}; {drop}"
    differing = [at for at in range(len(words)) if len({text[at] for _, text in chosen}) == len(chosen)] or [0]
    options = [(setting("data.encoding", codec), " ".join(text[at] for at in differing[:2])) for codec, text in chosen]
    readings = ", ".join(f"{option} reads {text!r}" for option, text in options)
    return f"set the encoding that reads right ({readings}), or save the file as {encoding}"


def _decode(words: list[bytes], codec: str) -> tuple[str, ...] | None:
    """Return the decoded words; None if the codec cannot decode them, or decodes them to control characters."""
    try:
        texts = tuple(word.decode(codec) for word in words)
    except UnicodeDecodeError:
        return None
    unlikely = ("Cc", "Cf", "Cn", "Co")
    return None if any(unicodedata.category(sign) in unlikely for text in texts for sign in text) else texts


def _plausibility(texts: Iterable[str]) -> float:
    """Return the share of words that are letters of a single script, without a capital after a small letter."""
    words = [_PUNCTUATION.sub("", text) for text in texts]
    plausible = [
        word.isalpha()
        and len(_scripts(word)) == 1
        and not any(before.islower() and after.isupper() for before, after in pairwise(word))
        for word in words
    ]
    return sum(plausible) / max(len(plausible), 1)


def _scripts(text: str) -> set[str]:
    """Return the scripts of a text's letters, such as LATIN; those of Japanese and Chinese are a single one, CJK."""
    names = {unicodedata.name(sign, "?").split()[0] for sign in text if sign.isalpha()}
    return {"CJK" if name in ("CJK", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA") else name for name in names}
