"""Files of fsspec's file systems, listed, and fetched into the cache by their version."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any
from urllib.parse import unquote, urlsplit

from kamerton.assets import cache_dir
from kamerton.data.read.locations.addresses import Listing, Remote, open_filesystem, protocol_of
from kamerton.endpoint import is_loopback
from kamerton.errors import Fault, UserError
from kamerton.files import replacing
from kamerton.locks import exclusive
from kamerton.mask import mask_text
from kamerton.output import echo

BLOCK = 4 * 2**20
REPORT_EVERY = 256 * 2**20  # bytes between two lines of progress
MOST_FILES = 10_000
WAIT_S = 3600.0  # for another process that fetches the same file
_VERSIONS = ("ETag", "etag", "generation", "md5Hash", "Content-MD5", "Last-Modified", "LastModified", "created")


def list_address(address: str) -> Listing:
    """Return the files at an address of any protocol but `hf`."""
    protocol = protocol_of(address)
    filesystem = open_filesystem(address)
    path = filesystem._strip_protocol(address)
    if protocol in ("http", "https"):
        info = filesystem.info(path)
        _check_redirect(address, str(info.get("url") or address))
        name = PurePosixPath(unquote(urlsplit(path).path)).name
        return Listing([_remote(filesystem, address, path, name, info)])
    if any(character in path for character in "*?["):
        matches = filesystem.glob(path, detail=True)
        return Listing(_remotes(filesystem, protocol, matches.values(), str(PurePosixPath(path).parent)))
    info = filesystem.info(path)
    if info["type"] != "directory":
        return Listing([_remote(filesystem, address, path, PurePosixPath(path).name, info)])
    return Listing(_remotes(filesystem, protocol, filesystem.find(path, detail=True).values(), path), is_folder=True)


def _remotes(filesystem: Any, protocol: str, infos: Iterable[dict[str, Any]], folder: str) -> list[Remote]:
    """Return the files among what was listed, in a stable order."""
    files = {info["name"]: info for info in infos if info["type"] == "file" and not info["name"].endswith("/")}
    return [
        _remote(filesystem, f"{protocol}://{path.lstrip('/')}", path, _below(path, folder), files[path])
        for path in sorted(files)
    ]


def _below(path: str, folder: str) -> str:
    return path.removeprefix(folder.rstrip("/") + "/")


def _remote(filesystem: Any, address: str, path: str, name: str, info: dict[str, Any]) -> Remote:
    version = next((str(info[key]).strip('"') for key in _VERSIONS if info.get(key)), "")
    shown, size = mask_text(address), info.get("size")

    def fetch() -> Path:
        return download(filesystem, path, Remote(shown, name, version, size, Path))

    return Remote(shown, name, version, size, fetch)


def _check_redirect(address: str, final: str) -> None:
    """Refuse an https address that leads to http."""
    if protocol_of(address) == "https" and protocol_of(final) == "http" and not is_loopback(final):
        message = f"the address leads to {mask_text(final)}, which is not encrypted"
        raise UserError([Fault("unreachable", message, "fetch the file yourself", mask_text(address))])


def download(filesystem: Any, path: str, remote: Remote) -> Path:
    """Return the local copy of a file, fetched unless this version is in the cache already.

    A file without a version is fetched each time. Partial files are never used.
    """
    key = hashlib.sha256("\n".join([remote.address, remote.version, str(remote.size)]).encode()).hexdigest()[:24]
    target = cache_dir() / "remote" / key / _file_name(remote.name)
    target.parent.mkdir(parents=True, exist_ok=True)
    with _waiting(target):
        if not (remote.version and target.exists()):
            with replacing(target) as partial, partial.open("wb") as sink:
                _copy(filesystem, path, sink, remote)
    return target


@contextmanager
def _waiting(target: Path) -> Iterator[None]:
    """Let one process fetch a file at a time."""

    def refuse(reason: str) -> None:
        raise UserError([Fault("unreachable", reason, "end that process, then repeat the command", str(target))])

    with exclusive(target.parent / ".lock", refuse, WAIT_S):
        yield


def _copy(filesystem: Any, path: str, sink: IO[bytes], remote: Remote) -> None:
    """Copy a file block by block, and report the progress of long ones."""
    total = "" if remote.size is None else f" ({_amount(remote.size)})"
    echo(f"fetching {remote.address}{total}", err=True)
    done, reported = 0, 0
    with _opened(filesystem, path, remote) as source:
        while block := source.read(BLOCK):
            sink.write(block)
            done += len(block)
            if done - reported >= REPORT_EVERY:
                reported = done
                echo(f"fetched {_amount(done)} of {remote.address}{total}", err=True)
    if remote.size is not None and done != remote.size:
        message = f"the file has {done} bytes, and its server announced {remote.size}: it changed, or was cut off"
        raise UserError([Fault("file-changed", message, "repeat the command", remote.address)])


def _opened(filesystem: Any, path: str, remote: Remote) -> Any:
    if protocol_of(remote.address) in ("http", "https"):  # one request, without the ranges that some servers lack
        return filesystem.open(path, "rb", block_size=0, size=remote.size)
    return filesystem.open(path, "rb", block_size=BLOCK, cache_type="readahead")


def _amount(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.1f} kB"


def _file_name(name: str) -> str:
    """Return the last part of a name as a safe file name with the same endings."""
    safe = re.sub(r"[^\w.+-]", "_", PurePosixPath(name).name)[-120:].lstrip(".")
    return safe or "data"
