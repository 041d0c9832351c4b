"""A rich console for untrusted text. Separate from `output`, because it imports rich."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.segment import Segment
from rich.text import Text

from kamerton.output import printable


class PlainConsole(Console):
    """Rich's console without control characters in its texts; rich's own sequences (colours, cursor) are kept."""

    def render_str(self, text: str, **options: Any) -> Text:
        """Return a string as rich's text, made `printable` before its width is measured."""
        return super().render_str(printable(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Yield the segments of a renderable with each text made `printable`, also those of a ready-made `Text`."""
        for text, style, control in super().render(renderable, options):
            yield Segment(text, style, control) if control else Segment(printable(text), style)


def plain_console(*, quiet: bool = False, stderr: bool = False) -> Console:
    """A console whose texts are `printable`, and which leaves `:label:` in a path or a prompt as it is.

    Rich's own console makes an emoji of the latter.
    """
    return PlainConsole(emoji=False, quiet=quiet, stderr=stderr)


@contextmanager
def count_bar(console: Console, title: str, total: int) -> Iterator[Callable[[int], None]]:
    """A progress bar that is advanced by calling what it yields."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(title, total=total)
        yield lambda done: bar.advance(task, done)
