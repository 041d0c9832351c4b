"""Encoded examples: token ids and target marks of all rows in flat memory-mapped arrays, written once and shared.

What is cached is every row of the data set at its full length; splits, folds and length limits are views of it and
cost nothing more. The cache key hashes all that shapes the tokens: the rows, the tokenizer with its chat template, and the
version of this code.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from kamerton.data.faults import FaultLog
from kamerton.data.render import CannotRender
from kamerton.data.store import Examples, Store, TemporaryFolder, to_example
from kamerton.data.tokenize import StretchTokenizer
from kamerton.errors import Fault

VERSION = "1"  # of the arrays; change it when the same rows and tokenizer give other tokens
CHUNK = 4096  # rows rendered and tokenised together
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Encoded:
    """Token sequences, one for each example of a split, as views of shared flat arrays.

    `lengths` and `target_counts` are [examples] int32; `ids` are the examples' ids.
    """

    ids: pa.StringArray
    lengths: npt.NDArray[np.int32]
    target_counts: npt.NDArray[np.int32]
    fingerprint: str
    report: dict[str, Any]
    _tokens: npt.NDArray[np.int32]
    _targets: npt.NDArray[np.bool_]
    _begins: Ints
    _keep_alive: object = None

    def __len__(self) -> int:
        return len(self.lengths)

    def tokens(self, i: int) -> npt.NDArray[np.int32]:
        """Token ids of example i: [length]."""
        begin = self._begins[i]
        return self._tokens[begin : begin + self.lengths[i]]

    def targets(self, i: int) -> npt.NDArray[np.bool_]:
        """True where the token of example i is predicted and counts: [length]; never at position 0."""
        begin = self._begins[i]
        marks = self._targets[begin : begin + self.lengths[i]]
        if len(marks) and marks[0]:  # only where the beginning was cut off
            marks = marks.copy()
            marks[0] = False
        return marks


def encode(
    examples: Examples, tokenizer: Any, *, max_length: int, overlong: str, cache: Path | None, name: str
) -> Encoded:
    """Token ids and targets of `examples`, from the cache if they are there.

    `overlong` says what becomes of rows with more than `max_length` tokens: "error", "drop", or "truncate" (the
    prompt loses its beginning; a completion that is itself too long loses its end). Raises `UserError` with every
    row that cannot be used. `name` is that of the split, for messages.
    """
    stretches = StretchTokenizer(tokenizer)
    keep_alive = None
    if cache is None:
        keep_alive = TemporaryFolder()
        cache = keep_alive.path
    pool = examples.pool
    key = _key(examples.store.column("id")[pool], stretches.fingerprint)
    folder = cache / "tokens" / key
    if not (folder / "done.json").exists():
        _build(folder, examples.store, pool, stretches)
    arrays = _Arrays(folder)
    position = np.searchsorted(pool, examples.index)
    return _view(examples, arrays, position, max_length, overlong, name, key, keep_alive)


def _key(ids: npt.NDArray[np.uint64], tokenizer: str) -> str:
    digest = hashlib.blake2b(f"{VERSION} {tokenizer} ".encode(), digest_size=16)
    digest.update(np.ascontiguousarray(ids).data)
    return digest.hexdigest()


class _Arrays:
    """The files of one cache folder: tokens and targets [all tokens], offsets [rows + 1], counts [rows], failed."""

    def __init__(self, folder: Path) -> None:
        self.tokens: npt.NDArray[np.int32] = _mapped(folder / "tokens.bin", np.int32)
        self.targets: npt.NDArray[np.bool_] = _mapped(folder / "targets.bin", np.bool_)
        self.offsets: Ints = np.load(folder / "offsets.npy")
        self.counts: npt.NDArray[np.int32] = np.load(folder / "counts.npy")
        self.failed: dict[str, str] = json.loads((folder / "done.json").read_text())["failed"]


def _mapped(path: Path, dtype: Any) -> npt.NDArray[Any]:
    if path.stat().st_size == 0:
        return np.empty(0, dtype)
    return np.memmap(path, dtype, mode="r").view(np.ndarray)


def _build(folder: Path, store: Store, pool: Ints, stretches: StretchTokenizer) -> None:
    """Writes the arrays beside their final place and moves them there at once, so that nobody sees half of them."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix="part-", dir=folder.parent))
    try:
        _write(part, store, pool, stretches)
        try:
            os.replace(part, folder)
        except OSError:
            if not (folder / "done.json").exists():
                raise  # not another process that wrote the same first
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _write(part: Path, store: Store, pool: Ints, stretches: StretchTokenizer) -> None:
    lengths: list[npt.NDArray[np.int32]] = []
    counts: list[npt.NDArray[np.int32]] = []
    failed: dict[str, str] = {}
    with open(part / "tokens.bin", "wb") as tokens_file, open(part / "targets.bin", "wb") as targets_file:
        for rows, examples in _chunks(store, pool):
            tokens, marks = [], []
            for row, found in zip(rows, stretches.encode(examples), strict=True):
                if isinstance(found, CannotRender):
                    failed[str(row)] = str(found)
                    found = ([], [])
                pieces, targets = found
                sizes = [len(piece) for piece in pieces]
                tokens.append(np.concatenate(pieces) if pieces else np.empty(0, np.int32))
                mark = np.repeat(np.array(targets, np.bool_), sizes)
                mark[:1] = False
                marks.append(mark)
            np.concatenate(tokens).astype(np.int32).tofile(tokens_file)
            np.concatenate(marks).tofile(targets_file)
            lengths.append(np.array([len(row) for row in tokens], np.int32))
            counts.append(np.array([np.count_nonzero(mark) for mark in marks], np.int32))
    none = [np.empty(0, np.int32)]
    np.save(
        part / "offsets.npy",
        np.concatenate([[0], np.cumsum(np.concatenate(lengths or none), dtype=np.int64)]),
    )
    np.save(part / "counts.npy", np.concatenate(counts or none))
    (part / "done.json").write_text(json.dumps({"failed": failed}))


