"""Random requests: no response is a server error, and every error has OpenAI's format.

`scripts/bench/server.py fuzz` sends thousands of them; here are about a hundred.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.serving import TOKENS, Served, serving, upload

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts" / "bench"))

from server_fuzz import Tally, described, fault_of, raw, refused

TOKEN = dict(TOKENS)["ben"]


@pytest.fixture(scope="module")
def idle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server without any usable model, so that random requests start no work."""
    with serving(tmp_path_factory.mktemp("fuzz"), models=("smollm2",)) as result:
        yield result


def test_whatever_is_drawn_from_the_description_is_answered(idle: Served) -> None:
    tally = Tally()
    file = upload(idle.client("ben"), b'{"prompt": "a", "completion": "b"}\n')
    described(idle.url, TOKEN, tally, 2, lambda: {"file_id": file, "model": "smollm2 "}, drawn=1)
    assert not tally.faults
    assert {status // 100 for _, status in tally.answers} == {2, 4}


def test_a_wrong_token_is_rejected_everywhere(idle: Served) -> None:
    tally = Tally()
    refused(idle.url, tally, 1, drawn=1)
    assert not tally.faults
    assert {status for _, status in tally.answers} == {200, 401}  # 200: whether it lives


def test_malformed_bytes_get_the_same_error_format(idle: Served) -> None:
    tally = Tally()
    raw(idle.url, TOKEN, tally, 60, seed=1)
    assert not tally.faults
    assert tally.answers["spoilt HTTP", 400] > 10


def test_responses_of_another_format_are_faults() -> None:
    good = b'{"error": {"message": "no", "type": "t", "param": null, "code": "c"}}'
    assert fault_of(404, "application/json", good) is None
    for body in (b"Not Found", b'{"detail": "no"}', b'{"error": "no"}', good.replace(b'"no"', b'""')):
        assert fault_of(404, "application/json", body)
    assert fault_of(500, "application/json", good)
    assert fault_of(200, "text/event-stream", b'data: {"error": {}}\n\n')
