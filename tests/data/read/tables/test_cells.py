"""JSON texts and Python lists in the cells of tables and Parquet files are read as lists; nothing is executed."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kamerton.data.data_file import DataFile
from kamerton.data.options import Columns
from kamerton.data.read.records import read_rows
from kamerton.errors import Fault

TURNS = [{"role": "user", "content": 'Where\'s the "mill"?'}, {"role": "assistant", "content": "At the river."}]


def read(path: Path, row: dict[str, str]) -> dict[str, Any] | Fault:
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist([row]), path)
    else:
        with open(path, "w", newline="") as file:
            csv.writer(file).writerows([row.keys(), row.values()])
    ((_, record),) = read_rows(DataFile(path, None, "data", path.suffix[1:], "auto", Columns()))
    return record


@pytest.mark.parametrize("write", [json.dumps, str])
@pytest.mark.parametrize("name", ["rows.csv", "rows.parquet"])
def test_turns_in_a_cell_are_read_as_json_or_as_python_prints_them(name: str, write: Any, tmp_path: Path) -> None:
    assert read(tmp_path / name, {"messages": write(TURNS), "id": "1"}) == {"messages": TURNS, "id": "1"}
    assert read(tmp_path / name, {"prompt": write(TURNS[:1]), "completion": "[1]"}) == {
        "prompt": TURNS[:1],
        "completion": "[1]",
    }


def test_answers_that_are_json_stay_texts(tmp_path: Path) -> None:
    row = {"question": "List the mills", "answer": '[{"name": "Ames"}]'}
    assert read(tmp_path / "rows.csv", row) == row


@pytest.mark.parametrize(
    "cell",
    [
        "[{'role': 'user', 'content': 'a'}\n {'role': 'assistant', 'content': 'b'}]",  # as numpy prints it
        "[__import__('os').system('true')]",
        '[{"role": "user"',
        '[{"role": "user", "role": "assistant"}]',
    ],
)
def test_cells_that_cannot_be_parsed_are_faults(cell: str, tmp_path: Path) -> None:
    fault = read(tmp_path / "rows.csv", {"messages": cell, "id": "1"})
    assert isinstance(fault, Fault)
    assert (fault.code, fault.column) == ("bad-json", "messages")