def _chunks(store: Store, pool: Ints) -> Any:
    """Rows of the pool in the order of the store, `CHUNK` at a time, with their examples."""
    start = 0
    names = ("prompt", "chat", "completion", "metadata")
    for batch in store.scan(*names[:3]):
        low, high = np.searchsorted(pool, [start, start + batch.num_rows])
        rows = pool[low:high]
        table = batch.take(pa.array(rows - start))
        for at in range(0, len(rows), CHUNK):
            columns = [table.column(i).slice(at, CHUNK).to_pylist() for i in range(3)]
            examples = [to_example(*values, None) for values in zip(*columns, strict=True)]
            yield rows[at : at + CHUNK].tolist(), examples
        start += batch.num_rows


def _view(
    examples: Examples,
    arrays: _Arrays,
    position: Ints,
    max_length: int,
    overlong: str,
    name: str,
    key: str,
    keep_alive: object,
) -> Encoded:
    log = FaultLog()
    begins = arrays.offsets[position]
    lengths = (arrays.offsets[position + 1] - begins).astype(np.int32)
    counts = arrays.counts[position].copy()
    if arrays.failed:
        rows = [row for row in examples.index.tolist() if str(row) in arrays.failed]
        log.extend(_cannot_render(examples.store, row, arrays.failed[str(row)]) for row in rows)
    long = np.flatnonzero(lengths > max_length)
    all_targets = int(counts.sum(dtype=np.int64))
    keep = np.ones(len(lengths), bool)
    if overlong == "error":
        log.extend(_too_long(examples, i, int(lengths[i]), max_length) for i in long.tolist())
    elif overlong == "drop":
        keep[long] = False
    else:
        for i in long.tolist():
            begins[i], lengths[i], counts[i] = _cut(arrays, int(begins[i]), int(lengths[i]), max_length)
    failed = np.isin(examples.index, [int(row) for row in arrays.failed])
    for i in np.flatnonzero(keep & (counts == 0) & ~failed).tolist():
        file, row = examples.store.place(int(examples.index[i]))
        fix = "make the completion longer than nothing, or raise data.max_length"
        log.add(Fault("no-targets", "not one token of the row is trained on", fix, file, row))
    log.raise_errors()
    kept_targets = int(counts[keep].sum(dtype=np.int64))
    report = {
        "split": name,
        "examples": int(keep.sum()),
        "tokens": int(lengths[keep].sum(dtype=np.int64)),
        "target_tokens": kept_targets,
        "dropped": int((~keep).sum()),
        "truncated": len(long) if overlong == "truncate" else 0,
        "lost_target_percent": 100 * (1 - kept_targets / all_targets) if all_targets else 0.0,
        "longest": int(lengths[keep].max(initial=0)),
    }
    view = hashlib.blake2b(f"{key} {max_length} {overlong}".encode(), digest_size=8)
    view.update(np.ascontiguousarray(examples.id_numbers[keep]).data)
    return Encoded(
        examples.select(examples.index[keep]).ids,
        lengths[keep],
        counts[keep],
        view.hexdigest(),
        report,
        arrays.tokens,
        arrays.targets,
        begins[keep],
        keep_alive,
    )


def _cut(arrays: _Arrays, begin: int, length: int, limit: int) -> tuple[int, int, int]:
    """Begin, length and targets of a row cut to `limit` tokens: the prompt's beginning goes first."""
    marks = arrays.targets[begin : begin + length]
    spans = np.flatnonzero(~marks)
    prompt = int(spans[-1]) + 1 if len(spans) else 0  # up to the last stretch of targets
    drop = min(length - limit, max(prompt - 1, 0))
    size = min(length - drop, limit)
    kept = marks[drop : drop + size]
    return begin + drop, size, int(np.count_nonzero(kept[1:]))


def _too_long(examples: Examples, i: int, length: int, limit: int) -> Fault:
    file, row = examples.store.place(int(examples.index[i]))
    message = f"the row has {length} tokens and data.max_length is {limit}"
    fix = f"set data.max_length={length} or more, or data.overlong=truncate (keeps the completion) or drop"
    return Fault("too-long", message, fix, file, row)


def _cannot_render(store: Store, row: int, reason: str) -> Fault:
    file, number = store.place(row)
    return Fault(
        "template-error", f"the chat template refuses the row: {reason}", "correct the turns", file, number
    )
