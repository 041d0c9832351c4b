"""JSON that would take long to validate is refused first, anywhere in a body."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kamerton.server.errors import ApiError
from kamerton.server.json_body import MAX_DEPTH, MAX_ITEMS, MAX_KEYS, MAX_SEPARATORS, read_json
from support.serving import Served, error

CHAT: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": "x"}]}
JOB: dict[str, Any] = {"model": "tiny", "training_file": "file-0"}
PLACES = [
    *[
        ("/v1/chat/completions", CHAT, name)
        for name in ("modalities", "stop", "tools", "metadata", "messages", "n", "k")
    ],
    *[("/v1/completions", {"model": "tiny", "prompt": "x"}, name) for name in ("prompt", "logit_bias", "k")],
    *[("/v1/fine_tuning/jobs", JOB, name) for name in ("metadata", "integrations", "hyperparameters", "method", "k")],
]
LARGE = {
    "items": [1] * (MAX_ITEMS + 1),
    "keys": {f"k{n}": 1 for n in range(MAX_KEYS + 1)},
    "values": [[1] * 400] * 60,
    "strings": ["x"] * 30_000,
    "items below": [{"x": [[1] * (MAX_ITEMS + 1)]}],
}


@pytest.mark.parametrize(("path", "body", "name"), PLACES)
@pytest.mark.parametrize("kind", LARGE)
def test_nothing_large_is_validated(served: Served, path: str, body: dict[str, Any], name: str, kind: str) -> None:
    with served.http() as client:
        response = client.post(path, json={**body, name: LARGE[kind]})
    assert response.status_code in (400, 413)
    assert len(response.content) < 1000
    refusal = error(response)
    assert refusal["param"] is None or refusal["param"].startswith(name)


def test_an_error_names_a_few_faults_and_repeats_no_long_name(served: Served) -> None:
    with served.http() as client:
        many = client.post("/v1/chat/completions", json={**CHAT, **{f"key{n}": 1 for n in range(40)}})
        long = client.post("/v1/chat/completions", json={**CHAT, "x" * 100_000: 1})
        name = client.post("/v1/chat/completions", json={**CHAT, "model": "x" * 100_000})
    assert error(many)["message"].endswith("and 35 more")
    assert error(many)["message"].count("is not known") == 5
    for response in (long, name):
        assert response.status_code == 400
        assert len(response.content) < 500


def test_depth_is_limited() -> None:
    value: Any = 1
    for _ in range(MAX_DEPTH):
        value = [value]
    assert read_json(json.dumps(value).encode()) == value
    with pytest.raises(ApiError, match="nested deeper"):
        read_json(json.dumps([value]).encode())


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text('a,:[{"\\\u20ac'),
    lambda inner: st.lists(inner) | st.dictionaries(st.text('a,:[{"\\', max_size=3), inner),
    max_leaves=20,
)


@given(JSON, st.booleans())
def test_an_ordinary_value_is_read_as_json_reads_it(value: Any, ascii_only: bool) -> None:
    body = json.dumps(value, ensure_ascii=ascii_only).encode()
    assert read_json(body) == json.loads(body)


@given(st.text('a,:[{"\\\n}]'))
def test_separators_within_a_text_do_not_count(text: str) -> None:
    body = json.dumps({"text": text * (MAX_SEPARATORS // max(1, len(text)) + 2)}).encode()
    assert read_json(body) == json.loads(body)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32"])
def test_json_is_utf_8(encoding: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 (Python's message differs)
        read_json('{"a": 1}'.encode(encoding))
    assert read_json('{"ą": 1}'.encode("utf-8-sig")) == {"ą": 1}
