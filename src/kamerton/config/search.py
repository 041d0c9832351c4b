"""The places of the user's configuration files, from `--config-dir` and `hydra.searchpath`, valid in any folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from kamerton.config.origin import key_of
from kamerton.shell import place

SEARCHPATH = "hydra.searchpath"
_FLAG = "--config-dir="
_FILES = "file://"


def places(config_dir: str | None, typed: Sequence[str]) -> list[str]:
    """Return every place that is searched after `conf/`, in order, in Hydra's form; folders are absolute."""
    return [*([_absolute(config_dir)] if config_dir else []), *_entries(typed)]


def search_words(config_dir: str | None, typed: Sequence[str]) -> list[str]:
    """Return the words of a command that name those places; `typed` are its overrides."""
    folder = [f"{_FLAG}{Path(config_dir).absolute()}"] if config_dir else []
    entries = _entries(typed)
    return [*folder, *([f"{SEARCHPATH}=[{','.join(map(place, entries))}]"] if entries else [])]


def split_search(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Divide the words of a command into those that name places, and all others."""
    search = [text for text in words if text.startswith(_FLAG) or key_of(text) == SEARCHPATH]
    return search, [text for text in words if text not in search]


def config_dir_of(search: Sequence[str]) -> str | None:
    """Return the folder that `search_words` name by their flag."""
    return next((text.removeprefix(_FLAG) for text in search if text.startswith(_FLAG)), None)


def other_places(search: Sequence[str]) -> list[str]:
    """Return the entries that are not folders, such as `pkg://`, which imports a package."""
    return [entry for entry in _entries(search) if not entry.startswith(_FILES)]


def missing_folders(search: Sequence[str]) -> list[str]:
    """Return the folders among the places that do not exist."""
    folders = [text.removeprefix(_FILES) for text in places(config_dir_of(search), search) if text.startswith(_FILES)]
    return [folder for folder in folders if not Path(folder).is_dir()]


def _entries(typed: Sequence[str]) -> list[str]:
    """Return the entries of the first typed `hydra.searchpath`, as Hydra reads it; none if Hydra will refuse it."""
    texts = [text for text in typed if key_of(text) == SEARCHPATH]
    try:
        value = OverridesParser.create().parse_override(texts[0]).value() if texts else []
    except HydraException:
        return []
    return [_absolute(str(entry)) for entry in value] if isinstance(value, list) else []


def _absolute(entry: str) -> str:
    is_folder = "://" not in entry or entry.startswith(_FILES)
    return f"{_FILES}{Path(entry.removeprefix(_FILES)).absolute()}" if is_folder else entry
