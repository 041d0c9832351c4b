"""The flags of a command: Hydra's, less those that would bypass the checks."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from functools import partial
from typing import NoReturn

from kamerton.config.hydra_internals import get_args_parser
from kamerton.errors import Fault, UserError

_UNKNOWN = re.compile(r"unrecognized arguments: --([A-Za-z][\w.-]*)(?:=(\S+))?")
_NUMBER = re.compile(r"argument --(show): (?:expected one argument|invalid)")
_FILES = ("data", "dataset", "file", "path", "input")


def parse_flags(arguments: Sequence[str], command: str) -> argparse.Namespace:
    """Return Hydra's flags and the overrides. Raises `UserError` for flags that cannot be used."""
    parser = get_args_parser()
    reject = partial(reject_flag, command=command)
    parser.error = reject  # type: ignore[method-assign]
    flags = parser.parse_intermixed_args(list(arguments))
    for name in ("config_path", "config_name", "experimental_rerun"):
        if getattr(flags, name) is not None:
            reject(f"--{name.replace('_', '-')} is not supported: --config-dir DIR adds your own groups and files")
    modes = ("run", "multirun", "shell_completion", "cfg", "info")
    typed_modes = [f"--{mode.replace('_', '-')}" for mode in modes if getattr(flags, mode)]
    if len(typed_modes) > 1 and not flags.help:
        reject(f"{typed_modes[0]} and {typed_modes[1]} exclude each other")
    if flags.resolve and not (flags.cfg or flags.help):
        reject("--resolve needs --cfg job")
    return flags


def only_shows(flags: argparse.Namespace) -> bool:
    """Whether Hydra prints something for these flags and no job runs."""
    return bool(flags.help or flags.hydra_help or flags.info or flags.shell_completion or flags.cfg)


def reject_flag(message: str, command: str = "train") -> NoReturn:
    """Raise argparse's message about a flag as a `UserError`; a setting with dashes is answered with the setting."""
    fix = f"see kamerton {command} --help"
    if match := _UNKNOWN.search(message):
        name = match[1].replace("-", "_")
        key = "data.path" if name in _FILES else name
        fix = f"settings have no dashes: {key}={match[2] or ('FILE' if name in _FILES else 'VALUE')}; {fix}"
    elif match := _NUMBER.search(message):
        fix = f"give a number, such as --{match[1]} 3; {fix}"
    raise UserError([Fault("config.flag", message, fix, file="command line")])


def non_negative(text: str) -> int:
    """Return the value of a flag that is a number from 0; argparse reports the `ValueError` of any other."""
    if not text.isdecimal():
        raise ValueError(text)
    return int(text)
