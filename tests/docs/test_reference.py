"""docs/reference is what scripts/reference.py writes, and its tables of files are those of a real run."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

from blocks import ROOT

sys.path.insert(0, str(ROOT / "scripts"))
reference = importlib.import_module("reference")
directory = importlib.import_module("reference_pages.run_directory")


def test_reference_pages_are_up_to_date() -> None:
    differing = [
        name for name, text in reference.pages().items() if (ROOT / "docs" / name).read_text(encoding="utf-8") != text
    ]
    assert differing == [], "run: python scripts/reference.py"


def test_every_file_of_a_run_is_documented(workshop: Path) -> None:
    run = workshop / "outputs/trec/ID"
    names = [str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()]
    folders = tuple(name for name in directory.FILES if name.endswith("/"))
    assert [name for name in names if name not in directory.FILES and not name.startswith(folders)] == []
    assert {"run.json", "metrics.csv", "checkpoints/best.ckpt", "scores/test.parquet"} <= set(names)


def test_every_field_of_a_record_is_documented(workshop: Path) -> None:
    record = json.loads((workshop / "outputs/trec/ID/run.json").read_text())
    assert set(record) - set(directory.RECORD) == set()
