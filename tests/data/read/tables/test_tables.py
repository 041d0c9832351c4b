"""Tables: delimiter, quotes and header are found by the content and reported; no line is lost."""

from __future__ import annotations

import csv
import gzip
import io
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kamerton.data.data_file import DataFile
from kamerton.data.option_checks import check_data_options
from kamerton.data.options import Columns, DataOptions
from kamerton.data.read.records import read_rows
from kamerton.data.read.sources import find_files
from kamerton.data.read.tables.header import propose_names
from kamerton.errors import Fault
from support.rows import pairs

ROWS = [row | {"prompt": f"{row['prompt']}, please; or | not"} for row in pairs(40)]
Read = tuple[list[dict[str, Any]], list[Fault], list[str]]


def read(path: Path, content: str | bytes, columns: Columns | None = None, **options: Any) -> Read:
    """The rows of a table, its faults, and the notes of how it was read."""
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    notes: list[str] = []
    pairs = list(read_rows(DataFile(path, None, "data", "csv", "auto", columns or Columns(), **options), notes.append))
    rows = [row for _, row in pairs if not isinstance(row, Fault)]
    assert notes[0] == "table"
    return rows, [row for _, row in pairs if isinstance(row, Fault)], notes[1:]


def table(delimiter: str, rows: list[dict[str, str]] = ROWS, header: bool = True, **how: Any) -> str:
    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter, lineterminator="\n", **how)
    writer.writerows([list(rows[0])] * header + [list(row.values()) for row in rows])
    return out.getvalue()


def pasted(fault: Fault) -> dict[str, Any]:
    """The options of the first setting in a fix."""
    (header,) = re.findall(r"data\.header=\[([^\]]*)\]", " ".join(shlex.split(fault.fix.partition(";")[0])))
    return {"header": header.split(",")}


