"""What is refused before anything of a request is read, and that every refusal has one shape."""

from __future__ import annotations

import socket
from pathlib import Path

import httpx
import openai
import pytest

from kamerton.server import guard
from support.serving import Served, error, serving


def test_only_the_health_check_needs_no_token(served: Served) -> None:
    with served.http(None) as client:
        assert client.get("/health").json() == {"status": "ok"}
        for path in ("/v1/files", "/v1/fine_tuning/jobs", "/v1/models", "/v1/nothing", "/"):
            assert client.get(path).status_code == 401
        assert client.post("/v1/files", content=b"x" * 100).status_code == 401
    with pytest.raises(openai.AuthenticationError, match="Incorrect API key"):
        served.client("nobody").models.list()


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/nothing", 404),
        ("GET", "/v1/files/", 404),
        ("GET", "//v1/files", 404),
        ("PUT", "/v1/files", 405),
        ("OPTIONS", "/v1/files", 405),
        ("DELETE", "/v1/fine_tuning/jobs", 405),
    ],
)
def test_errors_of_unknown_resources_have_one_format(served: Served, method: str, path: str, status: int) -> None:
    with served.http(Origin="http://elsewhere.example") as client:
        response = client.request(method, f"{served.url}{path}")
    assert response.status_code == status
    assert error(response)["type"] == "invalid_request_error"
    assert len(response.headers["x-request-id"]) == 32
    assert "access-control-allow-origin" not in response.headers
    assert "server" not in response.headers


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{", "invalid_json"),
        (b"[" * 100_000, "invalid_request"),
        (b"1" * 100_000, "invalid_request"),
        (b"\xff", "invalid_request"),
        (b"null", "invalid_type"),
        (b"", "missing_required_parameter"),
        (b'{"model": "\\ud800", "training_file": "x"}', "invalid_value"),
    ],
)
def test_invalid_json_is_a_bad_request(served: Served, body: bytes, code: str) -> None:
    with served.http() as client:
        response = client.post("/v1/fine_tuning/jobs", content=body, headers={"Content-Type": "application/json"})
        other = client.post("/v1/fine_tuning/jobs", content=b"{}", headers={"Content-Type": "text/plain"})
    assert response.status_code == 400
    assert error(response)["code"] == code
    assert error(other)["type"] == "invalid_request_error"


def test_a_server_without_tokens_answers_no_web_page(tmp_path: Path) -> None:
    with serving(tmp_path, tokens=()) as local:
        assert local.client("nobody").models.list().data[0].id == "tiny"
        for headers in ({"Origin": "https://evil.example"}, {"Host": "evil.example"}, {"Origin": "null"}):
            with local.http(None, **headers) as client:
                response = client.get("/v1/models")
            assert response.status_code == 403
            assert error(response)["code"] == "not_local"
        port = httpx.URL(local.url).port or 0
        for origin, status in ((port, 200), (port + 1, 403), ("", 403)):  # its own; another local server's; port 80
            with local.http(None, Origin=f"http://localhost:{origin}") as client:
                assert client.get("/v1/models").status_code == status


def test_a_stalled_request_body_times_out(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "IDLE_S", 0.2)
    url = httpx.URL(served.url)
    with socket.create_connection((url.host, url.port or 0), timeout=300) as connection:
        head = "POST /v1/fine_tuning/jobs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer token-of-ann\r\n"
        connection.sendall(f"{head}Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{{".encode())
        assert b" 408 " in connection.recv(4096)
