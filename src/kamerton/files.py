"""Atomic files, safe ways to open files, and YAML from untrusted files."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import Any

import yaml
from yaml.composer import Composer
from yaml.constructor import SafeConstructor
from yaml.cyaml import CParser  # type: ignore[attr-defined]
from yaml.resolver import Resolver

MOST_VALUES = 1_000_000  # of a YAML file, with what its aliases repeat


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a path to write to, which atomically replaces `path` at the end of the block; after an error it is removed.

    Its content is on the disk before it is renamed: a power cut leaves the old file or the new one, never an empty one.
    Its name is always the same, so a remnant of a killed process is overwritten by the next write. For one writer at a
    time.
    """
    partial = path.with_name(f".{path.name}.partial")
    if partial.is_symlink():  # a hostile folder may link to any file
        partial.unlink()
    try:
        yield partial
        flush(partial)
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Replace the file at `path` by `text`, in UTF-8."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def flush(path: Path) -> None:
    """Wait until the content of a file, or the names in a folder, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def at_once(path: str, flags: int) -> int:
    """For `open(…, opener=at_once)`: does not block on a named pipe."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def own_file(path: str, flags: int) -> int:
    """For `open(…, opener=own_file)`: neither blocks nor follows a link, which a hostile folder may contain."""
    return at_once(path, flags | getattr(os, "O_NOFOLLOW", 0))


def leads_out(text: str) -> bool:
    """Whether a text, taken as a path, leads out of the folder that it is relative to."""
    path = PurePath(text)
    return path.is_absolute() or text.startswith("~") or ".." in path.parts


class _Loader(Composer, CParser, SafeConstructor, Resolver):
    """Parses in C, several times faster; PyYAML's own C loader also composes there, which deep nesting crashes."""

    def __init__(self, text: str) -> None:
        CParser.__init__(self, text)
        for base in (Composer, SafeConstructor, Resolver):
            base.__init__(self)


def load_yaml(text: str) -> Any:
    """Return the plain values of YAML. Raises `yaml.YAMLError` if its aliases expand to too many values, or it is
    nested too deeply.
    """
    try:
        return _loaded(_Loader(text))
    except (yaml.YAMLError, UnicodeError):
        return _loaded(yaml.SafeLoader(text))  # its messages show the line


def _loaded(loader: Any) -> Any:
    try:
        node = loader.get_single_node()
        if _values(node, {}) > MOST_VALUES:
            raise yaml.YAMLError(f"its aliases expand to more than {MOST_VALUES:,} values")
        return None if node is None else loader.construct_document(node)
    except RecursionError:
        raise yaml.YAMLError("it is nested too deeply") from None
    finally:
        loader.dispose()


def _values(node: Any, counts: dict[int, float]) -> float:
    """Count the values of a node with every alias expanded; infinite if it contains itself."""
    if id(node) not in counts:
        counts[id(node)] = math.inf
        inner = node.value if isinstance(node, yaml.SequenceNode | yaml.MappingNode) else []
        parts = [part for item in inner for part in (item if isinstance(item, tuple) else (item,))]
        counts[id(node)] = 1 + sum(_values(part, counts) for part in parts)
    return counts[id(node)]
