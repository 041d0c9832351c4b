"""Words for people."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A fix that names the nearest valid word, or all of them."""
    options = sorted(known)
    near = difflib.get_close_matches(word, options, n=1, cutoff=0.6)
    return f"did you mean {near[0]!r}?" if near else f"valid here: {', '.join(options) or 'nothing'}"


def span(seconds: float) -> str:
    """A time in its two largest units: 1 h 5 min, 5 min 3 s, 3 s."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def ending(ended: Mapping[str, Any]) -> str:
    """How a training ended, from `ended` of `run.json`: ended early at step 6 of 56, early stopping: …"""
    step, of = ended["step"], ended["of"]
    return f"training ended {'early ' if step < of else ''}at step {step:,} of {of:,}, {ended['detail']}"


def early_ending(ended: Any) -> str | None:
    """The same where that was before the last step, else None; also of what says no such thing."""
    try:
        return ending(ended) if ended["step"] < ended["of"] else None
    except (KeyError, TypeError, ValueError):
        return None
