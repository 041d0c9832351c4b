"""Rows of plain text: a document per file or per line, and two files with a prompt and its completion per line."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import zip_longest
from pathlib import PurePath
from typing import IO, Any

from kamerton.data.data_file import DataFile
from kamerton.data.read.files.containers import open_path
from kamerton.data.read.files.lines import MAX_LINE, UTF8, Line, decoded_lines
from kamerton.data.read.files.rasa import rasa_rows
from kamerton.data.read.files.text_forms import MANY, answered_questions, other_form
from kamerton.errors import Fault

Row = tuple[int, dict[str, Any] | Fault]
Note = Callable[[str], None]
LABELLED = re.compile(r"((?:__label__\S+\s+)+)(\S.*)")  # of fastText
NO_WORDS = ("# ", "-DOCSTART-")  # beginnings of lines between sentences
TAG = re.compile(r"O|[BIESLU]-\S+")
LINES = "lines"  # data.records for a document per line
FOLDER = "folder"  # data.columns.label for the name of the folder of each file


def document_row(stream: IO[bytes], file: DataFile, note: Note, advise: Callable[[], str]) -> Iterator[Row]:
    """Yield the text of a whole file as one row, with line feeds at the ends of lines and no empty lines around it."""
    content = stream.read(MAX_LINE + 1)
    if len(content) > MAX_LINE:
        message = f"the document is larger than {MAX_LINE >> 20} MiB"
        yield 1, Fault("row-too-large", message, "divide the file, or set data.records=lines", file.name)
        return
    codec = "utf-8-sig" if file.encoding.lower() in UTF8 else file.encoding
    try:
        text = content.decode(codec)
    except UnicodeDecodeError as error:
        message = f"byte 0x{error.object[error.start]:02x} at offset {error.start:,} of the file is not {file.encoding}"
        yield 1, Fault("undecodable-byte", message, advise(), file.name)
        return
    text = text.replace("\r\n", "\n").strip("\n")
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    is_yaml = file.path.suffix.lower() in (".yml", ".yaml")
    examples = rasa_rows(text, file.name) if is_yaml else None
    fault = None if examples else other_form(lines, file)
    if fault is not None:
        yield 0, fault
    elif examples:
        note("YAML of Rasa, texts by intent")
        yield from examples
    elif questions := answered_questions(lines):
        note("text, questions (Q:) with answers (A:)")
        yield from questions
    elif are_tagged(lines):
        note("CoNLL, a word with its tag on each line, a sentence between blank lines")
        yield from sentence_rows(text)
    elif lines and all(LABELLED.match(line) for _, line in lines):
        note("fastText, a labelled text for each line")
        for number, line in lines:
            match = LABELLED.match(line)
            assert match is not None
            labels = [label.removeprefix("__label__") for label in match[1].split()]
            yield number, {"text": match[2], "label": labels[0] if len(labels) == 1 else labels}
    elif lines:
        note("text, one document (data.records=lines: one for each line)")
        yield 1, {"text": text} | _labelled(file)


def _labelled(file: DataFile) -> dict[str, str]:
    """Return the folder of a file if the columns name it."""
    folder = PurePath(file.member or file.path).parent.name
    return {FOLDER: folder} if file.columns.label == FOLDER else {}


def are_tagged(lines: list[tuple[int, str]]) -> bool:
    """Return whether the lines of a text are words, each with a tag behind it."""
    words = [line.split() for _, line in lines if not line.startswith(NO_WORDS)]
    is_tagged = all(len(fields) > 1 and TAG.fullmatch(fields[-1]) for fields in words)
    return len(words) >= MANY and is_tagged and len(set(map(len, words))) == 1


def sentence_rows(text: str) -> Iterator[Row]:
    """Yield the words of each sentence with their tags; blank lines, comments and `-DOCSTART-` lie between sentences.

    Columns between word and tag become `column2` and so on.
    """
    fields: list[list[str]] = []
    begun = 0
    for number, line in enumerate([*text.split("\n"), ""], 1):
        if line.strip() and not line.startswith(NO_WORDS):
            begun = begun if fields else number
            fields.append(line.split())
        elif fields:
            first, *middle, last = zip(*fields, strict=True)
            others = {f"column{place}": list(column) for place, column in enumerate(middle, 2)}
            yield begun, {"tokens": list(first), "tags": list(last), **others}
            fields = []


def line_rows(lines: Iterator[Line], note: Note) -> Iterator[Row]:
    """Yield each line that is not blank as a row."""
    note("text, a document for each line")
    for number, (line, fault) in enumerate(lines, 1):
        if fault or line.strip():
            yield number, fault or {"text": line.rstrip("\r\n")}


def parallel_rows(prompts: Iterator[Line], file: DataFile, note: Note, advise: Callable[[], str]) -> Iterator[Row]:
    """Yield a row for each line of `file` and the line of the same number of its companion.

    Lines that are blank in both files are skipped.
    """
    assert file.companion is not None
    note(f"text, a prompt for each line; completions in {file.companion.name}")
    counts = [0, 0]
    with open_path(file.companion) as stream:
        completions = decoded_lines(stream, str(file.companion), file.encoding, advise)
        for number, pair in enumerate(zip_longest(prompts, completions), 1):
            counts = [count + (line is not None) for count, line in zip(counts, pair, strict=True)]
            prompt, completion = (line or ("", None) for line in pair)
            fault = prompt[1] or completion[1]
            if None in pair or not (fault or prompt[0].strip() or completion[0].strip()):
                continue
            texts = {"prompt": prompt[0].rstrip("\r\n"), "completion": completion[0].rstrip("\r\n")}
            yield number, replace(fault, file=file.name) if fault else texts
    if counts[0] != counts[1]:
        message = f"data.prompt_file has {counts[0]:,} lines and data.completion_file {counts[1]:,}"
        yield 0, Fault("unreadable-file", message, "give files whose lines belong together", str(file.companion))
