"""A rich console for text that may come from a stranger. Apart from `output`, since it imports rich."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from kamerton.output import printable


class PlainConsole(Console):
    """Rich's console, whose texts hold no control characters; what rich itself sends (colours, cursor) stays."""

    def render_str(self, text: str, **options: Any) -> Text:
        """A string as rich's text, made `printable` before its width is measured."""
        return super().render_str(printable(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """The segments of a renderable, each text made `printable`: also those of ready-made `Text`."""
        for text, style, control in super().render(renderable, options):
            yield Segment(text, style, control) if control else Segment(printable(text), style)
