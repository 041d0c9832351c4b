"""The server's side of generation: too many requests, and a generating process that crashes."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from kamerton.server.errors import ApiError
from kamerton.server.generation.client import GenerationRequest, Generator

pytestmark = pytest.mark.anyio
ASKED = GenerationRequest("tiny", text="hello", max_tokens=1)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def refused(generator: Generator) -> ApiError:
    with pytest.raises(ApiError) as caught:
        async for _ in generator.stream(ASKED):
            pass
    return caught.value


def test_the_process_has_a_lower_priority_than_training() -> None:
    code = (
        "from kamerton.server.generation.worker import lower_priority; import os; lower_priority(); print(os.nice(0))"
    )
    niceness = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, start_new_session=True
    )
    assert niceness.stdout.strip() == "19"


async def test_a_full_queue_returns_retry_after() -> None:
    generator = Generator(most=0)
    error = await refused(generator)
    assert (error.status_code, error.code) == (429, "queue_full")
    assert error.headers is not None
    assert int(error.headers["Retry-After"]) >= 1
    assert generator.pid is None  # nothing was started for it


async def test_a_tenant_cannot_use_all_connections() -> None:
    generator = Generator(most=3)
    generator._start = asyncio.Event().wait  # type: ignore[assignment,method-assign]  # it never gets ready
    waiting = [asyncio.create_task(anext(generator.stream(ASKED, "ann"))) for _ in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(ApiError, match="Too many requests"):
        await anext(generator.stream(ASKED, "ann"))
    other = asyncio.create_task(anext(generator.stream(ASKED, "ben")))
    await asyncio.sleep(0)
    assert generator.under_way == 4
    for task in (*waiting, other):
        task.cancel()
    await asyncio.gather(*waiting, other, return_exceptions=True)
    assert generator.under_way == 0


@pytest.mark.parametrize("how", ["text", "turns"])
async def test_a_too_long_prompt_reaches_no_model(how: str) -> None:
    text = "x" * (16 * 100 + 1)
    prompt_options = {"text": text} if how == "text" else {"turns": (("user", text[:900]), ("user", text[900:]))}
    generator = Generator(context=100)
    with pytest.raises(ApiError) as refused:
        await anext(generator.stream(GenerationRequest("tiny", **prompt_options)))  # type: ignore[arg-type]
    assert (refused.value.status_code, refused.value.code) == (400, "context_length_exceeded")
    assert refused.value.param == ("prompt" if how == "text" else "messages")
    assert generator.pid is None


async def test_restarts_of_a_crashing_process_are_limited(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = tmp_path / "kamerton"
    broken.mkdir()
    (broken / "__init__.py").write_text("raise SystemExit(3)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    now = [0.0]
    generator = Generator(clock=lambda: now[0])
    errors = [await refused(generator) for _ in range(4)]
    assert [(error.status_code, error.code) for error in errors] == [(503, "engine_ended")] * 3 + [
        (503, "engine_failed")
    ]
    assert generator.pid is None
    assert generator.under_way == 0
    now[0] = 60.0
    assert (await refused(generator)).code == "engine_ended"  # it is tried again after a while
    await generator.close()
