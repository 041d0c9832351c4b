"""Parity: the trained tokens are those that the model reads and writes at inference, checked row by row.

For each trained turn the sequence must begin with the tokens of the chat template's rendering of the turns before it
with the generation prompt, tokenised as a whole; the targets must be the tokens that follow in the rendering that ends
with the turn, and no other token.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from kamerton.data.encode.arrays import Encoded
from kamerton.data.encode.render import AnnotatedStretches, completions_of
from kamerton.data.encode.tokenize import StretchTokenizer
from kamerton.data.example import DataExample, with_answer
from kamerton.data.parts import ALTERNATIVE, WHOLE, part_of
from kamerton.data.store import Examples
from kamerton.errors import Fault

SHOWN = 20  # characters before the first differing token


@dataclass(slots=True)
class Parity:
    """The trained turns that were compared, those that are equal, the faults of the others, and rows that are not
    compared because they are cut or have no prompt."""

    turns: int = 0
    equal: int = 0
    skipped: int = 0
    faults: list[Fault] = field(default_factory=list)

    def describe(self) -> str:
        """Return the result in one line."""
        skipped = f"; {self.skipped:,} sequences of plain or cut text have no prompt to compare" if self.skipped else ""
        return f"{self.equal:,} of {self.turns:,} trained turns{skipped}"


def check_parity(encoded: Encoded, stretches: StretchTokenizer, parity: Parity) -> None:
    """Compare every trained turn of a split, and add the results to `parity`."""
    examples = encoded.examples
    parts = np.zeros(len(encoded), np.int64) if examples.parts is None else examples.parts
    _, distinct = np.unique(np.stack([examples.rows, parts]), axis=1, return_index=True)
    for i in sorted(distinct.tolist()):
        (example,) = Examples(examples.store, examples.rows[i : i + 1])
        turns = _trained(with_answer(example), int(parts[i]), stretches)
        is_cut = encoded.report["truncated"] and encoded.lengths[i] == encoded.report["longest"]
        if not turns or is_cut:
            parity.skipped += 1
            continue
        sequence, end = _Sequence(encoded.tokens(i).tolist(), encoded.targets(i).tolist(), stretches), 0
        for place, ending in turns:
            difference, end = sequence.difference(ending, end, is_last=ending is turns[-1][1])
            parity.turns += 1
            parity.equal += difference is None
            if difference is not None:
                fix = "use a tokenizer and chat template that agree, or data.policy.parity=warn only reports such rows"
                file, row = examples.store.location(int(examples.rows[i]))
                parity.faults.append(Fault("parity", difference, fix, file, row, place))


def _trained(example: DataExample, part: int, stretches: StretchTokenizer) -> list[tuple[str, DataExample]]:
    """Return the trained turns of a sequence: their places, and the conversation that ends with each."""
    if example.prompt == () or part < WHOLE:
        return []
    if example.score is not None:
        number = 0 if part == WHOLE else part - ALTERNATIVE + 1
        place = "completion" if number == 0 else f"alternatives[{number - 1}]"
        return [(place, completions_of(example)[number])]
    turns = example.messages
    last = len(turns) - 1
    trained = [k for k in range(1, (part or last) + 1) if stretches.targets.trains(turns[k])]
    (rendering,) = stretches.render([example])
    if isinstance(rendering, AnnotatedStretches) and len(rendering.parts) > 1:
        trained = trained[-1:]  # each has a sequence of its own
    return [("completion", example) if k == last else (f"turns[{k}]", part_of(example, k)) for k in trained]


@dataclass(frozen=True, slots=True)
class _Sequence:
    tokens: list[int]
    targets: list[bool]
    stretches: StretchTokenizer

    def difference(self, example: DataExample, begin: int, *, is_last: bool) -> tuple[str | None, int]:
        """Return how the tokens of the last turn differ from those at inference (None: not), and where it ends.

        `begin` is the end of the trained turn before.
        """
        prompt, completion = self.stretches.prompt_of(example), self.stretches.completion_of(example)
        expected = prompt + completion
        tokens = self.tokens if is_last else self.tokens[: len(expected)]
        if tokens != expected:
            at = next((i for i, (a, b) in enumerate(zip(tokens, expected, strict=False)) if a != b), None)
            at = min(len(tokens), len(expected)) if at is None else at
            before = self._show(tokens[:at])[-SHOWN:]
            trained, read = (self._show(ids[at : at + 1]) if at < len(ids) else "the end" for ids in (tokens, expected))
            what = "the prompt" if at < len(prompt) else "the turn"
            return f"token {at} of {what} is {trained!r}, at inference {read!r}, after {before!r}", len(expected)
        masked = bool(example.reasoning) and not self.stretches.targets.reasoning
        own = self.targets[len(prompt) : len(expected)]
        is_complete = any(own) if masked else all(own[len(prompt) == 0 :])
        if any(self.targets[begin : len(prompt)]) or not is_complete:
            return "the targets are not the tokens of the turn", len(expected)
        return None, len(expected)

    def _show(self, ids: list[int]) -> str:
        return str(self.stretches.tokenizer.decode(ids, skip_special_tokens=False))
