"""Texts line by line in several files: languages (OPUS, FLORES), and texts with their answers (GEval, PolEval).

Languages are the ends or beginnings of names, as in `Books.en-pl.en`; GEval has `in.tsv` and `expected.tsv`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from itertools import permutations
from pathlib import PurePath

from kamerton.data.options import PARALLEL
from kamerton.errors import Fault
from kamerton.shell import setting
from kamerton.words import listed

_CODES = frozenset(
    """
    af ar az be bg bn bs ca cs cy da de el en eo es et eu fa fi fr ga gl he hi hr hu hy id is it ja ka kk ko lt lv mk
    ml mr ms mt nb nl nn no pl pt ro ru sk sl sq sr sv sw ta te th tl tr uk ur uz vi zh
    """.split()  # noqa: SIM905
)
_FLORES = re.compile(r"[a-z]{3}_[A-Z][a-z]{3}")


def parallel_fault(names: Iterable[str], place: str, before: str = "") -> Fault | None:
    """Return the fault of files that are one text in several languages, with the settings that read two of them.

    Args:
        names: the names of all data files.
        place: the folder or archive of the files, for the fault.
        before: what has to be done first.
    """
    names = list(names)
    if fault := _answered_fault(names, place, before):
        return fault
    groups: dict[str, dict[str, str]] = {}  # names by language, for each text
    for name in names:
        stem, _, end = PurePath(name).name.rpartition(".")
        language, text = (stem, end) if _is_language(stem) else (end, stem)
        if not stem or not _is_language(language):
            return None
        groups.setdefault(str(PurePath(name).with_name(text)), {})[language] = name
    texts: list[Mapping[str, str]] = [files for files in groups.values() if len(files) > 1]
    if not texts:
        return None
    files = next((text for text in texts if "train" in str(text).lower()), texts[0])
    ways = []
    for first, second in permutations(list(files)[:2]):
        paths = (str(PurePath(place, files[language])) for language in (first, second))
        settings = (setting(f"data.{key}", path) for key, path in zip(PARALLEL, paths, strict=True))
        ways.append(f"{' '.join(settings)} ({first} to {second})")
    message = f"the files are one text in several languages ({listed(list(files))}), line by line"
    return Fault("unclear-columns", message, f"{before}in place of the path, add {'; or '.join(ways)}", place)


def _answered_fault(names: list[str], place: str, before: str) -> Fault | None:
    """Return the fault of folders with the texts in one file and the answer to each of their lines in another."""
    answers = {PurePath(name).parent: name for name in names if PurePath(name).name.startswith("expected.tsv")}
    texts = [name for name in names if PurePath(name).name.startswith("in.tsv") and PurePath(name).parent in answers]
    if not texts:
        return None
    text = next((name for name in texts if "train" in name.lower()), texts[0])
    paths = (str(PurePath(place, name)) for name in (text, answers[PurePath(text).parent]))
    settings = " ".join(setting(f"data.{key}", path) for key, path in zip(PARALLEL, paths, strict=True))
    message = "in.tsv has a text, and expected.tsv its answer, on each line (a challenge of GEval)"
    return Fault("unclear-columns", message, f"{before}in place of the path, add {settings}", place)


def _is_language(text: str) -> bool:
    return text in _CODES or _FLORES.fullmatch(text) is not None
