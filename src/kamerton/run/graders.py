"""Grader files among the rewards of a run: read once, when the run is opened, and kept in its directory."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from kamerton.config.rewards import grader_nodes, kept_grader
from kamerton.config.schema import mapping_at
from kamerton.files import replacing


def read_graders(values: Mapping[str, Any]) -> list[bytes]:
    """Return the contents of the grader files among the rewards of a configuration.

    There are none if a file cannot be read, which the checks of the rewards report.
    """
    contents = []
    for node in grader_nodes(mapping_at(values, "reward")).values():
        # Values of the environment are in a configuration by name.
        file = OmegaConf.create({"file": str(node["file"])})["file"]
        try:
            contents.append(Path(file).read_bytes())
        except OSError:
            return []
    return contents


def graders_fingerprint(contents: Sequence[bytes]) -> str | None:
    """Return a hash of the contents of grader files; None without any."""
    digest = hashlib.sha256(b"".join(hashlib.sha256(content).digest() for content in contents))
    return digest.hexdigest() if contents else None


def current_graders(values: Mapping[str, Any]) -> str | None:
    """Return a hash of the grader files of a configuration as they are now; None without any."""
    return graders_fingerprint(read_graders(values))


def keep_graders(run: Path, contents: Sequence[bytes]) -> None:
    """Write the contents of grader files into a run directory, from which its rewards read them."""
    for number, content in enumerate(contents):
        path = kept_grader(run, number)
        path.parent.mkdir(exist_ok=True)
        with replacing(path) as partial:
            partial.write_bytes(content)
