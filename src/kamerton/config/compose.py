"""Hydra's side of the configuration: where `conf/` is, and composing it from what was typed."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.utils import setup_globals
from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from hydra_plugins.kamerton._overrides import override  # importing it makes Hydra accept choice(null,1)
from kamerton.config.data_choice import with_data_choice
from kamerton.config.derived import fill_in
from kamerton.config.hydra_internals import (
    VERSION_BASE,
    ConfigLoaderImpl,
    Loader,
    create_config_search_path,
    own_loader,
    set_values,
    written_value,
)
from kamerton.config.origin import key_of
from kamerton.config.search import SEARCHPATH, places

ROOT = "train"


def conf_dir() -> Path:
    """Return the folder `conf/`: inside the installed package, else at the top of the checkout."""
    installed = Path(str(files("kamerton") / "conf"))
    return installed if installed.is_dir() else Path(__file__).resolve().parents[3] / "conf"


def plain(config: Any) -> dict[str, Any]:
    """Return a composed configuration as resolved plain values, without Hydra's section; see `fill_in`."""
    values = OmegaConf.to_container(config, resolve=True)
    assert isinstance(values, dict)
    return fill_in({str(key): value for key, value in values.items() if key != "hydra"})


def resolved(config: Any) -> Any:
    """Return plain values of a section; interpolations that cannot be resolved yet stay as text."""
    if not isinstance(config, DictConfig | ListConfig):
        return config
    keys = list(config) if isinstance(config, DictConfig) else range(len(config))
    values = {}
    for key in keys:
        try:
            values[key] = resolved(config[key])
        except OmegaConfBaseException:  # not available yet, such as ${hydra.job.num}, or not set
            values[key] = written_value(config, key)
    if isinstance(config, ListConfig):
        return list(values.values())
    return {str(key): value for key, value in values.items()}


def compose_config(
    overrides: Sequence[str], root: str = ROOT, loader: ConfigLoaderImpl | None = None, *, with_hydra: bool = False
) -> DictConfig:
    """Compose `conf/ROOT.yaml` with overrides that `force` returned; `with_hydra` keeps Hydra's section.

    With its `loader` a command composes files of the user once, whatever values are set.
    """
    texts = list(overrides)
    config = _with_values(texts, root, loader)
    if config is None:
        config = _composed(texts, root)
    if not with_hydra:
        with open_dict(config):
            del config["hydra"]
    return config


def _composed(overrides: Sequence[str], root: str) -> DictConfig:
    with own_loader(), initialize_config_dir(str(conf_dir()), version_base=VERSION_BASE):
        return compose(root, overrides=list(overrides), return_hydra_config=True)


def _with_values(texts: list[str], root: str, loader: ConfigLoaderImpl | None) -> DictConfig | None:
    """Set the typed values in a copy of what the chosen options compose; None if only Hydra can compose it.

    Hydra sets values last as well, so the result is the same.
    """
    hydra_loader = loader or config_loader()
    try:
        parsed = OverridesParser.create().parse_overrides(texts)
        choices = chosen(parsed, hydra_loader)
        values = [override for override in parsed if override.input_line not in choices]
        is_foreign_read = reads_foreign(choices, hydra_loader)
        if not all(map(_is_set_last, values)) or (is_foreign_read and loader is None):
            return None
        config: DictConfig = pickle.loads(
            _chosen(choices, root, hydra_loader if is_foreign_read else None, str(conf_dir()))
        )
        set_values(config, values, parsed)
        return config
    except Exception:  # Hydra reports what is wrong
        return None


@lru_cache(maxsize=64)
def _chosen(choices: tuple[str, ...], root: str, loader: ConfigLoaderImpl | None, conf: str) -> bytes:
    """Return what the chosen options compose, pickled: a deep copy takes longer.

    `loader` is that of a command which reads foreign files, None if all files are shipped.
    """
    config = _composed(choices, root)
    OmegaConf.clear_cache(config)  # of the current time
    return pickle.dumps(config)


def chosen(overrides: Sequence[Override], loader: ConfigLoaderImpl) -> tuple[str, ...]:
    """Return the overrides that decide which files are composed: options of groups, and places of files."""
    return tuple(
        str(override.input_line)
        for override in overrides
        if override.key_or_group == SEARCHPATH
        or (loader.repository.group_exists(override.key_or_group) and not isinstance(override.value(), dict))
    )


