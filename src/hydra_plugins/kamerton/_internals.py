"""Every private part of Hydra and OmegaConf that the plugins use: the file to check against a new version of either."""

from __future__ import annotations

from hydra._internal.grammar import grammar_functions
from hydra._internal.utils import get_args_parser
from omegaconf._utils import get_omega_conf_dumper

__all__ = ["get_args_parser", "get_omega_conf_dumper", "grammar_functions"]
