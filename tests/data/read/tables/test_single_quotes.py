"""Fields in single quotes are found by the content of a table; apostrophes of English texts are ordinary characters."""

from __future__ import annotations

import csv
import random
from pathlib import Path
from typing import Any

import pytest

from kamerton.data.data_file import DataFile
from kamerton.data.options import Columns
from kamerton.data.read.records import read_rows
from kamerton.errors import Fault

WORDS = "mill oven parish rye barley bread don't it's o'clock dogs' 'twas 'tis rock'n'roll".split()  # noqa: SIM905
NOTE = "fields in single quotes"


def read(path: Path) -> tuple[list[dict[str, Any] | Fault], list[str]]:
    """The rows of a table, and what was noted about it."""
    notes: list[str] = []
    file = DataFile(path, None, "data", "csv", "auto", Columns())
    return [record for _, record in read_rows(file, notes.append)], notes


def rows(seed: int, separator: str) -> list[list[str]]:
    """A header and 40 rows of texts with apostrophes, some of which hold the separator."""
    choose = random.Random(seed)

    def sentence(number: int) -> str:
        text = " ".join(choose.choices(WORDS, k=choose.randint(2, 7)))
        return choose.choice([text, text, f"{text}{separator} {text}", f"'{text}'", f"'{text}' {number}"])

    return [["id", "text", "label"], *([str(i), sentence(i), ("good", "bad")[i % 2]] for i in range(40))]


def dicts(table: list[list[str]]) -> list[dict[str, str]]:
    return [dict(zip(table[0], row, strict=True)) for row in table[1:]]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("quoting", [csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC, csv.QUOTE_MINIMAL])
@pytest.mark.parametrize("seed", range(4))
def test_fields_in_single_quotes_are_read_as_written(tmp_path: Path, delimiter: str, quoting: Any, seed: int) -> None:
    table = rows(seed, "," if delimiter == "\t" and quoting != csv.QUOTE_MINIMAL else delimiter)
    written = [[int(row[0]) if row[0].isdecimal() else row[0], *row[1:]] for row in table]
    with open(tmp_path / "rows.csv", "w", newline="") as file:
        csv.writer(file, delimiter=delimiter, quotechar="'", quoting=quoting).writerows(written)
    records, notes = read(tmp_path / "rows.csv")
    assert records == dicts(table)
    assert NOTE in notes


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("quoting", [csv.QUOTE_ALL, csv.QUOTE_MINIMAL])
@pytest.mark.parametrize("seed", range(4))
def test_apostrophes_of_usual_tables_are_ordinary(tmp_path: Path, delimiter: str, quoting: Any, seed: int) -> None:
    table = rows(seed, delimiter)
    with open(tmp_path / "rows.csv", "w", newline="") as file:
        csv.writer(file, delimiter=delimiter, quoting=quoting).writerows(table)
    records, notes = read(tmp_path / "rows.csv")
    assert records == dicts(table)
    assert NOTE not in notes


def test_apostrophes_of_tables_without_quotes_are_ordinary(tmp_path: Path) -> None:
    table = [row for row in rows(0, ",") if "," not in row[1]]
    (tmp_path / "rows.csv").write_text("".join(f"{','.join(row)}\n" for row in table))
    records, notes = read(tmp_path / "rows.csv")
    assert records == dicts(table)
    assert NOTE not in notes


def test_speech_in_single_quotes_stays_as_it_is(tmp_path: Path) -> None:
    table = [["text", "label"], *([f"'The mill of parish {i} is shut.'", "ab"[i % 2]] for i in range(20))]
    (tmp_path / "rows.csv").write_text("".join(f"{','.join(row)}\n" for row in table))
    assert read(tmp_path / "rows.csv")[0] == dicts(table)


def test_records_of_several_lines_and_of_one_that_is_cut(tmp_path: Path) -> None:
    lines = "".join(f"'mill {i},\nparish {i}','{'ab'[i % 2]}'\n" for i in range(20))
    (tmp_path / "rows.csv").write_text("'text','label'\n" + lines + "'mill 20\n")
    records, _ = read(tmp_path / "rows.csv")
    assert records[:20] == [{"text": f"mill {i},\nparish {i}", "label": "ab"[i % 2]} for i in range(20)]
    assert [record.code for record in records[20:] if isinstance(record, Fault)] == ["unreadable-file"]


def test_unquoted_commas_beside_apostrophes_remain_faults(tmp_path: Path) -> None:
    table = [f"'twas {i}, it's late,a" if i % 5 == 0 else f"{i} o'clock,b" for i in range(40)]
    (tmp_path / "rows.csv").write_text("\n".join(["text,label", *table]))
    records, notes = read(tmp_path / "rows.csv")
    assert [record.code for record in records if isinstance(record, Fault)] == ["wrong-field-count"] * 8
    assert NOTE not in notes
