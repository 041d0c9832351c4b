"""Secrets never reach a report: values of secret-looking keys, passwords in URLs, well-known token forms."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

MASK = "•••"

_WORDS = re.compile(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])")
_SECRET_WORDS = {
    *("password", "passwd", "passphrase", "pwd", "secret", "secrets", "authorization"),
    *("credential", "credentials", "apikey", "bearer", "cookie"),
}
_SECRET_PAIRS = {("api", "key"), ("access", "key"), ("private", "key"), ("signing", "key")}
_TEXT_TOKENS = {
    *("pad", "eos", "bos", "unk", "sep", "cls", "mask", "image", "special"),
    *("start", "end", "first", "last", "next", "new", "stop"),
}

# Up to a URL's password. A web address has no slash in it, a database's may: SQLAlchemy reads on to the "@".
URL_HEAD = r"\b(?:https?://[^\s/:@]*:(?=[^\s/]*@)|(?!https?:)[a-z][\w+.-]*://[^\s/:@]*:)"
_URL_PASSWORD = re.compile(rf"(?P<head>{URL_HEAD})[^\s@]+(?=@)", re.IGNORECASE)
_URL_USER = re.compile(r"(?P<head>\bhttps?://)[^\s/:@?#]+(?=@)", re.IGNORECASE)  # a token in place of user and password
_SIGNATURE = re.compile(  # of an address that is signed in place of a password
    r"(?P<head>[?&](?:x-(?:amz|goog|oss)-(?:signature|credential|security-token)|signature|sig|awsaccesskeyid|"
    r"googleaccessid|key-pair-id|policy|(?:access_?|auth_?|private_)?token|api_?key|key|auth|password)=)[^&\s#\"']+",
    re.IGNORECASE,
)
_KEY = re.compile(r"(?P<key>[\w.\-/@+~]+)[\"']?\s*[=:]\s*")
_VALUE = re.compile(r"\"[^\"]*\"|'[^']*'|(?:(?:bearer|basic|token)\s+)?[^\s,;&}\])\"']+", re.IGNORECASE)
_BEARER = re.compile(r"(?P<head>\b(?:bearer|basic)\s+)[\w.+/=~-]{8,}", re.IGNORECASE)
_KNOWN_FORMS = re.compile(r"\b(?:sk-|hf_|ghp_|gho_|github_pat_|xox[abp]-|AKIA)[\w-]{8,}")


def masked(value: Any, key: str = "", *, prose: bool = False) -> Any:
    """`value` (plain JSON or YAML values) with every secret replaced; `key` is its name.

    A configuration is masked strictly. In `prose` (records, events, overrides) numbers stay, because keys may
    be labels and their values counts, and texts are searched for `key=value` as well.
    """
    if isinstance(value, dict):
        return {name: masked(item, str(name), prose=prose) for name, item in value.items()}
    if isinstance(value, list):
        return [masked(item, key, prose=prose) for item in value]
    kept = value is None or isinstance(value, bool) or value == "" or (prose and not isinstance(value, str))
    kept = kept or (isinstance(value, str) and value.startswith("${oc.env:"))  # the name of a secret, not the secret
    if is_secret(key) and not kept:
        return MASK
    if not isinstance(value, str):
        return value
    return mask_text(value) if prose else _mask_forms(value)


def is_secret(key: str) -> bool:
    """Whether a key names a secret: `api_key`, `hub.token`, `dbPassword`; not `max_tokens`, `pad_token`."""
    words = [word.lower() for word in _WORDS.findall(key)]
    if _SECRET_WORDS & set(words) or _SECRET_PAIRS & set(pairwise(words)):
        return True
    return words[-1:] == ["token"] and not _TEXT_TOKENS & set(words[:-1])


def mask_text(text: str) -> str:
    """A sentence, URL or `key=value` override with the secrets in it replaced."""
    text = _mask_forms(text)
    pieces, done = [], 0
    for key in _KEY.finditer(text):
        value = _VALUE.match(text, key.end())
        if value and key.start() >= done and is_secret(key["key"]):
            pieces += [text[done : key.end()], MASK]
            done = value.end()
    return "".join([*pieces, text[done:]])


def _mask_forms(text: str) -> str:
    """Secrets that are recognised by their form."""
    text = _URL_PASSWORD.sub(rf"\g<head>{MASK}", text)
    text = _URL_USER.sub(rf"\g<head>{MASK}", text)
    text = _SIGNATURE.sub(rf"\g<head>{MASK}", text)
    text = _BEARER.sub(rf"\g<head>{MASK}", text)
    return _KNOWN_FORMS.sub(MASK, text)
