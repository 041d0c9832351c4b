"""Addresses of data (`s3://`, `gs://`, `hf://`, `https://`): what they name, and why they cannot be fetched.

Credentials come from the environment alone, as the package of each protocol reads them.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kamerton.endpoint import is_loopback
from kamerton.errors import Cancelled, Fault, Interrupted, RunFailed, UserError
from kamerton.mask import MASK, mask_text

CONNECT_S, READ_S = 10, 60
PROTOCOLS = ("s3", "s3a", "gs", "gcs", "hf", "https", "http", "memory")
_ADDRESS = re.compile(r"(?P<protocol>[a-z][a-z0-9+.-]+)://", re.IGNORECASE)
_PACKAGES = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs"}
_CREDENTIALS = {
    "s3": "export AWS_ACCESS_KEY_ID=… AWS_SECRET_ACCESS_KEY=…; for a public bucket: export FSSPEC_S3_ANON=true",
    "gs": "export GOOGLE_APPLICATION_CREDENTIALS=FILE; for a public bucket: export FSSPEC_GS_TOKEN=anon",
    "hf": "export HF_TOKEN=…, of an account that may read it",
}
_NO_CREDENTIALS = {"NoCredentialsError", "PartialCredentialsError", "NoAuthTokenError", "LocalTokenNotFoundError"}
_NO_CONNECTION = {
    *("ClientConnectorError", "ClientConnectorDNSError", "ServerDisconnectedError", "ServerTimeoutError"),
    *("EndpointConnectionError", "ConnectTimeoutError", "ReadTimeoutError", "ConnectionClosedError"),
    *("ConnectError", "ConnectTimeout", "ReadTimeout", "ReadError", "RemoteProtocolError", "OfflineModeIsEnabled"),
}


_DISK = (errno.EACCES, errno.EPERM, errno.ENOSPC, errno.EROFS, errno.EDQUOT)


@dataclass(frozen=True, slots=True)
class Remote:
    """A file elsewhere; `name` is its path below the folder that was listed, `address` is written without secrets.

    `version` changes with its content: an ETag, a commit; empty if the server names none.
    """

    address: str
    name: str
    version: str
    size: int | None
    fetch: Callable[[], Path]


@dataclass(frozen=True, slots=True)
class Listing:
    """What an address names: a file, the files that match a pattern, or (`is_folder`) those of a folder."""

    files: list[Remote]
    is_folder: bool = False


def protocol_of(text: str) -> str:
    """Return the protocol of an address; empty for a path."""
    match = _ADDRESS.match(text)
    return match["protocol"].lower() if match else ""


def is_elsewhere(text: str) -> bool:
    """Return whether a text is an address rather than a path or a member of a wheel."""
    return protocol_of(text) not in ("", "file", "pypi")


def check_address(address: str, key: str) -> list[Fault]:
    """Return the faults of an address that can be found without connecting."""
    protocol, shown = protocol_of(address), mask_text(address)
    if protocol not in PROTOCOLS:
        fix = f"give a file, or an address that begins with {', '.join(f'{name}://' for name in PROTOCOLS[:-1])}"
        return [Fault("bad-value", f"unsupported protocol {protocol}://", fix, shown, column=key)]
    if MASK in address:
        message = "the address holds a secret, which is not stored"
        return [Fault("bad-value", message, f"give the address again: {key}=ADDRESS", shown, column=key)]
    if protocol == "http" and not is_loopback(address):
        message = "data fetched over http may be read and changed on the way"
        fix = "use https://, or put the file on this machine"
        return [Fault("insecure-address", message, fix, shown, column=key, severity="warning")]
    return []


def open_filesystem(address: str) -> Any:
    """Return the fsspec file system of an address, which gives up within seconds and caches no listings."""
    import fsspec

    protocol = protocol_of(address)
    options: dict[str, Any] = {"skip_instance_cache": True}
    if protocol in ("s3", "s3a"):
        limits = {"connect_timeout": CONNECT_S, "read_timeout": READ_S, "retries": {"max_attempts": 1}}
        options |= {"config_kwargs": limits, "use_listings_cache": False}
    elif protocol in ("http", "https"):
        import aiohttp

        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=READ_S)
        options |= {"client_kwargs": {"timeout": timeout, "trust_env": not is_loopback(address)}}
        # Sizes are those of the file, and signed queries are sent as they are.
        options |= {"headers": {"Accept-Encoding": "identity"}, "encoded": "%" in address}
    filesystem = fsspec.filesystem(protocol, **options)
    if protocol in ("s3", "s3a"):
        filesystem.retries = 1
    return filesystem


@contextmanager
def translated(address: str, key: str) -> Iterator[None]:
    """Raise what a package raises as `UserError` with one fault."""
    try:
        yield
    except (UserError, RunFailed, Cancelled, Interrupted):
        raise
    except Exception as error:  # each package has its own kinds
        raise UserError([_fault(error, mask_text(address), key)]) from None


def _fault(error: BaseException, shown: str, key: str) -> Fault:
    if isinstance(error, OSError) and error.errno in _DISK and error.filename:
        message = f"the local copy cannot be written: {error.strerror}: {error.filename}"
        return Fault("no-permission", message, "choose another folder: export KAMERTON_CACHE=DIR", shown, column=key)
    chain = list(_chain(error))
    names = {type(item).__name__ for item in chain}
    status = next((code for item in chain if (code := _status(item))), None)
    protocol = protocol_of(shown)
    if any(isinstance(item, ImportError) for item in chain):
        package = _PACKAGES.get(protocol, "fsspec[http]")
        message = f"{protocol}:// needs the package {package}"
        return Fault("missing-package", message, "pip install 'kamerton[cloud]'", shown, column=key)
    if status in (401, 403) or names & _NO_CREDENTIALS or isinstance(error, PermissionError):
        message = "there are no credentials for this address" if names & _NO_CREDENTIALS else "access is denied"
        message = "this data set does not exist, or needs a token" if (protocol, status) == ("hf", 401) else message
        protocol = {"s3a": "s3", "gcs": "gs"}.get(protocol, protocol)
        fix = _CREDENTIALS.get(protocol, "use an address that needs no login, or a signed one")
        return Fault("no-permission", message, fix, shown, column=key)
    is_disconnected = names & _NO_CONNECTION or any(isinstance(item, ConnectionError | TimeoutError) for item in chain)
    if status == 404 or (isinstance(error, FileNotFoundError) and status is None and not is_disconnected):
        return Fault("missing-file", "there is no such file or folder", f"correct {key}", shown, column=key)
    reason = mask_text(str(chain[-1])).splitlines()[:1] or [type(chain[-1]).__name__]
    if is_disconnected:
        message = f"the host does not answer: {reason[0][:200]}"
        fix = "check the address, the network and its proxy (HTTPS_PROXY), then repeat the command"
        return Fault("unreachable", message, fix, shown, column=key)
    answer = f"status {status}" if status else f"{type(chain[-1]).__name__}: {reason[0][:200]}"
    message = f"the address cannot be fetched: {answer}"
    return Fault("unreachable", message, "repeat the command later, or fetch the file yourself", shown, column=key)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an exception and those that caused it, the first cause last."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _status(error: BaseException) -> int | None:
    """Return the HTTP status that an exception of aiohttp, botocore, gcsfs or the hub carries."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        code = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    else:
        code = getattr(response, "status_code", None) or getattr(error, "status", None) or getattr(error, "code", None)
    return int(code) if str(code).isdecimal() else None
