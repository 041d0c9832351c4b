"""Choosing `data=auto` for data files on the command line, in place of the default data set."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.types import RunMode

from kamerton.config.hydra_internals import ConfigLoaderImpl
from kamerton.config.origin import key_of

ROOT, GROUP, CHOICE = "train", "data", "data=auto"
FILES = ("path", "train", "validation", "test", "sources", "prompt_file", "completion_file")


def with_data_choice(overrides: Sequence[str], loader: ConfigLoaderImpl, root: str = ROOT) -> list[str]:
    """Return the overrides with `data=auto` if they name data files, and nothing chooses another data set.

    The default data set has its own file, format and training length, which do not fit other files.
    """
    typed = list(overrides)
    if root != ROOT or not any(map(_names_file, typed)) or any(key_of(text) == GROUP for text in typed):
        return typed
    return [CHOICE, *typed] if _is_default_chosen(typed, loader) else typed


def _names_file(text: str) -> bool:
    section, _, key = key_of(text).partition(".")
    if section != GROUP or key.partition(".")[0] not in FILES:
        return False
    try:
        return bool(OverridesParser.create().parse_override(text).value())
    except HydraException:  # reported later, without this override
        return False


def _is_default_chosen(typed: Sequence[str], loader: ConfigLoaderImpl) -> bool:
    """Return whether no chosen experiment or preset chooses a data set; of a sweep the first choices count.

    What cannot be composed is reported later.
    """
    try:
        parsed = OverridesParser.create().parse_overrides(list(typed))
        chosen = []
        for override in parsed:
            if loader.get_group_options(override.key_or_group) and not override.is_delete():
                text = next(iter(override.sweep_string_iterator())) if override.is_sweep_override() else None
                chosen.append(str(override.input_line) if text is None else f"{override.key_or_group}={text}")
        return GROUP not in _choices_of_files(tuple(chosen), loader)
    except Exception:  # Hydra raises all kinds of exceptions for what was typed
        return True


@lru_cache(maxsize=64)
def _choices_of_files(chosen: tuple[str, ...], loader: ConfigLoaderImpl) -> frozenset[str]:
    """Return the groups of which a chosen file chooses another option."""
    return frozenset(loader.compute_defaults_list(ROOT, list(chosen), RunMode.RUN).overrides.override_choices)
