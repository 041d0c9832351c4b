"""Fill the skeleton of a chat template with contents and a completion."""

from __future__ import annotations

import re
from collections.abc import Callable

from kamerton.data.encode.skeleton import Skeleton, cut_points
from kamerton.data.encode.targets import Stretch

Filler = Callable[[tuple[str, ...], str], list[Stretch]]


def make_filler(skeleton: Skeleton, special: re.Pattern[str] | None) -> Filler:
    """Return a function from contents and completion to stretches; fixed parts are split at their special tokens."""
    if special is None:

        def fill_unsplit(contents: tuple[str, ...], completion: str) -> list[Stretch]:
            text = "".join(a + b for a, b in zip(skeleton.fixed, (*contents, ""), strict=True))
            return nonempty([(text, False), (f"{skeleton.opening}{completion}{skeleton.ending}", True)])

        return fill_unsplit
    parts = [cut_points(special, text) for text in skeleton.fixed]
    if len(parts) == 2 and all(middle for _, middle, _ in parts):  # a single turn: the most frequent case
        (a0, a1, a2), (b0, b1, b2) = parts
        head, foot = a0 + a1, b1 + b2

        def fill_single_turn(contents: tuple[str, ...], completion: str) -> list[Stretch]:
            target = f"{skeleton.opening}{completion}{skeleton.ending}"
            return [(head, False), (f"{a2}{contents[0]}{b0}", False), (foot, False), (target, True)]

        return fill_single_turn

    def fill(contents: tuple[str, ...], completion: str) -> list[Stretch]:
        result: list[Stretch] = []
        text = ""
        for (before, middle, after), content in zip(parts, (*contents, ""), strict=True):
            if middle:
                result += [(text + before, False), (middle, False)]
                text = after + content
            else:
                text += before + content
        return nonempty([*result, (text, False), (f"{skeleton.opening}{completion}{skeleton.ending}", True)])

    return fill


def nonempty(stretches: list[Stretch]) -> list[Stretch]:
    return [stretch for stretch in stretches if stretch[0]]
