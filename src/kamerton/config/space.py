"""The search space of a sweep as overrides to be checked: every choice, and both ends of every interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override

from kamerton.config.sections import mapping_at
from kamerton.errors import Fault


def search_space(
    hydra: Mapping[str, Any], typed: Sequence[str], loader: ConfigLoaderImpl
) -> tuple[list[list[Override]], list[Fault]]:
    """For each key that is searched over the overrides to try, and the faults of how the space is written.

    The space is `hydra.sweeper.params`, with what was `typed` over it.
    """
    from hydra_plugins.kamerton._space import SweepError, parse_space

    params = mapping_at(mapping_at(hydra, "sweeper"), "params")
    try:
        space = parse_space(params, typed, loader)
    except SweepError as error:
        fix = "write choice(…), range(…), interval(…) or tag(log, interval(…)) (docs/how-to/sweeps.md)"
        lines = [line.strip() for line in str(error).splitlines()[1:]] or [str(error)]
        return [], [Fault("config.sweep", line, fix, column="hydra.sweeper.params") for line in lines]
    parser = OverridesParser.create()
    return [
        parser.parse_overrides([one.override(value) for value in one.samples()]) for one in space.dimensions.values()
    ], []
