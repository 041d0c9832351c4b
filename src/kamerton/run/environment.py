"""What a run ran on: versions, git commit, machine. For `run.json`."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from typing import Any

# A repository's own configuration can name commands, and a folder with data may hold one that was downloaded.
_GIT = ("git", "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null")
_NO_HELPERS = {"GIT_OPTIONAL_LOCKS": "0", "GIT_NO_LAZY_FETCH": "1", "GIT_ALLOW_PROTOCOL": "none"}
_STATUS = ("status", "--porcelain", "--untracked-files=no", "--ignore-submodules=all")
_PACKAGES = ("kamerton", "torch", "transformers", "pytorch-lightning", "peft", "hydra-core", "torchmetrics")


def environment() -> dict[str, Any]:
    """`versions`, `git` (of the working directory; None outside a repository), `machine`, and the working directory."""
    return {"versions": _versions(), "git": _git(), "machine": _machine(), "cwd": os.getcwd()}


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _git() -> dict[str, Any] | None:
    commit = _run(*_GIT, "rev-parse", "HEAD")
    if commit is None:
        return None
    known = _run(*_GIT, "config", "--show-scope", "--name-only", "--get-regexp", r"^filter\.") or ""
    scopes = [line.split(None, 1) for line in known.splitlines()]
    own = [name for scope, name in scopes if scope not in ("system", "global")]
    empty = [word for name in own for word in ("-c", f"{name}=")]  # a filter without a command changes nothing
    return {"commit": commit, "dirty": bool(_run(*_GIT, *empty, *_STATUS))}


def _machine() -> dict[str, Any]:
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "system": platform.system(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": gpu,
    }


def _run(*command: str) -> str | None:
    try:
        environment = {**os.environ, **_NO_HELPERS}
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False, env=environment)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
