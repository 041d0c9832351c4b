"""Run messages for tenants: uploaded file names in place of server paths."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from kamerton.jobs.store import LOG
from kamerton.run.record import Record
from kamerton.server.ids import CONTENT, META, files_of, request_of
from kamerton.server.settings import Settings

_PATH = re.compile(r"(?<![\w/:.~-])~?(?:/[^\s/'\"`:,;()\[\]]+){2,}/?")
_FAULT = re.compile(r"error: (?P<text>.*) \[(?P<code>[\w.-]+)\]$")
_TAIL = 2**16  # bytes read from the end of a log
_MAX_FAULTS = 3  # in an error's message


def sanitize(settings: Settings, path: Path, request: dict[str, Any], value: Any) -> Any:
    """Replace server paths in every text of a value of the job at `path`; `request` names its uploaded files."""
    if isinstance(value, dict):
        return {key: sanitize(settings, path, request, item) for key, item in value.items()}
    if isinstance(value, list):
        return [sanitize(settings, path, request, item) for item in value]
    if not isinstance(value, str) or "/" not in value:
        return value
    for param in ("training_file", "validation_file"):
        if request.get(param):
            folder = files_of(settings, path.parent.name) / request[param]
            meta = folder / META
            name = json.loads(meta.read_text(encoding="utf-8"))["filename"] if meta.is_file() else folder.name
            value = value.replace(str(folder / CONTENT), name)
    for folder in (path, settings.root):
        value = value.replace(f"{folder}/", "").replace(str(folder), ".")
    return _PATH.sub(lambda match: match[0].rstrip("/").rpartition("/")[2], value)


def error_of(settings: Settings, path: Path, record: Record) -> dict[str, Any] | None:
    """Return the error of a failed job, else None. A fault of its data names the parameter with the file."""
    error, request = record.error, request_of(record)
    if record.state != "failed" or error is None:
        return None
    faults = _printed_faults(path / LOG) if error.code == "job.ended" else []
    messages = [message for message, _ in faults[:_MAX_FAULTS]] or [error.message]
    text = "; ".join(messages) + (f"; and {len(faults) - _MAX_FAULTS} more" if len(faults) > _MAX_FAULTS else "")
    param, code = None, faults[0][1] if faults else error.code
    for name in ("training_file", "validation_file"):
        content = files_of(settings, path.parent.name) / (request.get(name) or "none") / CONTENT
        if str(content) in text:
            param, code = name, f"invalid_{name}"
            break
    return {"code": code, "message": sanitize(settings, path, request, text) or code, "param": param}


def _printed_faults(log: Path) -> list[tuple[str, str]]:
    """Return message and code of the faults that the last attempt printed."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _TAIL))
        text = file.read().decode(errors="replace")
    *attempts, last = text.split("; nothing was done\n")
    printed = last if "error: " in last or not attempts else attempts[-1]
    matches = [_FAULT.match(line) for line in printed.splitlines()]
    return [(match["text"], match["code"]) for match in matches if match]
