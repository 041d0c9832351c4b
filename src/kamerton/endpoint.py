"""Where a hosted model is and how it is spoken to: the address, the key (from the environment alone), its refusals."""

from __future__ import annotations

import importlib.util
import ipaddress
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from kamerton.errors import Fault, RunFailed, UserError
from kamerton.mask import mask_text

if TYPE_CHECKING:
    from openai import OpenAI

OPENAI = "https://api.openai.com/v1"
ADDRESS, KEY = "OPENAI_BASE_URL", "OPENAI_API_KEY"
RETRIES = 5  # of the client, for what passes: no connection, 408, 409, 429, 5xx
TIMEOUT_S, UPLOAD_S = 60.0, 900.0
_PASSES = {408, 409, 425, 429}


# The options that name an endpoint, by the section they are in: what chooses it, its package, address and key.
_OPTIONS = {
    "model": ("model=openai", "hosted", "model", "model.base_url"),
    "engine": ("engine=hosted", "engine", "engine.kind", "engine.url"),
}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An OpenAI-compatible API; `key` names the environment variable that holds its key.

    `section` is that of the configuration that names it: `model` to fine-tune there, `engine` to generate alone.
    """

    url: str
    key: str
    section: Literal["model", "engine"] = "model"

    @property
    def shown(self) -> str:
        """The address as it may be written."""
        return mask_text(self.url)

    @property
    def secret(self) -> str:
        """The key; empty if there is none."""
        return (os.environ.get(self.key) or "").strip()


def find_endpoint(base_url: str | None, key: str | None) -> Endpoint:
    """The address that was typed, else that of the environment (OPENAI_BASE_URL), else OpenAI's."""
    return Endpoint((base_url or os.environ.get(ADDRESS) or OPENAI).strip().rstrip("/"), key or KEY)


def endpoint_faults(endpoint: Endpoint) -> list[Fault]:
    """What no repetition would mend: a package, an address, or a key that is not there or cannot be one."""
    choice, prefix, package, address = _OPTIONS[endpoint.section]
    faults = []
    if importlib.util.find_spec("openai") is None:
        message = f"{choice} needs the package openai, which is not installed"
        faults.append(Fault(f"{prefix}.package", message, "pip install 'kamerton[hosted]'", column=package))
    if not (sound := _is_address(endpoint.url)):
        message = f"{endpoint.shown!r} is no address"
        faults.append(Fault(f"{prefix}.url", message, "write https://HOST/v1", column=address))
    secret, key = endpoint.secret, f"{endpoint.section}.key"
    if not (secret.isascii() and secret.isprintable()):
        message = f"the environment variable {endpoint.key} holds characters that no key has"
        faults.append(Fault(f"{prefix}.key", message, "set it again", column=key))
    # Servers that only generate are often open within a network; OpenAI always requires a key.
    needs_key = endpoint.url == OPENAI if endpoint.section == "engine" else sound and not is_loopback(endpoint.url)
    if needs_key and not secret:
        message = f"the environment variable {endpoint.key} is not set: it should hold the key of {endpoint.shown}"
        faults.append(Fault(f"{prefix}.key", message, f"export {endpoint.key}=…", column=key))
    return faults


def _is_address(url: str) -> bool:
    try:
        address = urlsplit(url)
        host = (address.hostname or "").encode("idna")
        return url.isprintable() and address.scheme in ("http", "https") and bool(host) and address.port != 0
    except ValueError:
        return False


