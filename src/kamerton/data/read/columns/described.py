"""LLaMA-Factory's `dataset_info.json`: which file has which columns, as settings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kamerton.data.data_file import DataFile
from kamerton.data.read.columns.propose import template_settings
from kamerton.errors import Fault
from kamerton.shell import path_setting, setting

INFO = "dataset_info.json"
SOURCES = ("file_name", "hf_hub_url", "ms_hub_url", "om_hub_url", "script_url", "cloud_file_name")


def description_fault(record: Mapping[str, Any], file: DataFile) -> Fault | None:
    """Return the fault of a list of data sets in place of rows; None for other rows."""
    entries = [entry for entry in (record, *record.values()) if isinstance(entry, Mapping)]  # one alone is within
    info = next((entry for entry in entries if any(name in entry for name in SOURCES)), None)
    if file.path.name != INFO or info is None:
        return None
    message = "the file describes data sets of LLaMA-Factory, and has no rows"
    fix, name = "give the files that it describes", info.get("file_name")
    if isinstance(name, str):
        settings = [path_setting(file.path.parent / name, file.split), *_settings(info)]
        fix += f"; such as, in place of the path, {' '.join(settings)}"
    return Fault("unclear-columns", message, fix, column="file_name")


def described_fault(record: Mapping[str, Any], file: DataFile) -> Fault | None:
    """Return the fault of a row whose columns the `dataset_info.json` beside its file names; None for other rows."""
    info = _description(file.path)
    settings = _settings(info) if info is not None else []
    columns = info.get("columns") if info is not None else None
    if not settings or not isinstance(columns, Mapping) or not set(map(str, columns.values())) <= set(record):
        return None
    message = f"{INFO} beside the file names its columns ({', '.join(map(str, columns.values()))})"
    return Fault("unclear-columns", message, f"add {' '.join(settings)}", column=str(next(iter(columns.values()))))


def _description(path: Path) -> Mapping[str, Any] | None:
    """Return the entry of a file in the list of data sets beside it; None without any."""
    try:
        entries = json.loads((path.parent / INFO).read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    values = entries.values() if isinstance(entries, Mapping) else ()
    return next((item for item in values if isinstance(item, Mapping) and item.get("file_name") == path.name), None)


def _settings(info: Mapping[str, Any]) -> list[str]:
    """Return the settings of the columns of an entry; none if they have the usual names."""
    columns = info.get("columns")
    names = (
        {key: name for key, name in columns.items() if isinstance(name, str)} if isinstance(columns, Mapping) else {}
    )
    result = [setting("data.columns.messages", names["messages"])] if "messages" in names else []
    if "prompt" in names and "response" in names:
        query = f"\\n\\n{{{names['query']}?}}" if "query" in names else ""
        result = [template_settings(f"{{{names['prompt']}}}{query}", f"{{{names['response']}}}")]
    return result + ([setting("data.system", f"{{{names['system']}?}}")] if "system" in names else [])
