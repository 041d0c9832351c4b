"""The lists of a JSON object that are named after splits: `{"train": [...], "test": [...]}`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from kamerton.data.data_file import DataFile
from kamerton.data.read.files.containers import DAMAGE, open_data
from kamerton.data.read.json.object import outline_of
from kamerton.data.read.json.stream import JsonStream, JsonSyntaxError


def split_lists(file: DataFile, split_of: Callable[[str], str | None]) -> dict[str, str]:
    """Return the split of each list of records in a file that is one object, if all are named after different splits.

    `split_of` returns the split that a name is of. Nothing is returned for other files, most of them after their first
    list or value; lists within records need `data.header`, which names their items.
    """
    with suppress(JsonSyntaxError, OverflowError, RecursionError, UnicodeError, *DAMAGE):  # reported when it is read
        if not _begins_with_a_split(file, split_of):
            return {}
        with open_data(file) as stream:
            reader = JsonStream(stream, _encoding(file))
            outline = outline_of(reader)
            if reader.peek() or outline.repeated:
                return {}
        kinds = dict if not isinstance(file.header, list) else dict | list
        lists = [key for key, items in outline.sample.items() if key in outline.sizes and items]
        splits = {key: split for key in lists if (split := split_of(key)) is not None}
        records = all(isinstance(item, kinds) for key in lists for item in outline.sample[key])
        are_splits = len(splits) == len(lists) == len(set(splits.values())) > 1 and "train" in splits.values()
        return splits if records and are_splits else {}
    return {}


def _begins_with_a_split(file: DataFile, split_of: Callable[[str], str | None]) -> bool:
    """Return whether the first list of an object has the name of a split."""
    with open_data(file) as stream:
        reader = JsonStream(stream, _encoding(file))
        if reader.peek() != "{":
            return False
        for key in reader.members():
            if reader.peek() == "[":
                return split_of(key) is not None
            if reader.peek() == "{":
                return False
            reader.value()
    return False


def _encoding(file: DataFile) -> str:
    return "utf-8" if file.encoding == "auto" else file.encoding