def reads_foreign(choices: Sequence[str], loader: ConfigLoaderImpl) -> bool:
    """Whether a composition may read files that are not shipped."""
    if any(key_of(text) == SEARCHPATH for text in choices):
        return True
    return any(is_foreign(source.provider, source.full_path()) for source in loader.get_sources())


def is_foreign(provider: str, path: str) -> bool:
    """Whether a source of files is neither `conf/` nor an installed package that Hydra knows as a plugin."""
    searched = provider.startswith(SEARCHPATH)
    return provider != "main" and (searched or not path.startswith(("structured://", "pkg://")))


def _is_set_last(override: Override) -> bool:
    """Whether an override sets a value that has no part in how the rest is composed."""
    key = override.key_or_group
    is_free = key.partition(".")[0] != "hydra" or key.startswith(("hydra.sweeper.", "hydra.launcher."))
    return is_free and not override.is_sweep_override()


def compose_values(overrides: Sequence[str] = (), root: str = ROOT) -> dict[str, Any]:
    """Return the plain values that `kamerton train` (or another command) composes from overrides."""
    return plain(compose_config(force(with_data_choice(overrides, config_loader(None, overrides), root)), root))


def force(overrides: Sequence[str], config_dir: str | None = None) -> list[str]:
    """Return `key=value` as `++key=value` unless the key is a group: the schema decides which keys exist, not Hydra."""
    loader = config_loader(config_dir, overrides)
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    return [forced(override, str(override.input_line), loader) for override in parsed]


def forced(override: Override, text: str, loader: ConfigLoaderImpl) -> str:
    """Return an override (or one value of its sweep) as Hydra accepts it with any files; `group=null` removes it."""
    if is_plain_value(override, loader):
        return f"++{text}"
    is_empty = text == f"{override.key_or_group}=null" and options_of(override, loader)
    return f"~{override.key_or_group}" if is_empty else text


def config_loader(config_dir: str | None = None, overrides: Sequence[str] = ()) -> ConfigLoaderImpl:
    """Return the loader of groups and files: from `conf/`, then from the user's folders."""
    setup_globals()
    own = [("command-line", place) for place in places(config_dir, ())]
    own += [(f"{SEARCHPATH} in command-line", place) for place in places(None, overrides)]
    return _loader(str(conf_dir()), own) if own else _shipped_loader(str(conf_dir()))


@lru_cache(maxsize=1)
def _shipped_loader(conf: str) -> ConfigLoaderImpl:
    """Return the loader of `conf/` alone, the same for a process, so that results kept for a loader are found."""
    return _loader(conf, [])


def _loader(conf: str, own: Sequence[tuple[str, str]]) -> ConfigLoaderImpl:
    search = create_config_search_path(conf)
    schema = search.get_path().pop()  # Hydra wants it last
    for provider, place in own:
        search.append(provider, place)
    search.append(schema.provider, schema.path)
    return Loader(search)


def unused_groups(root: str) -> set[str]:
    """Return the groups in `conf/` that the configuration of a command does not use."""
    loader = config_loader()
    result = loader.repository.load_config(root)
    chosen = {str(getattr(entry, "group", "")) for entry in (result.defaults_list if result else None) or []}
    return set(loader.list_groups("")) - chosen - {"hydra"}


def searching(config_dir: str | None, overrides: Sequence[str]) -> list[str]:
    """Return overrides with `--config-dir` as one more entry of `hydra.searchpath`."""
    if config_dir is None:
        return list(overrides)
    own = override(SEARCHPATH, places(config_dir, overrides))
    return [own, *(text for text in overrides if key_of(text) != SEARCHPATH)]


def is_plain_value(override: Override, loader: ConfigLoaderImpl) -> bool:
    """Whether an override is `key=value` and its key is not a group."""
    simple = override.is_change() if hasattr(override, "is_change") else override.type.name == "CHANGE"
    return simple and not override.key_or_group.startswith("hydra") and not options_of(override, loader)


def options_of(override: Override, loader: ConfigLoaderImpl) -> list[str]:
    """Return the options of the group that an override chooses from; none if its key is not a group."""
    return list(loader.repository.get_group_options(override.key_or_group))


def offered(group: str, loader: ConfigLoaderImpl) -> list[str]:
    """Return the options of a group to choose from: all but the one that stands for no reward."""
    return [name for name in loader.repository.get_group_options(group) if f"{group}/{name}" != "reward/default"]
