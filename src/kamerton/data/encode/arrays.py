"""Encoded examples: the token ids and targets of a split, a view of the token cache within the length limits."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from kamerton.data.encode.chat_template import generation_prompt_differs
from kamerton.data.encode.control import TEXT
from kamerton.data.encode.limits import Limits
from kamerton.data.encode.sequences import Lengths, Mask, Sequences, find_sequences
from kamerton.data.encode.targets import Targets
from kamerton.data.encode.token_cache import TokenArrays, token_arrays
from kamerton.data.encode.tokenize import StretchTokenizer
from kamerton.data.encode.turns import DROPPED
from kamerton.data.faults import FaultLog
from kamerton.data.parts import ALTERNATIVE, WHOLE
from kamerton.data.store import Examples, Index, TemporaryFolder
from kamerton.errors import Fault
from kamerton.model.limits import ModelLimits


@dataclass(frozen=True)
class Encoded:
    """The token sequences of a split's examples, as views of shared flat arrays.

    `examples` are those within the limits, or their parts if an example needs several sequences
    (`kamerton.data.parts`); `lengths` and `target_counts` are [examples] int32. `weights` are the weights of their
    targets in the loss: [examples], None if all are 1. `control_tokens` and `trained` are what the texts were tokenised
    with (`StretchTokenizer`).
    """

    examples: Examples
    lengths: npt.NDArray[np.int32]
    target_counts: npt.NDArray[np.int32]
    fingerprint: str
    control_tokens: str
    trained: Targets
    report: dict[str, Any]
    weights: npt.NDArray[np.float64] | None
    _tokens: npt.NDArray[np.int32]
    _targets: npt.NDArray[np.bool_]
    _begins: Index
    _keep_alive: object = None

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def ids(self) -> pa.StringArray:
        """`DataExample.id` of each example."""
        return self.examples.ids

    @property
    def starts(self) -> Index:
        """The first sequence of each example that is learnt from as a whole: all completions of a prompt, else one."""
        parts = self.examples.parts
        return np.arange(len(self)) if parts is None else np.flatnonzero(parts < ALTERNATIVE)

    def select(self, positions: Index) -> Encoded:
        """Return a view of the examples at these positions, in this order; `report` is unchanged."""
        return replace(
            self,
            examples=_select(self.examples, positions),
            lengths=self.lengths[positions],
            target_counts=self.target_counts[positions],
            weights=None if self.weights is None else self.weights[positions],
            _begins=self._begins[positions],
        )

    def without_parts(self) -> Encoded:
        """Return a view of the sequences that end with an example's completion."""
        parts = self.examples.parts
        return self if parts is None else self.select(np.flatnonzero(parts == WHOLE))

    def tokens(self, i: int) -> npt.NDArray[np.int32]:
        """Return token ids of example i: [length]."""
        begin = self._begins[i]
        return self._tokens[begin : begin + self.lengths[i]]

    def targets(self, i: int) -> npt.NDArray[np.bool_]:
        """Return the mask of the tokens of example i that are trained on: [length]; False at position 0."""
        begin = self._begins[i]
        targets = self._targets[begin : begin + self.lengths[i]]
        if len(targets) and targets[0]:  # only in truncated examples
            targets = targets.copy()
            targets[0] = False
        return targets


def encode(  # noqa: PLR0913 - by keyword
    examples: Examples,
    tokenizer: Any,
    *,
    max_length: int,
    overlong: str,
    cache: Path | None,
    name: str,
    control_tokens: str = TEXT,
    targets: Targets | None = None,
    log: FaultLog | None = None,
    model: ModelLimits | None = None,
) -> Encoded:
    """Return the token ids and targets of one split; see `encode_within`.

    `overlong` is the action for rows with more than `max_length` tokens, or more than the `model` has positions:
    "error", "drop", "truncate" (the prompt loses its beginning; a completion that is itself too long loses its end), or
    "chunk" (plain text is cut into windows; other rows are errors). `control_tokens` and `targets` are those of
    `StretchTokenizer`. Faults are added to `log`, which holds the policy; without a log, `UserError` is raised with all
    of them.
    """
    limits = Limits(max_length, overlong, FaultLog() if log is None else log, model or ModelLimits())
    stretches = StretchTokenizer(tokenizer, control_tokens, targets)
    result = encode_within(limits, examples, stretches, cache=cache, name=name)
    limits.report(tokenizer)
    if log is None:
        limits.log.raise_errors()
    return result


def encode_within(
    limits: Limits, examples: Examples, stretches: StretchTokenizer, *, cache: Path | None, name: str
) -> Encoded:
    """Return the token ids and targets of `examples`, from the cache if possible; `name` is the split's name.

    Rows beyond the limits are noted in `limits`; `limits.report` logs them.
    """
    keep_alive = None
    if cache is None:
        keep_alive = TemporaryFolder()
        cache = keep_alive.path
    arrays = token_arrays(cache, examples.store, examples.pool, stretches)
    note = generation_prompt_differs(stretches.tokenizer)
    return _view(examples, arrays, limits, name, stretches, note, keep_alive)


