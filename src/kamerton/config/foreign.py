"""Settings of files that are not Kamerton's: an experiment, a sweep or an option in a folder of the user."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, QuotedString
from hydra.types import RunMode
from omegaconf import OmegaConf

from kamerton.config.compose import chosen, is_foreign, options_of, reads_foreign
from kamerton.config.hydra_internals import ConfigLoaderImpl, searched_repository, split_key

Path = tuple[str, ...]
_PART = re.compile(r"[^\s.\[\]{}$:@]+")


@dataclass(frozen=True, slots=True)
class Setting:
    """A value as it is written in `file`, with its interpolations; `path` has the parts of its key."""

    path: Path
    value: Any
    file: str

    @property
    def key(self) -> str:
        """The key as it is typed."""
        return ".".join(self.path)


def foreign_settings(overrides: Sequence[str], loader: ConfigLoaderImpl, root: str) -> list[Setting]:
    """Return every value that foreign files of a composition set, under whatever package."""
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    choices = chosen(parsed, loader)
    return list(_foreign(choices, loader, root)) if reads_foreign(choices, loader) else []


@lru_cache(maxsize=64)
def _foreign(choices: tuple[str, ...], loader: ConfigLoaderImpl, root: str) -> tuple[Setting, ...]:
    repository = searched_repository(loader, root, list(choices))
    settings: list[Setting] = []
    for default in loader.compute_defaults_list(root, list(choices), RunMode.RUN).defaults:
        result = repository.load_config(default.config_path) if default.config_path else None
        if result is not None and is_foreign(result.provider, result.path):
            package = _parts(default.package) if default.package else ()
            content = OmegaConf.to_container(result.config)
            file = f"{default.config_path}.yaml"
            settings += [Setting(path, value, file) for path, value in leaves(content, package)]
    return tuple(settings)


def _parts(key: str) -> Path:
    """The parts of a key or package, which OmegaConf also takes with brackets: `hydra[job]` is `hydra.job`.

    Anything else is treated as a part of `hydra`, and so refused.
    """
    parts = tuple(part for part in split_key(key) if part != "_global_")
    return parts if all(map(_PART.fullmatch, parts)) else ("hydra", key)


def typed_paths(overrides: Iterable[Override], loader: ConfigLoaderImpl) -> set[Path]:
    """Return the keys whose values overrides set; a list is one value, and choosing an option sets none."""
    paths: set[Path] = set()
    for override in overrides:
        value = None if override.is_sweep_override() else override.value()
        if override.is_delete() or (not isinstance(value, Mapping) and options_of(override, loader)):
            continue
        paths.update(path for path, _ in leaves(_plain(value), _parts(override.key_or_group), into=Mapping))
    return paths


def override_settings(overrides: Iterable[Override], loader: ConfigLoaderImpl, file: str) -> list[Setting]:
    """Return what overrides set that nobody typed, as settings of `file`."""
    return [
        Setting(path, value, file)
        for override in overrides
        if not override.is_delete() and (isinstance(override.value(), Mapping) or not options_of(override, loader))
        for path, value in leaves(_plain(override.value()), _parts(override.key_or_group))
    ]


def _plain(value: Any) -> Any:
    """Return an override's value with plain strings for Hydra's quoted ones."""
    if isinstance(value, dict):
        return {str(_plain(name)): _plain(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return value.text if isinstance(value, QuotedString) else value


def leaves(value: Any, path: Path = (), into: Any = (Mapping, list)) -> Iterator[tuple[Path, Any]]:
    """Yield every value with the parts of its key; an empty list or mapping is a value itself."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from leaves(inner, (*path, str(name)), into)
    elif isinstance(value, list) and value and isinstance(value, into):
        for index, inner in enumerate(value):
            yield from leaves(inner, (*path, str(index)), into)
    else:
        yield path, value
