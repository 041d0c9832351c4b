"""Shell commands that convert an unreadable file; faults print them for pasting."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

from kamerton.shell import new_name


def python(code: str) -> str:
    """Return a command that runs Python code."""
    return f"python -c {shlex.quote(code)}"


def python_objects(path: Path) -> str:
    """Return a command that writes lines of Python dictionaries as JSON Lines."""
    lines = f'open({json.dumps(str(path))}, encoding="utf-8")'
    code = f"import ast, json; [print(json.dumps(ast.literal_eval(line))) for line in {lines} if line.strip()]"
    return f"{python(code)} > {new_name(path, '.jsonl')}"


def comma_separated(path: Path, delimiter: str, encoding: str, *, quotes: bool = True, skip: int = 0) -> str:
    """Return a command that writes a table with another delimiter, or without quoting, as CSV.

    The result is in UTF-8; with latin-1, which decodes any bytes, they are unchanged.
    """
    into = "latin-1" if encoding == "latin-1" else "utf-8"
    stream = f"pyarrow.input_stream({json.dumps(str(path))})"
    read = f"io.TextIOWrapper({stream}, {json.dumps(encoding)}, newline={json.dumps('')})"
    if skip:
        read = f"itertools.islice({read}, {skip}, None)"
    how = f"delimiter={json.dumps(delimiter)}" + ("" if quotes else ", quoting=csv.QUOTE_NONE")
    write = f'open({json.dumps(new_name(path, ".csv"))}, "w", newline="", encoding="{into}")'
    code = f"csv.writer({write}).writerows(csv.reader({read}, {how}))"
    return python(f"import csv, io, itertools, pyarrow; {code}")
