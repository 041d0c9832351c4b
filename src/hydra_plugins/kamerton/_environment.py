"""Unresolved environment variables of a configuration: files and command lines never contain their values."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from omegaconf import OmegaConf
from omegaconf.resolvers import oc

from hydra_plugins.kamerton._overrides import override_value

_NO_DEFAULT = object()


@contextmanager
def environment_by_name(*, defaults: bool = False) -> Iterator[None]:
    """Inside, `${oc.env:NAME}` resolves to that very text, with its default if `defaults` is set."""

    def name(key: str, default: object = _NO_DEFAULT) -> str:
        shown = f",{override_value(default)}" if defaults and default is not _NO_DEFAULT else ""
        return f"${{oc.env:{key}{shown}}}"

    OmegaConf.register_new_resolver("oc.env", name, replace=True)
    try:
        yield
    finally:
        OmegaConf.register_new_resolver("oc.env", oc.env, replace=True)
