"""Encoded examples: token ids and target marks of all rows in flat memory-mapped arrays, written once and shared.

What is cached is every row of the data set at its full length; splits, folds and length limits are views of it and
cost nothing more. The cache key hashes all that shapes the tokens: the rows, the tokenizer with its chat template, and
the version of this code.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from kamerton.data.encode.control import TEXT, Held
from kamerton.data.encode.limits import Limits
from kamerton.data.encode.render import generation_prompt_differs
from kamerton.data.encode.tokenize import StretchTokenizer, TokenChunk
from kamerton.data.encode.turns import DROPPED, TurnNote
from kamerton.data.example import DataExample
from kamerton.data.faults import FaultLog
from kamerton.data.read.rows import build_once
from kamerton.data.store import Examples, Index, Store, TemporaryFolder, to_example
from kamerton.errors import Fault
from kamerton.model.limits import ModelLimits

VERSION = "5"  # of the arrays; change it when the same rows and tokenizer give other tokens
CHUNK = 4096  # rows rendered and tokenised together
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Encoded:
    """Token sequences, one for each example of a split, as views of shared flat arrays.

    `examples` are those that are left; `lengths` and `target_counts` are [examples] int32. `control_tokens` says how
    their texts were tokenised (`StretchTokenizer`).
    """

    examples: Examples
    lengths: npt.NDArray[np.int32]
    target_counts: npt.NDArray[np.int32]
    fingerprint: str
    control_tokens: str
    report: dict[str, Any]
    _tokens: npt.NDArray[np.int32]
    _targets: npt.NDArray[np.bool_]
    _begins: Index
    _keep_alive: object = None

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def ids(self) -> pa.StringArray:
        """`DataExample.id` of each."""
        return self.examples.ids

    def select(self, positions: Index) -> Encoded:
        """Return some of the examples, in this order; `report` stays that of all."""
        return replace(
            self,
            examples=self.examples.select(self.examples.rows[positions]),
            lengths=self.lengths[positions],
            target_counts=self.target_counts[positions],
            _begins=self._begins[positions],
        )

    def tokens(self, i: int) -> npt.NDArray[np.int32]:
        """Return token ids of example i: [length]."""
        begin = self._begins[i]
        return self._tokens[begin : begin + self.lengths[i]]

    def targets(self, i: int) -> npt.NDArray[np.bool_]:
        """Return True where the token of example i is predicted and counts: [length]; never at position 0."""
        begin = self._begins[i]
        marks = self._targets[begin : begin + self.lengths[i]]
        if len(marks) and marks[0]:  # only where the beginning was cut off
            marks = marks.copy()
            marks[0] = False
        return marks


def encode(  # noqa: PLR0913 - by keyword
    examples: Examples,
    tokenizer: Any,
    *,
    max_length: int,
    overlong: str,
    cache: Path | None,
    name: str,
    control_tokens: str = TEXT,
    log: FaultLog | None = None,
    model: ModelLimits | None = None,
) -> Encoded:
    """Return token ids and targets of one split; see `encode_within`.

    `overlong` says what becomes of rows with more than `max_length` tokens, or more than the `model` has positions:
    "error", "drop", or "truncate" (the prompt loses its beginning; a completion that is itself too long loses its
    end). `control_tokens` says what the string of a control token is in a text (`StretchTokenizer`). Faults go to
    `log`, which carries the policy for them; without it, `UserError` is raised with all of them.
    """
    limits = Limits(max_length, overlong, FaultLog() if log is None else log, model or ModelLimits())
    result = encode_within(limits, examples, tokenizer, control_tokens, cache=cache, name=name)
    limits.report(tokenizer)
    if log is None:
        limits.log.raise_errors()
    return result


def encode_within(
    limits: Limits, examples: Examples, tokenizer: Any, control_tokens: str, *, cache: Path | None, name: str
) -> Encoded:
    """Return token ids and targets of `examples`, from the cache if they are there; `name` is that of the split.

    What the limits do not allow is noted in them; `limits.report` tells of it.
    """
    stretches = StretchTokenizer(tokenizer, control_tokens)
    keep_alive = None
    if cache is None:
        keep_alive = TemporaryFolder()
        cache = keep_alive.path
    pool = examples.pool
    key = _key(examples.store.column("id")[pool], stretches.fingerprint)
    folder = build_once(cache / "tokens" / key, lambda part: _write(part, examples.store, pool, stretches))
    note = generation_prompt_differs(tokenizer)
    return _view(examples, _Arrays(folder), limits, name, stretches, note, keep_alive)


def _key(ids: npt.NDArray[np.uint64], tokenizer: str) -> str:
    digest = hashlib.blake2b(f"{VERSION} {tokenizer} ".encode(), digest_size=16)
    digest.update(np.ascontiguousarray(ids).data)
    return digest.hexdigest()


class _Arrays:
    """The files of one cache folder: tokens and targets [all tokens], offsets [rows + 1], counts [rows].

    `failed` are the rows that could not be rendered, with the reason; `largest` is the largest token id.
    """

    def __init__(self, folder: Path) -> None:
        self.tokens: npt.NDArray[np.int32] = _mapped(folder / "tokens.bin", np.int32)
        self.targets: npt.NDArray[np.bool_] = _mapped(folder / "targets.bin", np.bool_)
        self.offsets: Index = np.load(folder / "offsets.npy")
        self.counts: npt.NDArray[np.int32] = np.load(folder / "counts.npy")
        done = json.loads((folder / "done.json").read_text())
        self.failed: dict[int, str] = {int(position): reason for position, reason in done["failed"].items()}
        self.held = {int(position): [Held(**one) for one in held] for position, held in done["held"].items()}
        self.turns = {int(position): [TurnNote(**one) for one in notes] for position, notes in done["turns"].items()}
        self.largest: int = done["largest"]


def _mapped(path: Path, dtype: Any) -> npt.NDArray[Any]:
    if path.stat().st_size == 0:
        return np.empty(0, dtype)
    return np.memmap(path, dtype, mode="r").view(np.ndarray)


def _write(part: Path, store: Store, pool: Index, stretches: StretchTokenizer) -> None:
    """Render one chunk while the one before it is tokenised; the latter does not hold Python's lock."""
    lengths: list[npt.NDArray[np.int32]] = []
    counts: list[npt.NDArray[np.int32]] = []
    failed: dict[int, str] = {}  # by position in the pool, as are `held` and `turns`
    held: dict[int, list[dict[str, Any]]] = {}
    turns: dict[int, list[dict[str, Any]]] = {}
    largest = -1
    with (
        open(part / "tokens.bin", "wb") as tokens_file,
        open(part / "targets.bin", "wb") as targets_file,
        ThreadPoolExecutor(1) as worker,
    ):

        def take(chunk: TokenChunk) -> None:
            nonlocal largest
            begun = sum(map(len, lengths))
            largest = max(largest, int(chunk.tokens.max(initial=-1)))
            chunk.tokens.tofile(tokens_file)
            chunk.targets.tofile(targets_file)
            lengths.append(chunk.lengths)
            ends = np.cumsum(chunk.lengths, dtype=np.int64)
            targets = np.r_[0, np.cumsum(chunk.targets, dtype=np.int64)]
            counts.append((targets[ends] - targets[ends - chunk.lengths]).astype(np.int32))
            failed.update({begun + i: reason for i, reason in chunk.failed.items()})
            held.update({begun + i: [asdict(one) for one in found] for i, found in chunk.held.items()})
            turns.update({begun + i: [asdict(note) for note in notes] for i, notes in chunk.turns.items()})

        running: Future[TokenChunk] | None = None
        for examples in _chunks(store, pool):
            rendered = stretches.render(examples)
            if running is not None:
                take(running.result())
            running = worker.submit(stretches.tokenize, examples, rendered)
        if running is not None:
            take(running.result())
    none = [np.empty(0, np.int32)]
    np.save(part / "offsets.npy", np.r_[0, np.cumsum(np.concatenate(lengths or none), dtype=np.int64)])
    np.save(part / "counts.npy", np.concatenate(counts or none))
    (part / "done.json").write_text(json.dumps({"failed": failed, "held": held, "turns": turns, "largest": largest}))


