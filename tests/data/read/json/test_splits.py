"""One JSON object with a list for each split keeps them; other objects are read as before."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kamerton.data.gate import prepare
from kamerton.data.options import DataOptions, SplitOptions
from kamerton.errors import UserError
from support.rows import pairs, question

ROWS = pairs(60)


def counts(path: Path, value: object, **options: Any) -> dict[str, int]:
    path.write_text(json.dumps(value))
    splits = prepare(DataOptions(path=str(path), **options), SplitOptions(), cache=None).splits
    return {name: len(rows) for name, rows in splits.items() if len(rows)}


@pytest.mark.parametrize("name", ["validation", "valid", "val", "dev", "eval"])
def test_lists_named_after_splits_are_kept(tmp_path: Path, name: str) -> None:
    value = {"version": "1.0", "train": ROWS[:40], name: ROWS[40:50], "test": ROWS[50:]}
    assert counts(tmp_path / "a.json", value) == {"train": 40, "validation": 10, "test": 10}


def test_lists_of_lists_are_kept_with_a_header(tmp_path: Path) -> None:
    lists = [[question(i), ("mill", "oven")[i % 2]] for i in range(30)]
    value = {"train": lists[:20], "test": lists[20:]}
    with pytest.raises(UserError) as caught:
        counts(tmp_path / "a.json", value)
    (fault,) = caught.value.faults
    assert fault.fix == "add 'data.header=[text,label]'"
    assert counts(tmp_path / "a.json", value, header=["text", "label"]) == {"train": 20, "test": 10}


def test_two_lists_of_one_split_are_a_choice(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        counts(tmp_path / "a.json", {"train": ROWS[:40], "dev": ROWS[40:50], "eval": ROWS[50:]})
    assert "data.records=dev" in caught.value.faults[0].fix


def test_a_chosen_list_is_split_anew(tmp_path: Path) -> None:
    value = {"train": ROWS[:50], "test": ROWS[50:]}
    assert sum(counts(tmp_path / "a.json", value, records="train").values()) == 50


def test_a_row_is_named_by_its_file(tmp_path: Path) -> None:
    rows = [*ROWS[:40], {"prompt": "a", "completion": 5}]
    with pytest.raises(UserError) as caught:
        counts(tmp_path / "a.json", {"train": rows, "test": ROWS[40:]})
    assert [(fault.file, fault.row) for fault in caught.value.faults] == [(str(tmp_path / "a.json"), 41)]