def _view(
    examples: Examples,
    arrays: TokenArrays,
    limits: Limits,
    name: str,
    stretches: StretchTokenizer,
    note: bool,
    keep_alive: object,
) -> Encoded:
    """Return the examples' rows of the arrays, within the limits."""
    pieces = find_sequences(examples, arrays)
    undivided, sequences = len(examples), len(pieces.position)
    if limits.tokens is not None and arrays.largest >= limits.tokens:
        limits.unknown_tokens(pieces, arrays.tokens)
    if limits.overlong == "chunk":
        pieces = pieces.in_windows(limits.most)
    is_first = pieces.first_of_part
    begins, lengths, counts = pieces.begins, pieces.lengths, pieces.counts
    fits = np.ones(len(lengths), bool)
    long = limits.long_rows(pieces, is_first)
    if limits.overlong == "truncate":
        begins, lengths, counts = begins.copy(), lengths.copy(), counts.copy()
        for i in long.tolist():
            begins[i], lengths[i], counts[i] = _truncate(arrays, int(begins[i]), int(lengths[i]), limits.most)
    elif limits.overlong == "drop":
        fits[long] = False
    keep = fits & _usable(pieces, arrays, counts, is_first, limits, stretches.targets)
    is_alternative = pieces.is_alternative
    if is_alternative.any():  # completions are compared, so none is left without the others
        keep &= ~np.isin(pieces.source, pieces.source[~keep])
    answered = pieces.examples.is_answered  # what stands in for the completion of a prompt alone is no target
    kept = int(counts[keep & answered].sum(dtype=np.int64))
    total = int(pieces.counts[answered].sum(dtype=np.int64))
    report: dict[str, Any] = {
        "split": name,
        "examples": (kept_examples := len(np.unique(pieces.source[keep]))),
        "sequences": int(keep.sum()),
        "tokens": int(lengths[keep].sum(dtype=np.int64)),
        "target_tokens": kept,
        "dropped": undivided - kept_examples,
        "truncated": int(np.count_nonzero(pieces.lengths != lengths)),
        "lost_target_percent": 100 * (1 - kept / total) if total else 0.0,
        "longest": int(lengths[keep].max(initial=0)),
        "generation_prompt_differs": note,
        "further_turns": sequences - undivided - int(is_alternative.sum()),
        "alternatives": int(is_alternative.sum()),
        "further_windows": len(pieces.position) - sequences,
        "fallback": arrays.fallbacks,
    }
    if limits.overlong == "truncate":
        limits.lost_targets(pieces.examples, (pieces.counts - counts) * is_first, report["lost_target_percent"])
    if len(keep) and not keep.any():
        message, fix = f"no row of the {name} split is left to use", f"raise data.max_length (now {limits.configured})"
        limits.log.add(Fault("too-few-rows", message, fix, column="data.max_length"))
    examples = _select(pieces.examples, np.flatnonzero(keep))
    view = f"{stretches.fingerprint} {limits.most} {limits.overlong} {examples.fingerprint}"
    fingerprint = hashlib.blake2b(view.encode(), digest_size=8).hexdigest()
    weights = None if pieces.weights is None or (pieces.weights[keep] == 1).all() else pieces.weights[keep]
    settings = fingerprint, stretches.control_tokens, stretches.targets, report, weights
    return Encoded(
        examples, lengths[keep], counts[keep], *settings, arrays.tokens, arrays.targets, begins[keep], keep_alive
    )


def _select(examples: Examples, positions: Index) -> Examples:
    return examples.select(examples.rows[positions], None if examples.parts is None else examples.parts[positions])


def _truncate(arrays: TokenArrays, begin: int, length: int, limit: int) -> tuple[int, int, int]:
    """Return begin, length and number of targets of a row with `limit` tokens: the prompt's beginning goes first."""
    targets = arrays.targets[begin : begin + length]
    context = np.flatnonzero(~targets)
    prompt = int(context[-1]) + 1 if len(context) else 0  # up to the last stretch of targets
    drop = min(length - limit, max(prompt - 1, 0))
    size = min(length - drop, limit)
    return begin + drop, size, int(np.count_nonzero(targets[drop + 1 : drop + size]))


def _usable(
    pieces: Sequences, arrays: TokenArrays, counts: Lengths, is_first: Mask, limits: Limits, targets: Targets
) -> Mask:
    """Return the mask of rows that the template renders completely, that have targets, and that the policy permits."""
    log, examples, position, is_first_of_row = limits.log, pieces.examples, pieces.position, pieces.first_of_row
    keep = counts > 0
    rejected: set[int] = set()
    for i in np.flatnonzero(np.isin(position, [*arrays.literals, *arrays.turns])).tolist():
        file, row = examples.store.location(int(examples.rows[i]))
        notes = arrays.turns.get(int(position[i]), [])
        faults = [note.fault(file, row) for note in notes if note.kind == DROPPED]
        faults += [token.fault(file, row) for token in arrays.literals.get(int(position[i]), [])]
        if is_first_of_row[i] and not log.add_row(faults):
            rejected.add(int(position[i]))
        keep[i] &= int(position[i]) not in rejected
        if is_first_of_row[i] and keep[i]:
            limits.untrained.add(file, row, notes)
    for i in np.flatnonzero((counts == 0) & is_first).tolist():
        file, row = examples.store.location(int(examples.rows[i]))
        reason = arrays.failed.get(int(position[i]))
        if reason is None:
            fix = "raise data.max_length, or lengthen the completion"
            fix = fix if targets.train_on == "all" else f"set data.train_on=all (now {targets.train_on})"
            fault = Fault("no-targets", "not one token of the row is trained on", fix, file, row)
        else:
            fix = "correct the turns, or use a model whose template takes them"
            fault = Fault("template-error", f"the chat template refuses the row: {reason}", fix, file, row)
        log.add_row([fault])
    return keep