def is_loopback(url: str) -> bool:
    """Whether an address is this machine's."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_documented(url: object) -> bool:
    """Whether an address is the default one (None, that of the environment, or OpenAI's)."""
    trusted = (OPENAI, (os.environ.get(ADDRESS) or OPENAI).strip().rstrip("/"))
    return url is None or str(url).strip().rstrip("/") in trusted


def untrusted(url: str | None) -> Fault | None:
    """Return a fault for an address that only a run directory names: run directories are not trusted with the key."""
    if is_documented(url) or is_loopback(str(url)):
        return None
    message = f"the run names the endpoint {mask_text(str(url))}, and would be given your key"
    fix = f"if you trust it: export {ADDRESS}={mask_text(str(url))}"
    return Fault("hosted.trust", message, fix, column="model.base_url")


def untrusted_key(key: str | None) -> Fault | None:
    """Why the value of a variable is not sent that a run directory names, unless it is the key's own as well."""
    if key in (None, KEY) or os.environ.get(str(key)) == os.environ.get(KEY):
        return None
    message = f"the run names the environment variable {key}, whose value would be sent"
    fix = f'if that is the key of its endpoint: export {KEY}="${key}"'
    return Fault("hosted.trust", message, fix, column="model.key")


def connect(
    endpoint: Endpoint, *, retries: int = RETRIES, timeout: float = TIMEOUT_S, redirects: bool = True
) -> OpenAI:
    """Return the official client, which repeats requests that failed for the moment after growing pauses.

    The client reads an organization, a project and extra headers from the environment. They are meant for OpenAI and
    may hold secrets, so an address that was given instead of the documented one does not get them.
    """
    from openai import DefaultHttpxClient, OpenAI

    client = OpenAI(
        api_key=endpoint.secret or "none",  # a server on this machine may want none
        base_url=endpoint.url,
        max_retries=retries,
        timeout=timeout,
        http_client=DefaultHttpxClient(follow_redirects=redirects),
    )
    if not is_documented(endpoint.url):
        client.organization = client.project = None
        client._custom_headers = {}
    return client


def passes(error: Any) -> bool:
    """Whether what the client raised may be otherwise a little later."""
    status: int | None = getattr(error, "status_code", None)
    if status is None:
        return type(error).__name__ in ("APIConnectionError", "APITimeoutError")
    return (status in _PASSES or status >= 500) and bool(error.code != "insufficient_quota")


@contextmanager
def translated(endpoint: Endpoint) -> Iterator[None]:
    """What the client raises, as `UserError` with what to correct, or as `RunFailed` if it may work later."""
    from openai import APIError

    try:
        yield
    except APIError as error:
        message = f"{endpoint.shown}: {error_text(error, endpoint)}"
        if passes(error):
            fix = "repeat the command when it answers again: what was sent is not sent twice"
            raise RunFailed(Fault("hosted.unreachable", message, fix, column="model.base_url")) from None
        raise UserError([_refusal(error, message, endpoint)]) from None


def error_text(error: Any, endpoint: Endpoint) -> str:
    """The endpoint's words, without the key."""
    status = getattr(error, "status_code", None)
    body = error.body if isinstance(error.body, dict) else {}
    text = str(body.get("message") or error.message or type(error).__name__)
    if status is None and error.__cause__ is not None:  # "Connection error." alone tells little
        text = f"{text} ({type(error.__cause__).__name__}: {error.__cause__})"
    text = text.replace(endpoint.secret, "•••") if endpoint.secret else text
    return mask_text(f"{status} {text}" if status else text)[:500]


def _refusal(error: Any, message: str, endpoint: Endpoint) -> Fault:
    status = getattr(error, "status_code", None)
    if status == 401 and not endpoint.secret:  # of this machine, or it would not have been asked
        message = f"the environment variable {endpoint.key} is not set, and {message}"
        fix = f"export {endpoint.key}=… (of kamerton serve: a token of its --tokens), or serve with --no-auth"
        return Fault("hosted.key", message, fix, column="model.key")
    if status in (401, 403):
        fix = f"correct the key in the environment variable {endpoint.key}, or its project's rights"
        return Fault("hosted.key", message, fix, column="model.key")
    if error.code == "insufficient_quota":
        return Fault("hosted.quota", message, "add credit there, then repeat the command", column="model")
    if status == 404 or error.param == "model":
        fix = "name a model that the endpoint can fine-tune; model.base_url ends before /files and /fine_tuning"
        return Fault("hosted.unknown", message, fix, column="model.name")
    fix = f"correct what it names{f' ({error.param})' if error.param else ''}"
    return Fault("hosted.refused", message, fix, column="model")
