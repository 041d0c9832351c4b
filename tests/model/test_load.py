"""Checking a model's name fails fast: an unreachable hub is tried twice, once per command."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from kamerton.model.load import check_model


class _Busy(BaseHTTPRequestHandler):
    """A hub that is down for maintenance."""

    requests = 0

    def do_HEAD(self) -> None:
        type(self).requests += 1
        self.do_GET()

    def do_GET(self) -> None:
        self.send_response(503)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def busy_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[type[_Busy]]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Busy)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", f"{address}/{{repo_id}}/{{filename}}")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    yield _Busy
    server.shutdown()
    server.server_close()


def test_an_unreachable_hub_is_tried_twice_and_remembered(
    busy_hub: type[_Busy], capfd: pytest.CaptureFixture[str]
) -> None:
    (fault,) = check_model("some/model-that-is-nowhere")
    assert fault.column == "model.name"
    assert check_model("some/model-that-is-nowhere") == [fault]
    assert busy_hub.requests == 2
    assert capfd.readouterr().err == ""
