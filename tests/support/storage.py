"""Stand-ins on this machine for what data are fetched from: a web server and the Hugging Face hub."""

from __future__ import annotations

import hashlib
import json
from urllib.parse import unquote, urlsplit

from support.local_server import LocalServer, Request, Response


class WebServer(LocalServer):
    """Serves `files` by their paths, with ETags; `statuses` are the errors of other paths."""

    def __init__(self, files: dict[str, bytes], statuses: dict[str, int] | None = None, *, etags: bool = True) -> None:
        super().__init__()
        self.files, self.statuses, self.etags = files, statuses or {}, etags
        self.requests: list[tuple[str, str]] = []  # method and path

    def address(self, path: str) -> str:
        return self.url.removesuffix("/v1") + path

    def respond(self, request: Request) -> Response:
        path = urlsplit(request.path).path
        self.requests.append((request.method, path))
        if path not in self.files:
            return self.statuses.get(path, 404), {}, b""
        content = self.files[path]
        headers = {"ETag": f'"{hashlib.sha256(content).hexdigest()[:16]}"'} if self.etags else {}
        return 200, {"Content-Type": "application/octet-stream", **headers}, content


class Hub(LocalServer):
    """Speaks the hub's protocol for data sets: `files` by repository, each by its path, at one commit."""

    commit = "0123456789abcdef0123456789abcdef01234567"

    def __init__(self, files: dict[str, dict[str, bytes]], *, token: str = "") -> None:
        super().__init__()
        self.files, self.token = files, token
        self.fetched: list[str] = []

    @property
    def endpoint(self) -> str:
        return self.url.removesuffix("/v1")

    def respond(self, request: Request) -> Response:
        path = unquote(urlsplit(request.path).path)
        if self.token and request.headers.get("Authorization") != f"Bearer {self.token}":
            return 401, {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository Not Found"}, b""
        name = next((name for name in self.files if f"datasets/{name}/" in f"{path}/"), None)
        if name is None:
            return 404, {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository Not Found"}, b""
        rest = path.partition(f"datasets/{name}")[2].strip("/")
        if path.startswith("/api/"):
            return self._api(name, rest)
        _, revision, file = rest.split("/", 2)  # resolve/REVISION/FILE
        if revision != self.commit or file not in self.files[name]:
            return 404, {"X-Error-Code": "EntryNotFound"}, b""
        content = self.files[name][file]
        headers = {"X-Repo-Commit": self.commit, "ETag": f'"{_oid(content)}"', "Accept-Ranges": "bytes"}
        if request.method == "GET":
            self.fetched.append(file)
        return 200, {"Content-Type": "application/octet-stream", **headers}, content

    def _api(self, name: str, rest: str) -> Response:
        if rest.startswith("tree/"):
            entries = [
                {"type": "file", "path": path, "size": len(content), "oid": _oid(content)}
                for path, content in self.files[name].items()
            ]
            return 200, {}, entries
        if rest not in ("", "revision/main", f"revision/{self.commit}"):
            return 404, {"X-Error-Code": "RevisionNotFound", "X-Error-Message": "Revision Not Found"}, b""
        siblings = [{"rfilename": path} for path in self.files[name]]
        return 200, {}, {"id": name, "sha": self.commit, "siblings": siblings, "private": False, "tags": []}


def _oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def jsonl(*rows: dict[str, object]) -> bytes:
    """Return rows as JSON Lines."""
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)