def _chunks(store: Store, pool: Index) -> Iterator[list[DataExample]]:
    """Yield the examples of the pool (ascending rows) without their metadata, `CHUNK` at a time."""
    start = 0
    for batch in store.scan("prompt", "chat", "completion"):
        low, high = np.searchsorted(pool, [start, start + batch.num_rows])
        for at in range(low, high, CHUNK):
            rows = pool[at : min(at + CHUNK, high)]
            columns = [column.to_pylist() for column in batch.take(pa.array(rows - start)).columns]
            yield [to_example(p, chat, c, None) for p, chat, c in zip(*columns, strict=True)]
        start += batch.num_rows


def _view(
    examples: Examples,
    arrays: _Arrays,
    limits: Limits,
    name: str,
    stretches: StretchTokenizer,
    note: bool,
    keep_alive: object,
) -> Encoded:
    """Return the examples' rows of the arrays, within the limits."""
    place = np.searchsorted(examples.pool, examples.rows)
    begins = arrays.offsets[place]
    lengths = (arrays.offsets[place + 1] - begins).astype(np.int32)
    counts = arrays.counts[place].copy()
    wanted = int(counts.sum(dtype=np.int64))
    once = _once(examples.rows)
    if limits.tokens is not None and arrays.largest >= limits.tokens:
        _note_unknown(examples, arrays, begins, lengths, once, limits)
    keep = _fit(examples, arrays, begins, lengths, counts, once, limits)
    keep &= _usable(examples, arrays, place, counts, limits)
    kept = int(counts[keep].sum(dtype=np.int64))
    report: dict[str, Any] = {
        "split": name,
        "examples": int(keep.sum()),
        "tokens": int(lengths[keep].sum(dtype=np.int64)),
        "target_tokens": kept,
        "dropped": int((~keep).sum()),
        "truncated": int(np.count_nonzero(arrays.offsets[place + 1] - arrays.offsets[place] != lengths)),
        "lost_target_percent": 100 * (1 - kept / wanted) if wanted else 0.0,
        "longest": int(lengths[keep].max(initial=0)),
        "generation_prompt_differs": note,
    }
    if limits.overlong == "truncate":
        _say_lost(examples, arrays.counts[place] - counts, report, limits)
    if len(keep) and not keep.any():
        fix = f"raise data.max_length (now {limits.configured})"
        limits.log.add(
            Fault("too-few-rows", f"no row of the {name} split is left to use", fix, column="data.max_length")
        )
    chosen = examples.select(examples.rows[keep])
    tokens_of = stretches.fingerprint
    view = hashlib.blake2b(f"{tokens_of} {limits.most} {limits.overlong} {chosen.fingerprint}".encode(), digest_size=8)
    return Encoded(
        chosen,
        lengths[keep],
        counts[keep],
        view.hexdigest(),
        stretches.control_tokens,
        report,
        arrays.tokens,
        arrays.targets,
        begins[keep],
        keep_alive,
    )


