"""A folder with everything that the pages name: data files, runs, score tables, and the files that they show."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

sys.path.insert(0, str(Path(__file__).parent))  # blocks.py, commands.py

from blocks import blocks

from kamerton.cli import main


def rows(first: int, count: int) -> list[dict[str, object]]:
    """Rows of two labels that a letter of the prompt decides; no two calls share one."""
    return [
        {"prompt": f"the {word} number {number}", "completion": label, "metadata": {"author": f"a{number % 7}"}}
        for number in range(first, first + count)
        for word, label in (("cat", "yes"), ("dog", "no"))
    ]


def write_csv(path: Path, content: Sequence[dict[str, object]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["question", "answer"])
        writer.writerows([row["prompt"], row["completion"]] for row in content)


@pytest.fixture(scope="session")
def page_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data, and the files that pages show: copied for each page."""
    folder = tmp_path_factory.mktemp("pages") / "files"
    folder.mkdir()
    names = ("questions", "my", "rows", "animals", "new", "train", "val", "test")
    for at, name in enumerate(names):
        text = "".join(json.dumps(row) + "\n" for row in rows(0 if at < 4 else 100 * at, 60 if at < 6 else 20))
        (folder / f"{name}.jsonl").write_text(text)
    for at, name in enumerate(("raw", "my", "train", "test")):
        write_csv(folder / f"{name}.csv", rows(100 * at, 40))
    for at, name in enumerate("abc"):
        pq.write_table(pa.Table.from_pylist(rows(100 * at, 40)), folder / f"{name}.parquet")
    for block in blocks():
        if block.kind == "file":
            path = folder / block.rest
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text + "\n")
    subprocess.run([sys.executable, "tickets.py"], cwd=folder, check=True)  # the data of the tutorial
    return folder


@pytest.fixture(scope="session")
def page_runs(page_files: Path, own_cache: Path) -> Path:
    """The same with runs: one that is trained, and copies of it under the names that the pages use."""
    folder = page_files.with_name("runs")
    shutil.copytree(page_files, folder)
    options = ["model=tiny", "data=jsonl", f"data.path={folder}/questions.jsonl", "trainer.max_steps=4", "logger=null"]
    where = ["name=trec", "run_id=ID", f"paths.outputs={folder}/outputs", "callbacks.progress_bar=null"]
    assert main(["train", *options, *where, "scheduler.warmup_steps=1"]) == 0
    run = folder / "outputs/trec/ID"
    for place in (
        "outputs/trec/r66206e0",
        "outputs/trec/r07b12aa",
        "outputs/gsm8k/ID",
        "outputs/NAME/ID",
        "outputs/data/candidate",
    ):
        shutil.copytree(run, folder / place)
    for place in ("NEW", "OLD"):
        shutil.copytree(run, folder / place)
    (folder / "released").mkdir()
    for place in ("new.parquet", "old.parquet", "released/test.parquet"):
        shutil.copy(run / "scores/test.parquet", folder / place)
    return folder


@pytest.fixture
def files(page_files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A page's own folder, the current one, with the data and the files that pages show."""
    return _enter(page_files, tmp_path, monkeypatch)


@pytest.fixture
def workshop(page_runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A page's own folder, the current one, with runs as well."""
    return _enter(page_runs, tmp_path, monkeypatch)


def _enter(template: Path, parent: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = parent / "page"
    shutil.copytree(template, folder)
    monkeypatch.chdir(folder)
    return folder
