"""The example scripts, unchanged, on a hosted model: one that `kamerton serve` trains in another process."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openai import OpenAI

from support.proxy import Proxy, Trouble
from support.server_process import served
from support.warm import Starter

EXAMPLES = Path(__file__).resolve().parents[2] / "scripts" / "examples"
TOKEN = "sk-0123456789abcdefghijklmnopqrstuvwxyz"


def example(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(f"{name}_hosted", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, warm: Starter) -> Iterator[str]:
    """The address of a server of the tiny model, for one tenant."""
    folder = tmp_path_factory.mktemp("server")
    (folder / "tokens.txt").write_text(f"me {TOKEN}\n")
    words = ("--models", "tiny", "--tokens", "tokens.txt", "--root", str(folder / "runs"))
    with served(warm, folder, *words) as address:
        yield f"{address}/v1"


@pytest.fixture
def root(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of outputs; the environment names the server."""
    monkeypatch.setenv("OPENAI_BASE_URL", server)
    monkeypatch.setenv("OPENAI_API_KEY", TOKEN)
    return tmp_path / "outputs"


TROUBLES: dict[tuple[str, str], Trouble] = {
    ("POST", "/files"): "drop",
    ("POST", "/fine_tuning/jobs"): "drop",
    ("GET", "/events?limit=100"): 500,
    ("POST", "/chat/completions"): 429,
}


@pytest.mark.slow
def test_the_basic_example_goes_from_rows_to_a_ranking_over_a_bad_line(
    server: str, root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, warm_jobs: None
) -> None:
    basic = example("basic")
    with Proxy(server.removesuffix("/v1"), TROUBLES) as proxy:
        monkeypatch.setenv("OPENAI_BASE_URL", proxy.url)
        asyncio.run(basic.main(basic.ROWS[:40], "openai/tiny", str(root)))
        assert all(proxy.counts[kind] > 1 for kind in TROUBLES if kind[1] != "/fine_tuning/jobs")
        assert proxy.counts["POST", "/fine_tuning/jobs"] == 1  # the job was found, not made again
    client = OpenAI(base_url=server, api_key=TOKEN)
    assert len(list(client.fine_tuning.jobs.list())) == 1
    assert len(list(client.files.list())) == 2
    output = capsys.readouterr().out
    (path,) = [file.parent for file in root.glob("*/*/run.json")]
    log = (path / "log.txt").read_text()
    assert "succeeded" in output, (output, log)
    assert re.search(r"^1\. .+\n2\. ", output, re.MULTILINE), output
    record = json.loads((path / "run.json").read_text())
    assert record["provider"] == "openai"
    assert record["hosted"]["fine_tuned_model"].startswith("ft:tiny:me:")
    assert record["progress"]["step"] == record["progress"]["steps"]
    assert record["hosted"]["trained_tokens"] > 0
    assert (path / "metrics.csv").read_text().count("\n") == record["progress"]["steps"] + 1
    assert {"loss", "perplexity"} <= set(record["metrics"]["validation"])
    assert record["metrics"]["test"].keys() == record["metrics"]["base"].keys()
    assert (path / "report.html").exists()
    files = [file for file in root.rglob("*") if file.is_file()]
    assert not [file for file in files if TOKEN.encode() in file.read_bytes()]
    assert TOKEN not in output


@pytest.mark.slow
def test_the_advanced_example_watches_a_hosted_job(
    root: Path, animals: Path, capsys: pytest.CaptureFixture[str], warm_jobs: None
) -> None:
    asyncio.run(example("advanced").main(str(animals), "openai/tiny", 1e-3, 3, str(root)))
    output = capsys.readouterr().out
    assert re.search(r"succeeded at step (\d+) of \1\n", output) or "cancelled at step" in output, output
    assert re.search(r"step \d+: loss \d", output), output
