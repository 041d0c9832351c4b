"""The environment of a run for `run.json`: versions, git commit, machine."""

from __future__ import annotations

import os
import platform
import subprocess
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from kamerton.cores import usable_cores, waiting

# A repository's configuration can name commands, and the working directory may be a downloaded repository.
_GIT = ("git", "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null")
_NO_HELPERS = {"GIT_OPTIONAL_LOCKS": "0", "GIT_NO_LAZY_FETCH": "1", "GIT_ALLOW_PROTOCOL": "none"}
_STATUS = ("status", "--porcelain", "--untracked-files=no", "--ignore-submodules=all")
_PACKAGES = ("kamerton", "torch", "transformers", "pytorch-lightning", "peft", "hydra-core", "torchmetrics")


def environment() -> dict[str, Any]:
    """Return `versions`, `git` (None outside a repository), `machine` and the working directory `cwd`."""
    import torch

    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        with suppress(PackageNotFoundError):
            versions[package] = version(package)
    machine = {
        "system": platform.system(),
        "cores": usable_cores(),
        "threads": torch.get_num_threads(),
        "waiting": waiting(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }
    return {"versions": versions, "git": _git(), "machine": machine, "cwd": os.getcwd()}


def _git() -> dict[str, Any] | None:
    commit = _run(*_GIT, "rev-parse", "HEAD")
    if commit is None:
        return None
    filters = _run(*_GIT, "config", "--show-scope", "--name-only", "--get-regexp", r"^filter\.") or ""
    scopes = [line.split(None, 1) for line in filters.splitlines()]
    local = [name for scope, name in scopes if scope not in ("system", "global")]
    empty = [word for name in local for word in ("-c", f"{name}=")]  # disables the filter
    return {"commit": commit, "dirty": bool(_run(*_GIT, *empty, *_STATUS))}


def _run(*command: str) -> str | None:
    try:
        environment = {**os.environ, **_NO_HELPERS}
        process = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False, env=environment)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return process.stdout.strip() if process.returncode == 0 else None
