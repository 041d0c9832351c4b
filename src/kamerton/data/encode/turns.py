"""Turns that a chat template omits, and first turns that cannot be trained on, for the report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from kamerton.errors import Fault

DROPPED = "dropped"
FIRST = "first"
_REASONS = {FIRST: "with no target because no turn precedes them"}


@dataclass(frozen=True, slots=True)
class TurnNote:
    """A turn, or a part of it, that the template omits (`DROPPED`), or one with a weight that is not a target.

    `place` is prompt, completion, turns[i], a part of them or tools; `role` is that of the turn, or what is omitted of
    it (reasoning, tool_calls, tools); `better` is a role for which the template writes a dropped turn.
    """

    kind: str
    place: str
    role: str = ""
    better: str | None = None

    def fault(self, file: str, row: int) -> Fault:
        """Return the fault of a dropped turn."""
        if self.role in ("reasoning", "tool_calls", "tools"):
            message = f"the chat template omits the {self.role.replace('_', ' ')} here"
            fix = "use a model whose template writes them (or, to train without, data.policy.dropped-turn=warn)"
            return Fault("dropped-turn", message, fix, file, row, self.place)
        message = f"the chat template omits the text: it writes no turn of role {self.role!r} here"
        role = f'write its "role" as "{self.better}"' if self.better else "use a model whose template writes such turns"
        fix = f"{role} (or, to train without the text, data.policy.dropped-turn=warn)"
        return Fault("dropped-turn", message, fix, file, row, self.place)


class UntrainedTurns:
    """Counts the earlier assistant turns of all splits that should be targets and are not."""

    def __init__(self) -> None:
        self._turns: Counter[str] = Counter()
        self._rows = 0
        self._first: dict[str, tuple[str, int, str]] = {}

    def add(self, file: str, row: int, notes: Sequence[TurnNote]) -> None:
        """Count such turns of one row."""
        untrained = [note for note in notes if note.kind != DROPPED]
        self._rows += bool(untrained)
        for note in untrained:
            self._turns[note.kind] += 1
            place = (file, row, note.place)
            self._first[note.kind] = min(self._first.get(note.kind, place), place)

    def fault(self) -> Fault | None:
        """Return a single fault for all of them; None if there are none."""
        if not self._turns:
            return None
        kinds = [
            f"{count:,} {_REASONS[kind]}, first {':'.join(map(str, self._first[kind]))}"
            for kind, count in sorted(self._turns.items())
        ]
        turns, rows = self._turns.total(), self._rows
        message = (
            f"{turns:,} earlier assistant turn{'s' if turns > 1 else ''} of {rows:,} row{'s' if rows > 1 else ''}"
            f" should be trained on but {'are' if turns > 1 else 'is'} not: {'; '.join(kinds)}"
        )
        fix = 'put the turn that is answered before it, or set its "weight" to 0'
        return Fault("untrained-turns", message, fix, *min(self._first.values()))
