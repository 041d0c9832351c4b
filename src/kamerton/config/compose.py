"""Hydra's side of the configuration: where `conf/` is, and checking what was typed before Hydra runs.

Hydra alone reports one fault at a time, and merges an unknown key of an experiment file silently. So what was typed
is composed once with every value override forced in, checked against the schema, and every fault is given the file
that it comes from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override, RangeSweep
from hydra.core.utils import setup_globals
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from kamerton.config.check import check_values
from kamerton.errors import Fault
from kamerton.words import did_you_mean

VERSION_BASE = "1.3"
ROOT = "train"


def conf_dir() -> Path:
    """`conf/`: inside the installed package, else at the top of the checkout."""
    installed = Path(str(files("kamerton") / "conf"))
    return installed if installed.is_dir() else Path(__file__).resolve().parents[3] / "conf"


def plain(config: Any) -> dict[str, Any]:
    """A composed configuration as resolved plain values, without Hydra's own section."""
    values = OmegaConf.to_container(config, resolve=True)
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items() if key != "hydra"}


def compose_values(overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The plain values behind a list of overrides, as `kamerton train` would compose them."""
    with initialize_config_dir(str(conf_dir()), version_base=VERSION_BASE):
        return plain(compose(ROOT, overrides=force(overrides)))


def force(overrides: Sequence[str]) -> list[str]:
    """`key=value` as `++key=value` where the key is no group: the schema, not Hydra, says which keys exist."""
    loader = _loader()
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    return [f"++{one.input_line}" if _is_plain_value(one, loader) else str(one.input_line) for one in parsed]


def check_overrides(
    overrides: Sequence[str],
    config_dir: str | None = None,
    deeper: Callable[[dict[str, Any]], list[Fault]] | None = None,
) -> list[Fault]:
    """Every fault of what was typed (and of the files it selects), each with its origin.

    `deeper` finds more in the composed values, such as faults of the data they name. Of a sweep every value is
    checked, each together with the first values of the others.
    """
    try:
        parsed = OverridesParser.create().parse_overrides(list(overrides))
    except HydraException as error:
        reason = str(error).splitlines()[0]
        return [
            Fault(
                "config.syntax",
                reason,
                "write key=value, quoting values with special characters",
                file="command line",
            )
        ]
    loader = _loader(config_dir)
    faults = [fault for one in parsed for fault in _check_group(one, loader)]
    good = [one for one in parsed if not _check_group(one, loader)]
    for selection in _alternatives(good):
        found = _check_selection(_forced(selection, loader), loader, config_dir, deeper)
        faults += [fault for fault in found if fault not in faults]
    return faults


def _check_selection(
    overrides: list[str],
    loader: ConfigLoaderImpl,
    config_dir: str | None,
    deeper: Callable[[dict[str, Any]], list[Fault]] | None,
) -> list[Fault]:
    search = [f"hydra.searchpath=[file://{Path(config_dir).absolute()}]"] if config_dir else []
    try:
        with initialize_config_dir(str(conf_dir()), version_base=VERSION_BASE):
            values = plain(compose(ROOT, overrides=[*search, *overrides]))
    except (HydraException, OmegaConfBaseException) as error:
        reason = " ".join(str(error).split())
        return [Fault("config.compose", reason, "correct the override or the file it names", file="command line")]
    faults = [*check_values(values), *(deeper(values) if deeper else [])]
    return [_with_origin(fault, overrides, loader) for fault in faults]


def _loader(config_dir: str | None = None) -> ConfigLoaderImpl:
    setup_globals()
    search = create_config_search_path(str(conf_dir()))
    if config_dir:
        search.append("command-line", f"file://{Path(config_dir).absolute()}")
    return ConfigLoaderImpl(search)


def _is_plain_value(override: Override, loader: ConfigLoaderImpl) -> bool:
    simple = override.is_change() if hasattr(override, "is_change") else override.type.name == "CHANGE"
    return simple and not override.key_or_group.startswith("hydra") and not _options(override, loader)


def _options(override: Override, loader: ConfigLoaderImpl) -> list[str]:
    return list(loader.get_group_options(override.key_or_group))


def _check_group(override: Override, loader: ConfigLoaderImpl) -> list[Fault]:
    """A chosen option that the group does not have."""
    options = _options(override, loader)
    if not options or override.is_delete() or override.key_or_group.startswith("hydra"):
        return []
    chosen = [text.partition("=")[2] for text in _texts(override)]
    wrong = [name for name in chosen if name not in (*options, "null") and not name.startswith(("[", "{"))]
    key = override.key_or_group
    return [
        Fault(
            "config.option",
            f"{key} has no option {name!r}",
            did_you_mean(name, options),
            file="command line",
            column=key,
        )
        for name in wrong
    ]


def _texts(override: Override) -> list[str]:
    """An override as typed, one text for each value of a sweep."""
    value = override.value()
    if override.is_sweep_override() and isinstance(value, ChoiceSweep | RangeSweep):
        prefix = override.input_line.partition("=")[0] if override.input_line else override.key_or_group
        return [f"{prefix}={text}" for text in override.sweep_string_iterator()]
    return [str(override.input_line)]


def _alternatives(overrides: Sequence[Override]) -> Iterator[list[tuple[Override, str]]]:
    """The first value of every sweep, then each further value alone: a sum, not the product."""
    first = [(one, _texts(one)[0]) for one in overrides if _texts(one)]
    yield first
    for index, (one, _) in enumerate(first):
        for text in _texts(one)[1:]:
            yield [*first[:index], (one, text), *first[index + 1 :]]


def _forced(selection: list[tuple[Override, str]], loader: ConfigLoaderImpl) -> list[str]:
    return [f"++{text}" if _is_plain_value(one, loader) else text for one, text in selection]


def _with_origin(fault: Fault, overrides: list[str], loader: ConfigLoaderImpl) -> Fault:
    if fault.file is not None or fault.column is None:
        return fault
    typed = [text.lstrip("+").partition("=")[0] for text in overrides]
    if any(fault.column == key or fault.column.startswith(f"{key}.") for key in typed):
        origin = "command line"
    else:
        origin = next(_files_with(fault.column, overrides, loader), None) or "command line"
    return Fault(fault.code, fault.message, fault.fix, origin, fault.row, fault.column, fault.severity)


def _files_with(key: str, overrides: list[str], loader: ConfigLoaderImpl) -> Iterator[str]:
    """Configuration files that set `key`, the one that wins first."""
    parsed = OverridesParser.create().parse_overrides(overrides)
    chosen = loader.compute_defaults_list(ROOT, [str(one.input_line) for one in parsed], RunMode.RUN)
    for default in reversed(chosen.defaults):
        if default.config_path is None or default.config_path.startswith("hydra"):
            continue
        result = loader.repository.load_config(default.config_path)
        if result is not None and _holds(OmegaConf.to_container(result.config), default.package or "", key):
            yield f"{default.config_path}.yaml"


def _holds(content: Any, package: str, key: str) -> bool:
    prefix = f"{package}." if package else ""
    if not key.startswith(prefix):
        return False
    for part in key[len(prefix) :].split("."):
        if not isinstance(content, Mapping) or part not in content:
            return False
        content = content[part]
    return True
