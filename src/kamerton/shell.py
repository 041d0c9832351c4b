"""Commands and settings that are printed to be pasted: quoted for a shell, secrets masked, right in any folder."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kamerton.mask import mask_text


def command_line(*words: str | Path) -> str:
    """Return a `kamerton` command with these words, quoted for a shell."""
    return shlex.join(["kamerton", *(mask_text(str(word)) for word in words)])


@contextmanager
def as_arguments(arguments: Sequence[str]) -> Iterator[None]:
    """Set `sys.argv` as if `arguments` had been typed: Lightning starts ranks with it, and W&B records it."""
    before = sys.argv
    sys.argv = [before[0], *arguments]
    try:
        yield
    finally:
        sys.argv = before


def train_line(search: Sequence[str], overrides: Sequence[str], outputs: str | Path, *more: str) -> str:
    """Return a `kamerton train` that writes below `outputs` from any folder; `more` come last.

    `search` names the user's own configuration files (`config.search`).
    """
    kept = [text for text in overrides if text.lstrip("+").partition("=")[0] != "paths.outputs"]
    folder = f"paths.outputs={place(str(Path(outputs).absolute()))}"
    return command_line("train", *search, *kept, folder, *more)


def setting(key: str, value: str | int | float | bool | Mapping[Any, str] | Sequence[str]) -> str:
    """Return `key=value` for a shell, quoted if necessary: Hydra reads the value back with its type."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    from hydra_plugins.kamerton._overrides import override

    if not isinstance(value, str):
        return shlex.quote(override(key, value))
    typed = f"{key}={value}"
    try:
        is_read = OverridesParser.create().parse_override(typed).value() == value
    except HydraException:
        is_read = False
    if not is_read or " " in value or value.strip() != value:
        escaped = re.sub(r'(\\+)?("|$)', lambda end: (end[1] or "") * 2 + ('\\"' if end[2] else ""), value)
        typed = f'{key}="{escaped}"'
    return shlex.quote(typed)


def place(path: str) -> str:
    """Return a path in Hydra's grammar, with Hydra's quotes if necessary; a shell needs its own around these."""
    from hydra_plugins.kamerton._overrides import override_value

    return path if re.fullmatch(r"(\w+://)?/?[A-Za-z_/][\w./-]*", path, re.ASCII) else override_value(path)


def path_setting(path: Path | str, split: str | None) -> str:
    """Return the setting that reads a file: `data.path`, or that of its split."""
    return setting(f"data.{split or 'path'}", str(path))


def new_name(path: Path, ending: str) -> str:
    """Return the name of a new file in the current folder, different from the old name."""
    stem = re.sub(r"[^\w.-]", "_", path.name.split(".")[0]) or "rows"
    return f"{stem}{ending}" if f"{stem}{ending}" != path.name else f"{stem}-new{ending}"
