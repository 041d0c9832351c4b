"""Folders of `datasets` and snapshots of the hub: every file is read, with its split, and labels have their names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kamerton.data.data_file import DataFile
from kamerton.data.gate import prepare
from kamerton.data.options import Columns, DataOptions
from kamerton.data.read.records import read_rows
from kamerton.data.read.sources import find_files
from kamerton.errors import Fault
from support.rows import pairs

ROWS = pairs(90)
LABELS = {
    "info": {"features": {"label": {"names": ["oven", "mill"], "_type": "ClassLabel"}, "text": {"_type": "Value"}}}
}


def write(path: Path, rows: list[dict[str, Any]], stream: bool = True) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pylist(rows)
    if path.suffix == ".parquet":
        pq.write_table(table, path)
    elif path.suffix == ".arrow":
        with (
            pa.OSFile(str(path), "wb") as sink,
            (pa.ipc.new_stream if stream else pa.ipc.new_file)(sink, table.schema) as out,
        ):
            out.write_table(table, max_chunksize=7)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def save(folder: Path, rows: list[dict[str, Any]], shards: int = 1) -> None:
    """Write a data set as save_to_disk does."""
    names = [f"data-{i:05}-of-{shards:05}.arrow" for i in range(shards)]
    for i, name in enumerate(names):
        write(folder / name, rows[i::shards])
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name} for name in names]}))
    (folder / "dataset_info.json").write_text("{}")


def splits(folder: Path, **options: Any) -> dict[str, int]:
    prepared = prepare(DataOptions(format="auto", path=str(folder), near_duplicates=None, **options))
    assert not prepared.report["rejected"]
    has_splits = prepared.report["split_given"]
    return (
        {name: len(rows) for name, rows in prepared.splits.items()}
        if has_splits
        else {"all": sum(map(len, prepared.splits.values()))}
    )


def refusal(folder: Path, **options: Any) -> Fault:
    (fault,) = find_files(DataOptions(**{"format": "auto", "path": str(folder)} | options))[1]
    return fault


def test_a_saved_data_set_is_read_with_all_its_shards_and_split(tmp_path: Path) -> None:
    save(tmp_path / "set", ROWS, shards=3)
    assert splits(tmp_path / "set") == {"all": 90}


def test_the_splits_of_a_saved_dictionary_are_kept(tmp_path: Path) -> None:
    for name, part in {"train": ROWS[:40], "validation": ROWS[40:65], "test": ROWS[65:]}.items():
        save(tmp_path / name, part, shards=2)
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["train", "validation", "test"]}')
    assert splits(tmp_path) == {"train": 40, "validation": 25, "test": 25}
    fault = refusal(tmp_path, path=None, train=str(tmp_path))
    assert f"data.train={tmp_path}/train" in fault.fix


def test_a_dictionary_with_one_split_is_split(tmp_path: Path) -> None:
    save(tmp_path / "train", ROWS)
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["train"]}')
    assert splits(tmp_path) == {"all": 90}


def test_a_missing_shard_is_a_fault(tmp_path: Path) -> None:
    save(tmp_path, ROWS, shards=2)
    (tmp_path / "data-00001-of-00002.arrow").unlink()
    assert refusal(tmp_path).message == "files of this data set are missing: data-00001-of-00002.arrow"


@pytest.mark.parametrize("ending", ["parquet", "jsonl", "json"])
@pytest.mark.parametrize(
    "pattern", ["data/{}-00000-of-00001-5f1c", "{}-00000-of-00001", "{}/0000", "default/{}/0000", "{}"]
)
def test_the_splits_of_a_snapshot_are_kept(pattern: str, ending: str, tmp_path: Path) -> None:
    for name, part in {"train": ROWS[:40], "dev": ROWS[40:65], "test": ROWS[65:]}.items():
        write(tmp_path / f"{pattern.format(name)}.{ending}", part)
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n")
    (tmp_path / "dataset_infos.json").write_text("{}")
    (tmp_path / ".gitattributes").write_text("*.parquet filter=lfs\n")
    assert splits(tmp_path) == {"train": 40, "validation": 25, "test": 25}


def test_several_configurations_are_a_fault_that_names_each(tmp_path: Path) -> None:
    for name in ("main", "other one"):
        write(tmp_path / name / "train-00000-of-00001.parquet", ROWS[:50])
        write(tmp_path / name / "test-00000-of-00001.parquet", ROWS[50:])
    fault = refusal(tmp_path)
    assert fault.message == "the folder contains several data sets: main, other one"
    assert fault.fix == f"choose one of them: data.path={tmp_path}/main or 'data.path=\"{tmp_path}/other one\"'"
    assert splits(tmp_path / "other one") == {"train": 50, "test": 40}


def test_two_parts_for_one_split_are_a_fault_with_settings_that_choose(tmp_path: Path) -> None:
    for name in ("train_sft", "train_gen", "test_sft", "test_gen"):
        write(tmp_path / "data" / f"{name}-00000-of-00001.parquet", ROWS[:50])
    fault = refusal(tmp_path)
    assert fault.message == "the folder contains test_gen, test_sft, train_gen, train_sft"
    assert f"data.train={tmp_path}/data/train_gen-00000-of-00001.parquet" in fault.fix


def test_a_part_that_is_no_split_is_not_read_and_reported(tmp_path: Path) -> None:
    for name, part in {"train": ROWS[:40], "test": ROWS[40:65], "unsupervised": ROWS[65:]}.items():
        write(tmp_path / "data" / f"{name}-00000-of-00001.parquet", part)
    files, faults = find_files(DataOptions(format="auto", path=str(tmp_path)))
    assert [file.split for file in files] == ["test", "train"]
    assert (faults[0].code, faults[0].severity) == ("not-read", "warning")


def rows_of(path: Path) -> list[Any]:
    return [row for _, row in read_rows(DataFile(path, None, "data", path.suffix[1:], "auto", Columns()))]


@pytest.mark.parametrize("stream", [True, False])
def test_arrow_files_give_plain_values(stream: bool, tmp_path: Path) -> None:
    rows = [{"text": f"mill {i}", "inner": {"a": [1, 2], "b": None}, "n": i} for i in range(30)]
    write(tmp_path / "rows.arrow", rows, stream)
    assert rows_of(tmp_path / "rows.arrow") == rows


def test_a_truncated_stream_is_a_fault(tmp_path: Path) -> None:
    write(tmp_path / "rows.arrow", ROWS)
    content = (tmp_path / "rows.arrow").read_bytes()
    (tmp_path / "rows.arrow").write_bytes(content[:-8])
    (fault,) = rows_of(tmp_path / "rows.arrow")
    assert (fault.code, fault.message) == (
        "unreadable-file",
        "the file is truncated or damaged: the stream has no end marker",
    )


@pytest.mark.parametrize("place", ["schema", "dataset_info.json"])
def test_class_labels_have_their_names(place: str, tmp_path: Path) -> None:
    table = pa.table({"text": ["a", "b", "c"], "label": pa.array([1, 0, -1], pa.int64())})
    if place == "schema":
        table = table.replace_schema_metadata({"huggingface": json.dumps(LABELS)})
        pq.write_table(table, tmp_path / "rows.parquet")
        assert [row["label"] for row in rows_of(tmp_path / "rows.parquet")] == ["mill", "oven", None]
    else:
        (tmp_path / "dataset_info.json").write_text(json.dumps(LABELS["info"]))
    with pa.OSFile(str(tmp_path / "rows.arrow"), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as out:
        out.write_table(table)
    assert [row["label"] for row in rows_of(tmp_path / "rows.arrow")] == ["mill", "oven", None]


def test_maps_dictionaries_and_lists_of_objects_become_plain_values(tmp_path: Path) -> None:
    turns = pa.array(
        [{"role": ["user", "assistant"], "content": ["a", "b"]}],
        pa.struct([("role", pa.list_(pa.string())), ("content", pa.list_(pa.string()))]),
    )
    maps = pa.array([[{"m": [("k", 1)]}]], pa.list_(pa.struct([("m", pa.map_(pa.string(), pa.int64()))])))
    words = pa.array(["x"]).dictionary_encode()
    pq.write_table(pa.table({"messages": turns, "maps": maps, "words": words}), tmp_path / "rows.parquet")
    (row,) = rows_of(tmp_path / "rows.parquet")
    assert row == {
        "messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}],
        "maps": [{"m": {"k": 1}}],
        "words": "x",
    }
