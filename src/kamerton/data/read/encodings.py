"""Which encoding a text may be in: what it would read in each, for a person to choose."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from itertools import pairwise

from kamerton.shell import setting

CANDIDATES = (
    *("cp1252", "cp1250", "iso-8859-2", "cp1251", "koi8-r", "cp1253", "cp1254", "cp1257", "cp1255", "cp1256"),
    *("cp932", "euc-jp", "gb18030", "big5", "euc-kr", "cp437", "cp852", "cp866", "mac-roman"),
)
SHOWN, OF_A_SCRIPT = 5, 3
WORDS = 200
_MARKS = re.compile("^[¿¡«„“”‘’‚]+|[»“”‘’…]+$|[\u3000-\u303f\uff00-\uff20]+")  # punctuation of words that are right
_BYTE = rb"[^\x00-/:-?]"  # what is left out ends a word in every encoding; what follows it may be half a character
_WORD = re.compile(_BYTE + rb"*[\x80-\xff]" + _BYTE + rb"*")


def encoding_advice(lines: Iterable[bytes], encoding: str) -> str:
    """Return what to do about lines that are not in `encoding`: the encodings that read best, each with what they read."""
    words: dict[bytes, None] = {}
    read = 0  # lines with more than ASCII that are in it
    for line in lines:
        try:
            line.decode(encoding)
            read += not line.isascii()
        except UnicodeDecodeError:
            words |= dict.fromkeys(_WORD.findall(line)[: WORDS - len(words)])
    out = "data.policy.undecodable-byte=drop leaves such rows out"
    if read:
        return f"other rows are {encoding}, so mend these; {out}"
    texts = {codec: text for codec in CANDIDATES if (text := _read(list(words), codec)) is not None}
    best: dict[tuple[str, ...], str] = {}
    for codec in sorted(texts, key=lambda codec: -_likely(texts[codec])):  # stable: the commoner first
        best.setdefault(texts[codec], codec)
    chosen: list[tuple[str, tuple[str, ...]]] = []
    for text, codec in best.items():
        alike = sum(_scripts("".join(text)) == _scripts("".join(other)) for _, other in chosen)
        if alike < OF_A_SCRIPT and len(chosen) < SHOWN and _likely(text) > _likely(next(iter(best))) / 2:
            chosen.append((codec, text))
    if not chosen:
        return f"save the file as {encoding}; {out}"
    differing = [at for at in range(len(words)) if len({text[at] for _, text in chosen}) == len(chosen)] or [0]
    shown = [(setting("data.encoding", codec), " ".join(text[at] for at in differing[:2])) for codec, text in chosen]
    ways = ", ".join(f"{typed} reads {text!r}" for typed, text in shown)
    return f"set the encoding that reads right ({ways}), or save the file as {encoding}"


def _read(words: list[bytes], codec: str) -> tuple[str, ...] | None:
    """Return the words in an encoding; None if they cannot be."""
    try:
        texts = tuple(word.decode(codec) for word in words)
    except UnicodeDecodeError:
        return None
    unlikely = ("Cc", "Cf", "Cn", "Co")
    return None if any(unicodedata.category(sign) in unlikely for text in texts for sign in text) else texts


def _likely(texts: Iterable[str]) -> float:
    """Return the share of words that are letters of one script, with no capital after a small letter."""
    bare = [_MARKS.sub("", text) for text in texts]
    good = [
        text.isalpha()
        and len(_scripts(text)) == 1
        and not any(before.islower() and after.isupper() for before, after in pairwise(text))
        for text in bare
    ]
    return sum(good) / max(len(good), 1)


def _scripts(text: str) -> set[str]:
    """Return the first word of each letter's name, such as LATIN; the scripts of Japanese and Chinese are one."""
    names = {unicodedata.name(sign, "?").split()[0] for sign in text if sign.isalpha()}
    return {"CJK" if name in ("CJK", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA") else name for name in names}