@pytest.mark.parametrize("name", ["rows.csv", "rows.tsv", "rows.csv.gz"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_found_and_reported(delimiter: str, name: str, tmp_path: Path) -> None:
    content = table(delimiter).encode()
    rows, faults, notes = read(tmp_path / name, gzip.compress(content) if name.endswith(".gz") else content)
    assert (rows, faults) == (ROWS, [])
    usual = "\t" if name == "rows.tsv" else ","
    names = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
    assert notes == ([] if delimiter == usual else [f"delimiter {names[delimiter]}"])


def test_excels_delimiter_line_is_followed_and_lines_keep_their_numbers(tmp_path: Path) -> None:
    content = "sep=;\n" + table(";") + "one field\n"
    rows, faults, notes = read(tmp_path / "rows.csv", content)
    assert (rows, notes) == (ROWS, ["delimiter semicolon"])
    assert faults[0].message == "the row has 1 fields and the header 2"
    pairs = list(read_rows(DataFile(tmp_path / "rows.csv", None, "data", "csv", "auto", Columns())))
    assert [row for row, _ in pairs] == list(range(3, 44))


def test_a_delimiter_can_be_forced_by_sign_or_name(tmp_path: Path) -> None:
    content = "text;label\na:b;c\n"
    assert read(tmp_path / "rows.csv", content, delimiter=":")[1][0].code == "wrong-field-count"
    assert read(tmp_path / "rows.csv", "text,label\nHello, you,no\n", delimiter="tab", header=["text"])[0] == [
        {"text": "text,label"},
        {"text": "Hello, you,no"},
    ]
    assert read(tmp_path / "rows.csv", content, delimiter="semicolon")[0] == [{"text": "a:b", "label": "c"}]
    faults = check_data_options(DataOptions(path="x", delimiter="two", header=["a", "a"]))
    assert [fault.column for fault in faults] == ["data.delimiter", "data.header"]


def test_two_delimiters_that_fit_are_a_fault_that_shows_both_readings(tmp_path: Path) -> None:
    rows, faults, _ = read(tmp_path / "rows.csv", "".join(f"{i},5;{i}\n" for i in range(9)))
    assert not rows
    assert faults[0].fix == (
        "choose the right one: data.delimiter=comma reads ['0', '5;0'], data.delimiter=semicolon reads ['0,5', '0']"
    )


@pytest.mark.parametrize("delimiter", [",", "\t", ";"])
def test_stray_quotes_swallow_no_line(delimiter: str, tmp_path: Path) -> None:
    rows = [
        {"text": f"How many mills stood in the year {1700 + i}?", "label": ["oven", "mill"][i % 2]} for i in range(40)
    ]
    rows[4]["text"] = '" ' + rows[4]["text"]
    rows[7]["text"] += '"'
    rows[20]["text"] = f'"{rows[20]["text"]}"'
    content = delimiter.join(rows[0]) + "\n" + "".join(delimiter.join(row.values()) + "\n" for row in rows)
    rows_read, faults, notes = read(tmp_path / "rows.tsv", content)
    assert (rows_read, faults) == (rows, [])
    assert "quotes are ordinary characters" in notes


def test_a_late_stray_quote_gives_a_fault_for_each_of_its_lines(tmp_path: Path) -> None:
    rows = [{"text": f"the year {i}{', of it' * (i < 9)}", "label": ["oven", "mill"][i % 2]} for i in range(60)]
    lines = table(",", rows).splitlines(keepends=True)
    lines[40] = '"a stray quote,oven\n'
    lines[43] = 'and another",mill\n'
    rows_read, faults, _ = read(tmp_path / "rows.csv", "".join(lines))
    assert len(rows_read) == 56
    assert [fault.code for fault in faults] == ["bad-csv"] * 4
    assert "spans the lines 41 to 44" in faults[0].message


@pytest.mark.slow
@pytest.mark.parametrize("how", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@given(
    st.lists(st.tuples(st.text('ab ,;|"\t\n', max_size=12), st.sampled_from(["yes", "no"])), min_size=8, max_size=20)
)
def test_what_a_csv_writer_quotes_is_read_back_or_refused(
    tmp_path_factory: pytest.TempPathFactory, delimiter: str, how: int, cells: list[tuple[str, str]]
) -> None:
    if delimiter == "\t":  # beside line ends they cannot be told from stray quotes
        cells = [(text.replace("\t", " "), label) for text, label in cells]
    rows = [{"prompt": f"row {i} {text}", "completion": label} for i, (text, label) in enumerate(cells)]
    path = tmp_path_factory.mktemp("tables") / ("rows.tsv" if delimiter == "\t" else "rows.csv")
    rows_read, faults, _ = read(path, table(delimiter, rows, quoting=how))
    assert rows_read == rows or faults


@given(st.lists(st.tuples(st.text('ab "', max_size=12), st.sampled_from(["yes", "no"])), min_size=1, max_size=20))
@example([("", "yes"), ("a", "yes"), ("a", "no"), ('"', "yes"), ('"', "no")])
def test_lines_of_a_table_are_rows_or_faults(
    tmp_path_factory: pytest.TempPathFactory, cells: list[tuple[str, str]]
) -> None:
    content = "text\tlabel\n" + "".join(f"{text}\t{label}\n" for text, label in cells)
    path = tmp_path_factory.mktemp("tables") / "rows.tsv"
    rows, faults, _ = read(path, content)
    assert len(rows) + len(faults) == len(cells) or any(fault.code == "unreadable-file" for fault in faults)


HEADERLESS = {
    "constant, label, blank": (
        "column1,label,column3,text",
        [["gj04", "01"[i % 2], "*" * (i % 3 == 0), f"the old mill number {i} stands"] for i in range(12)],
    ),
    "constant between": ("id,column2,text", [[str(i), "eng", f"the mill number {i} of the town"] for i in range(12)]),
    "date and user": (
        "label,id,column3,column4,text",
        [
            ["04"[i % 2], str(900 + 7 * i), f"2009-04-{i + 10} 22 19 45", f"user{i}", f"the mill {i} is open again"]
            for i in range(12)
        ],
    ),
    "title": (
        "label,title,text",
        [["12"[i % 2], f"the mill is sold {i}", f"the mill {i} of the " * 3] for i in range(12)],
    ),
    "text and label": ("text,label", [[f"Where is the mill number {i} of the town?", "ab"[i % 2]] for i in range(12)]),
    "label and text": (
        "label,text",
        [[["ham", "spam"][i % 2], f"call me at the mill {i} please"] for i in range(12)],
    ),
    "numbered": ("id,text,label", [[str(i), f"the mill number {i} of the town", "ab"[i % 2]] for i in range(12)]),
    "choices": (
        "question,A,B,C,D,answer",
        [[f"How many mills, {i}?", "1", "2", "3", "4", "ABCD"[i % 4]] for i in range(12)],
    ),
    "pairs": (
        "prompt,completion",
        [[f"Where is the mill number {i}?", f"It is at the river {i} now."] for i in range(12)],
    ),
    "sentences": (
        "sentence1,sentence2,label",
        [[f"the old mill stood in year {i}", f"there was a mill in year {i}", "01"[i % 2]] for i in range(12)],
    ),
}


@pytest.mark.parametrize("kind", HEADERLESS)
def test_a_first_line_of_data_is_a_fault_whose_setting_reads_every_line(kind: str, tmp_path: Path) -> None:
    names, cells = HEADERLESS[kind]
    content = "".join(
        f"{','.join(f'{cell}' for cell in row)}\n" for row in [[c.replace(",", "") for c in r] for r in cells]
    )
    rows, (fault,), _ = read(tmp_path / "rows.csv", content)
    assert (rows, fault.code) == ([], "missing-header")
    rows, faults, _ = read(tmp_path / "rows.csv", content, **pasted(fault))
    assert (",".join(rows[0]), len(rows), faults) == (names, 12, [])


def test_a_header_that_looks_like_data_is_kept_with_first(tmp_path: Path) -> None:
    content = "What is your question about the mill?,Your rating of it\n" + "where is it,5\n" * 3
    (fault,) = read(tmp_path / "rows.csv", content)[1]
    assert fault.fix.endswith("if it is a header: data.header=first")
    rows = read(tmp_path / "rows.csv", content, header="first")[0]
    assert rows[0] == {"What is your question about the mill?": "where is it", "Your rating of it": "5"}


@pytest.mark.parametrize(
    "header",
    ["text,label", "question,answer", "id,comment_text,toxic", "label,title,body", "Timestamp,Question,Answer"],
)
def test_usual_headers_are_not_data(header: str, tmp_path: Path) -> None:
    width = header.count(",") + 1
    content = f"{header}\n" + "".join(",".join([f"the mill of year {i}"] * width) + "\n" for i in range(5))
    rows, faults, _ = read(tmp_path / "rows.csv", content)
    assert (",".join(rows[0]), len(rows), faults) == (header, 5, [])


def test_configured_columns_are_a_header(tmp_path: Path) -> None:
    content = "how many mills stood at the river,piec\n" + "a,piec\nb,inny\n"
    columns = Columns(prompt="how many mills stood at the river", label="piec")
    assert len(read(tmp_path / "rows.csv", content, columns)[0]) == 2


def test_names_of_another_number_than_fields_are_a_fault_with_names_that_fit(tmp_path: Path) -> None:
    content = "".join(f"{i},the mill number {i} of it,{'ab'[i % 2]}\n" for i in range(9))
    (fault,) = read(tmp_path / "rows.csv", content, header=["text", "label"])[1]
    assert fault.message == "data.header names 2 columns, and the first line has 3"
    assert pasted(fault) == {"header": ["id", "text", "label"]}


def test_an_unnamed_first_column_of_row_numbers_is_an_index(tmp_path: Path) -> None:
    content = ",text,label,\n" + "".join(f"{i},mill {i},{'ab'[i % 2]},x\n" for i in range(9))
    rows, _, notes = read(tmp_path / "rows.csv", content)
    assert rows[0] == {"index": "0", "text": "mill 0", "label": "a", "column4": "x"}
    assert [note.partition(",")[0] for note in notes] == [
        "an unnamed first column with numbers of rows",
        "an unnamed column 4",
    ]


def test_one_column_has_texts() -> None:
    assert propose_names([["a mill"], ["a river"]]) == ["text"]


BELOW = "id,text,label\n" + "".join(f"{i},the mill {i} is old,{'ab'[i % 2]}\n" for i in range(12))


@pytest.mark.parametrize(("above", "line"), [("Survey of mills\n", 2), ("Survey of mills,,\n,,\n", 3)])
def test_a_title_above_the_header_is_a_fault_whose_setting_reads_the_table(
    tmp_path: Path, above: str, line: int
) -> None:
    path = tmp_path / "rows.csv"
    rows, (fault,), _ = read(path, above + BELOW)
    assert (rows, fault.code) == ([], "missing-header")
    assert f"data.header={line};" in fault.fix
    options = DataOptions(path=str(path), header=line)
    assert not check_data_options(options)
    (file,), faults = find_files(options)
    assert not faults
    numbered = list(read_rows(file))
    assert numbered[0] == (line + 1, {"id": "0", "text": "the mill 0 is old", "label": "a"})
    assert len(numbered) == 12


@pytest.mark.parametrize("header", ["text,", ",text", "Name,"])
def test_headers_with_an_unnamed_column_are_no_titles(tmp_path: Path, header: str) -> None:
    rows, faults, _ = read(tmp_path / "rows.csv", header + "\n" + "".join(f"{i},mill {i}\n" for i in range(12)))
    assert (len(rows), faults) == (12, [])


def test_a_first_line_of_japanese_sentences_is_data(tmp_path: Path) -> None:
    lines = [f"東京の天気はどうですか{i}\t今日は水車を見ました{i}\n" for i in range(8)]
    rows, (fault,), _ = read(tmp_path / "rows.tsv", "".join(lines))
    assert (rows, fault.code) == ([], "missing-header")
    assert "data.header=[prompt,completion]" in fault.fix
    assert len(read(tmp_path / "rows.tsv", "質問\t回答\n" + "".join(lines))[0]) == 8
