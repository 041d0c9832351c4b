"""What a run says, as a tenant may read it: its own files by the names it gave them, no path of this machine."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from kamerton.jobs.store import LOG
from kamerton.server.ids import CONTENT, META, files_of
from kamerton.server.settings import Settings

_PATH = re.compile(r"(?<![\w/:.~-])~?(?:/[^\s/'\"`:,;()\[\]]+){2,}/?")
_FAULT = re.compile(r"error: (?P<text>.*) \[(?P<code>[\w.-]+)\]$")
_TAIL = 2**16  # bytes of a log that are looked at
_SHOWN = 3  # faults in an error's message


def readable(settings: Settings, path: Path, asked: dict[str, Any], value: Any) -> Any:
    """Plain values of the job at `path`, with what they say of this machine's folders left out of every text."""
    if isinstance(value, dict):
        return {key: readable(settings, path, asked, item) for key, item in value.items()}
    if isinstance(value, list):
        return [readable(settings, path, asked, item) for item in value]
    if not isinstance(value, str) or "/" not in value:
        return value
    for param in ("training_file", "validation_file"):
        if asked.get(param):
            folder = files_of(settings, path.parent.name) / asked[param]
            value = value.replace(str(folder / CONTENT), _filename(folder))
    for folder in (path, settings.root):
        value = value.replace(f"{folder}/", "").replace(str(folder), ".")
    return _PATH.sub(lambda found: found[0].rstrip("/").rpartition("/")[2], value)


def error_of(settings: Settings, path: Path, record: dict[str, Any]) -> dict[str, Any] | None:
    """Why a job failed; None where it did not. Faults of its data name the parameter that gave them."""
    error, asked = record.get("error"), record["request"]
    if record.get("state") != "failed" or not error:
        return None
    faults = _faults(path / LOG) if error["code"] == "job.ended" else []
    said = [text for text, _ in faults[:_SHOWN]] or [str(error["message"])]
    text = "; ".join(said) + (f"; and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else "")
    param, code = _param(settings, path, asked, text), faults[0][1] if faults else error["code"]
    code = f"invalid_{param}" if param else code
    return {"code": code, "message": readable(settings, path, asked, text) or code, "param": param}


def _param(settings: Settings, path: Path, asked: dict[str, Any], text: str) -> str | None:
    """The parameter whose file a text speaks of."""
    for param in ("training_file", "validation_file"):
        folder = files_of(settings, path.parent.name) / (asked.get(param) or "none")
        if str(folder / CONTENT) in text:
            return param
    return None


def _faults(log: Path) -> list[tuple[str, str]]:
    """The faults that the last attempt printed, and their codes."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _TAIL))
        said = file.read().decode(errors="replace")
    *before, last = said.split("; nothing was done\n")
    found = [_FAULT.match(line) for line in (last if "error: " in last or not before else before[-1]).splitlines()]
    return [(one["text"], one["code"]) for one in found if one]


def _filename(folder: Path) -> str:
    if not (folder / META).is_file():
        return folder.name
    name: str = json.loads((folder / META).read_text(encoding="utf-8"))["filename"]
    return name
