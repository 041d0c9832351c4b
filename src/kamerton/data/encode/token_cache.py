"""The token cache: token ids and target marks of all rows in flat memory-mapped arrays, written once and shared.

Every row of the data set is cached at its full length; splits, folds and length limits are views of the arrays. The
cache key hashes everything that determines the tokens: the rows, the tokenizer with its chat template, and the version
of this code.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from kamerton.data.encode.chunks import TokenChunk
from kamerton.data.encode.control import LiteralToken
from kamerton.data.encode.targets import LAST
from kamerton.data.encode.tokenize import StretchTokenizer
from kamerton.data.encode.turns import TurnNote
from kamerton.data.example import DataExample, with_answer
from kamerton.data.read.rows import build_once
from kamerton.data.store import Index, Store
from kamerton.data.stored import to_example

VERSION = "8"  # of the arrays; change it when the same rows and tokenizer give other tokens
CHUNK = 4096  # rows rendered and tokenised together


class TokenArrays:
    """The files of one cache folder: tokens and targets [all tokens], offsets [sequences + 1], counts of targets.

    The sequences of row i are `first[i]` to `first[i + 1]`; `first` is None if every row has one. `ends` and `weights`
    are as in `TokenChunk`; None if every sequence is the whole row, or has weight 1. `failed` maps rows that could not
    be rendered to the reason; `largest` is the largest token id. `literals` and `turns` have the findings of each row,
    `fallbacks` what is written in the fallback form. Rows are positions in the pool.
    """

    def __init__(self, folder: Path) -> None:
        self.tokens: npt.NDArray[np.int32] = _mapped(folder / "tokens.bin", np.int32)
        self.targets: npt.NDArray[np.bool_] = _mapped(folder / "targets.bin", np.bool_)
        self.offsets: Index = np.load(folder / "offsets.npy")
        self.counts: npt.NDArray[np.int32] = np.load(folder / "counts.npy")
        self.first: Index | None = _optional(folder / "first.npy")
        self.ends: npt.NDArray[np.int32] | None = _optional(folder / "ends.npy")
        self.weights: npt.NDArray[np.float64] | None = _optional(folder / "weights.npy")
        done = json.loads((folder / "done.json").read_text())
        self.failed: dict[int, str] = {int(position): reason for position, reason in done["failed"].items()}
        self.literals = {int(i): [LiteralToken(**token) for token in tokens] for i, tokens in done["held"].items()}
        self.turns = {int(i): [TurnNote(**note) for note in notes] for i, notes in done["turns"].items()}
        self.fallbacks: list[str] = done["fallbacks"]
        self.largest: int = done["largest"]


def _optional(path: Path) -> Any:
    return np.load(path) if path.exists() else None


def _mapped(path: Path, dtype: Any) -> npt.NDArray[Any]:
    if path.stat().st_size == 0:
        return np.empty(0, dtype)
    return np.memmap(path, dtype, mode="r").view(np.ndarray)


def token_arrays(cache: Path, store: Store, pool: Index, tokenizer: StretchTokenizer) -> TokenArrays:
    """Return the arrays of the rows `pool` (ascending) from the cache, which is filled if necessary."""
    digest = hashlib.blake2b(f"{VERSION} {tokenizer.fingerprint} ".encode(), digest_size=16)
    digest.update(np.ascontiguousarray(store.column("id")[pool]).data)
    folder = cache / "tokens" / digest.hexdigest()
    return TokenArrays(build_once(folder, lambda part: _write(part, store, pool, tokenizer)))


def _write(part: Path, store: Store, pool: Index, tokenizer: StretchTokenizer) -> None:
    """Render each chunk while the previous one is tokenised, which does not hold Python's lock."""
    lengths: list[npt.NDArray[np.int32]] = []
    counts: list[npt.NDArray[np.int32]] = []
    sizes, ends_of, weights = [np.empty(0, np.int32)], [np.empty(0, np.int32)], [np.empty(0)]
    fallbacks: set[str] = set()
    failed: dict[int, str] = {}  # by position in the pool, as are `literals` and `turns`
    literals: dict[int, list[dict[str, Any]]] = {}
    turns: dict[int, list[dict[str, Any]]] = {}
    largest = -1
    with (
        open(part / "tokens.bin", "wb") as tokens_file,
        open(part / "targets.bin", "wb") as targets_file,
        ThreadPoolExecutor(1) as worker,
    ):

        def append(chunk: TokenChunk) -> None:
            nonlocal largest
            start = sum(map(len, sizes))
            largest = max(largest, int(chunk.tokens.max(initial=-1)))
            chunk.tokens.tofile(tokens_file)
            chunk.targets.tofile(targets_file)
            lengths.append(chunk.lengths)
            sizes.append(chunk.sizes)
            ends_of.append(chunk.ends)
            weights.append(chunk.weights)
            fallbacks.update(chunk.fallbacks)
            ends = np.cumsum(chunk.lengths, dtype=np.int64)
            targets = np.r_[0, np.cumsum(chunk.targets, dtype=np.int64)]
            counts.append((targets[ends] - targets[ends - chunk.lengths]).astype(np.int32))
            failed.update({start + i: reason for i, reason in chunk.failed.items()})
            literals.update({start + i: [asdict(token) for token in tokens] for i, tokens in chunk.literals.items()})
            turns.update({start + i: [asdict(note) for note in notes] for i, notes in chunk.turns.items()})

        running: Future[TokenChunk] | None = None
        for examples in _chunks(store, pool):
            rendered = tokenizer.render(examples)
            if running is not None:
                append(running.result())
            running = worker.submit(tokenizer.tokenize, examples, rendered)
        if running is not None:
            append(running.result())
    none = [np.empty(0, np.int32)]
    np.save(part / "offsets.npy", np.r_[0, np.cumsum(np.concatenate(lengths or none), dtype=np.int64)])
    np.save(part / "counts.npy", np.concatenate(counts or none))
    further = {
        "first": (np.r_[0, np.cumsum(np.concatenate(sizes), dtype=np.int64)], all((part == 1).all() for part in sizes)),
        "ends": (np.concatenate(ends_of), all((part == LAST).all() for part in ends_of)),
        "weights": (np.concatenate(weights), all((part == 1).all() for part in weights)),
    }
    for name, (values, is_usual) in further.items():
        if not is_usual:
            np.save(part / f"{name}.npy", values)
    done = {"failed": failed, "held": literals, "turns": turns, "fallbacks": sorted(fallbacks), "largest": largest}
    (part / "done.json").write_text(json.dumps(done))


def _chunks(store: Store, pool: Index) -> Iterator[list[DataExample]]:
    """Yield the examples of the pool (ascending rows) without their metadata, `CHUNK` at a time."""
    start = 0
    for batch in store.scan("prompt", "chat", "completion", "extras"):
        low, high = np.searchsorted(pool, [start, start + batch.num_rows])
        for at in range(low, high, CHUNK):
            rows = pool[at : min(at + CHUNK, high)]
            columns = [column.to_pylist() for column in batch.take(pa.array(rows - start)).columns]
            examples = (to_example(p, chat, c, None, extras) for p, chat, c, extras in zip(*columns, strict=True))
            yield [with_answer(example) for example in examples]
        start += batch.num_rows
