"""Length and vocabulary limits of encoded rows; violations are reported once for all splits."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from kamerton.data.encode.sequences import Lengths, Mask, Sequences
from kamerton.data.encode.turns import UntrainedTurns
from kamerton.data.faults import FaultLog
from kamerton.data.store import Examples, Index
from kamerton.errors import Fault
from kamerton.model.limits import ModelLimits


class Limits:
    """The length limit, the action for longer rows, and the size of the model's vocabulary.

    `long_rows`, `unknown_tokens` and `untrained` collect the violations of each split; `report` then logs them.
    """

    def __init__(self, max_length: int, overlong: str, log: FaultLog, model: ModelLimits) -> None:
        self.overlong, self.log, self.tokens = overlong, log, model.tokens
        self.positions = model.positions
        self.configured = max_length
        self.most = min(max_length, model.positions or max_length)
        self._lengths: list[Lengths] = []  # of all rows so far
        self._first_long: tuple[str, int] | None = None
        self._has_text = self._has_long_text = False
        self._first_unknown: tuple[str, int, int] | None = None
        self._unknown = 0
        self.untrained = UntrainedTurns()

    def long_rows(self, sequences: Sequences, is_first: Mask) -> Index:
        """Return the positions of those that are too long, and list them; `is_first` masks repetitions of a row."""
        lengths, examples = sequences.lengths, sequences.examples
        self._lengths.append(lengths[is_first])
        long: Index = np.flatnonzero(lengths > self.most)
        is_text = sequences.counts == lengths - 1
        self._has_text |= bool(is_text.any())
        self._has_long_text |= bool(is_text[long].any())
        for i in long[is_first[long]].tolist():
            file, row = location = examples.store.location(int(examples.rows[i]))
            self._first_long = min(self._first_long or location, location)
            if self.overlong == "truncate":
                self.log.truncate(file, row, "too-long", tokens=int(lengths[i]), kept=self.most)
            else:
                self.log.reject(file, row, "too-long", tokens=int(lengths[i]))
        return long

    def unknown_tokens(self, sequences: Sequences, tokens: npt.NDArray[np.int32]) -> None:
        """Count the rows with tokens that have no embedding in the model."""
        reported: set[int] = set()
        for i, (begin, length) in enumerate(zip(sequences.begins.tolist(), sequences.lengths.tolist(), strict=True)):
            largest = int(tokens[begin : begin + length].max(initial=-1))
            if largest >= (self.tokens or 0) and sequences.position[i] not in reported:
                reported.add(int(sequences.position[i]))
                file, row = sequences.examples.store.location(int(sequences.examples.rows[i]))
                self._first_unknown = min(self._first_unknown or (file, row, largest), (file, row, largest))
        self._unknown += len(reported)

    def lost_targets(self, examples: Examples, lost: Lengths, percent: float) -> None:
        """Log a fault for each row that loses target tokens to the length limit, with the share of all targets."""
        for i in np.flatnonzero(lost > 0).tolist():
            file, row = examples.store.location(int(examples.rows[i]))
            message = f"{lost[i]} target tokens of the row are cut off ({percent:.2g} % of all target tokens are)"
            fix = f"raise data.max_length (now {self.configured}) or shorten the row"
            self.log.add(Fault("lost-targets", message, fix, file, row))

    def report(self, tokenizer: Any) -> None:
        """Log the faults of all splits together."""
        if (untrained := self.untrained.fault()) is not None:
            self.log.add(untrained)
        if self._first_long is not None:
            fault = self._too_long(np.concatenate(self._lengths), *self._first_long)
            (self.log.warn if self.overlong in ("drop", "truncate") else self.log.add)(fault)
        if self.overlong == "chunk" and self._lengths and not self._has_text:
            message = (
                "data.overlong=chunk has no effect: it cuts plain text, and every row has a prompt and a completion"
            )
            fix = "leave it out: data.overlong=error"
            self.log.add(Fault("unused-setting", message, fix, column="data.overlong"))
        if self._first_unknown is not None:
            file, row, token = self._first_unknown
            name = tokenizer.convert_ids_to_tokens(token)
            rows = (
                f"{self._unknown:,} row{'s contain' if self._unknown > 1 else ' contains'} such tokens, here {name!r}"
            )
            message = f"{self._mismatch(tokenizer)}: {rows} ({token})"
            self.log.add(Fault("unknown-token", message, _resize(tokenizer), file, row))
        elif self.tokens is not None and (tokenizer.pad_token_id or 0) >= self.tokens:
            message = f"{self._mismatch(tokenizer)}: its pad token {tokenizer.pad_token!r} is {tokenizer.pad_token_id}"
            self.log.add(Fault("unknown-token", message, _resize(tokenizer), column="model.name"))

    def _too_long(self, lengths: Lengths, file: str, row: int) -> Fault:
        longest, upper = int(lengths.max()), int(np.ceil(np.quantile(lengths, 0.95)))
        count = int((lengths > self.most).sum())
        limit = "data.max_length" if self.configured <= self.most else "the model's positions"
        message = (
            f"{count:,} of {len(lengths):,} rows have more tokens than {limit} ({self.most:,}):"
            f" the longest has {longest:,}, 95 % have at most {upper:,}"
        )
        cut = "data.overlong=truncate (the prompt loses its beginning)"
        if self.overlong == "drop":
            message, cut = f"{message}; they are left out", "nothing, if that is meant; else data.overlong=truncate"
        elif self.overlong == "truncate":
            message = f"{message}; they are cut to {self.most:,} tokens, the beginning of the prompt first"
            cut = "nothing, if that is meant; else data.overlong=drop (leaves them out)"
        else:
            cut += " or data.overlong=drop (leaves them out)"
            cut = f"data.overlong=chunk (windows of plain text), {cut}" if self._has_long_text else cut
        if self.overlong == "chunk":
            message += "; they are not plain text, which alone is cut into windows"
        raised = self.positions is None or longest <= self.positions
        longer = [f"data.max_length={longest}"] if self.configured < longest else []
        longer += [] if raised else [f"a model with at least {longest:,} positions"]
        return Fault("too-long", message, f"{cut}, or {' and '.join(longer)}", file, row)

    def _mismatch(self, tokenizer: Any) -> str:
        return f"the tokenizer has {len(tokenizer):,} tokens and the model's embedding {self.tokens:,} rows"


def _resize(tokenizer: Any) -> str:
    resized = f"model.resize_token_embeddings({len(tokenizer)})"
    return f"use the tokenizer that the model was saved with, or resize the embedding ({resized}) and save the model"