def _fit(
    examples: Examples,
    arrays: _Arrays,
    begins: Index,
    lengths: npt.NDArray[np.int32],
    counts: npt.NDArray[np.int32],
    once: Mask,
    limits: Limits,
) -> Mask:
    """Cut or leaves out rows that are too long (changing begins, lengths and counts); which rows stay."""
    keep = np.ones(len(lengths), bool)
    long = limits.long_rows(examples, once, lengths)
    if limits.overlong == "truncate":
        for i in long.tolist():
            begins[i], lengths[i], counts[i] = _cut(arrays, int(begins[i]), int(lengths[i]), limits.most)
    elif limits.overlong == "drop":
        keep[long] = False
    return keep


def _note_unknown(
    examples: Examples,
    arrays: _Arrays,
    begins: Index,
    lengths: npt.NDArray[np.int32],
    once: Mask,
    limits: Limits,
) -> None:
    """Show `limits` the rows that hold tokens the model has no embedding for."""
    for i in np.flatnonzero(once).tolist():
        largest = int(arrays.tokens[begins[i] : begins[i] + lengths[i]].max(initial=-1))
        if largest >= (limits.tokens or 0):
            limits.unknown_tokens(*examples.store.location(int(examples.rows[i])), largest)


def _once(rows: Index) -> Mask:
    """Return True where a row comes first: what is said of a row is said once, however often it is repeated."""
    result = np.zeros(len(rows), bool)
    result[np.unique(rows, return_index=True)[1]] = True
    return result


def _cut(arrays: _Arrays, begin: int, length: int, limit: int) -> tuple[int, int, int]:
    """Return begin, length and targets of a row cut to `limit` tokens: the prompt's beginning goes first."""
    marks = arrays.targets[begin : begin + length]
    read = np.flatnonzero(~marks)
    prompt = int(read[-1]) + 1 if len(read) else 0  # up to the last stretch of targets
    drop = min(length - limit, max(prompt - 1, 0))
    size = min(length - drop, limit)
    return begin + drop, size, int(np.count_nonzero(marks[drop + 1 : drop + size]))


def _say_lost(examples: Examples, lost: npt.NDArray[np.int32], report: dict[str, Any], limits: Limits) -> None:
    """A fault for each row that loses target tokens to the length limit, with the share of all."""
    for i in np.flatnonzero((lost > 0) & _once(examples.rows)).tolist():
        file, row = examples.store.location(int(examples.rows[i]))
        share = report["lost_target_percent"]
        message = f"{lost[i]} target tokens of the row are cut off ({share:.2g} % of all target tokens are)"
        fix = f"raise data.max_length (now {limits.configured}) or shorten the row"
        limits.log.add(Fault("lost-targets", message, fix, file, row))


def _usable(examples: Examples, arrays: _Arrays, place: Index, counts: npt.NDArray[np.int32], limits: Limits) -> Mask:
    """Return which rows the template could render whole, have something to train on, and may hold what they hold."""
    log = limits.log
    keep = counts > 0
    once = _once(examples.rows)
    for i in np.flatnonzero(np.isin(place, [*arrays.held, *arrays.turns])).tolist():
        file, row = examples.store.location(int(examples.rows[i]))
        notes = arrays.turns.get(int(place[i]), [])
        faults = [note.fault(file, row) for note in notes if note.kind == DROPPED]
        faults += [held.fault(file, row) for held in arrays.held.get(int(place[i]), [])]
        keep[i] &= log.add_row(faults) if once[i] else all(log.action(fault.code) == "warn" for fault in faults)
        if once[i] and keep[i]:
            limits.untrained.add(file, row, notes)
    for i in np.flatnonzero((counts == 0) & once).tolist():
        file, row = examples.store.location(int(examples.rows[i]))
        reason = arrays.failed.get(int(place[i]))
        if reason is None:
            fix = "raise data.max_length, or lengthen the completion"
            fault = Fault("no-targets", "not one token of the row is trained on", fix, file, row)
        else:
            fix = "correct the turns, or use a model whose template takes them"
            fault = Fault("template-error", f"the chat template refuses the row: {reason}", fix, file, row)
        log.add_row([fault])
    return keep
